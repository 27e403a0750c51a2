import type { Task } from "../../core/answers";
import { type Asked, askManually, prepared } from "../../core/manual";
import { phone } from "../../phone";
import { begin, explain, SHARED, TAPS } from "../../screen";

const WHY = ["manual_why_face", "manual_why_camera", "manual_why_position", "manual_why_refused"];
type Chip = WechatMiniprogram.TouchEvent<WechatMiniprogram.IAnyObject, WechatMiniprogram.IAnyObject, { why: string }>;

/** `state` is also: none, sending, done. */
Page({
  ...TAPS,
  data: {
    ...SHARED,
    names: [] as string[],
    which: 0,
    why: [] as string[],
    reason: "",
    withPosition: false,
    mayAddPosition: false,
    done: "",
    number: "",
  },
  open: [] as Task[],
  asked: null as Asked | null,

  async onLoad({ task_id: taskId = "" }: Record<string, string | undefined>) {
    begin(this, "manual_title");
    try {
      const me = phone().me ?? (await phone().refresh());
      this.open = me.tasks.filter(({ own_state }) => own_state !== "accepted");
      const which = this.open.findIndex((task) => task.task_id === decodeURIComponent(taskId));
      this.setData({
        state: this.open.length ? "shown" : "none",
        names: this.open.map(({ enterprise }) => enterprise.name),
        which: Math.max(0, which),
        why: WHY.map((key) => phone().say(key)),
        mayAddPosition: me.consent.scopes.includes("location"),
      });
    } catch (error) {
      explain(this, error);
    }
  },
  choose({ detail }: WechatMiniprogram.PickerChange) {
    this.setData({ which: Number(detail.value) });
  },
  write({ detail }: WechatMiniprogram.TextareaInput) {
    this.setData({ reason: detail.value });
  },
  fill({ currentTarget: { dataset } }: Chip) {
    this.setData({ reason: dataset.why });
  },
  addPosition({ detail }: WechatMiniprogram.CheckboxGroupChange) {
    this.setData({ withPosition: detail.value.length > 0 });
  },
  async send() {
    const { which, reason, withPosition } = this.data;
    const task = this.open[which];
    if (!task || !reason.trim() || this.data.state === "sending") return;
    this.setData({ state: "sending" });
    try {
      this.asked = await prepared(phone(), { task_id: task.task_id, reason, withPosition }, this.asked);
      const made = await askManually(phone(), this.asked);
      const done = phone().say("manual_done", { at: phone().sayInstant(made.received_at) });
      this.setData({ state: "done", done, number: made.manual_request_id });
    } catch (error) {
      explain(this, error);
    }
  },
  /** Back to what was filled in: what may have come is asked for with its key. */
  again() {
    if (this.open.length) this.setData({ state: "shown" });
    else void this.onLoad({ task_id: encodeURIComponent(phone().taskId) });
  },
  onUnload() {
    phone().positions.stop();
  },
});
