import type { CheckIn } from "../../core/answers";
import { Problem } from "../../core/api";
import { type Result, resultOf } from "../../core/result";
import { deliver, type End, type Progress } from "../../core/sending";
import { Fault } from "../../core/wechat";
import { phone } from "../../phone";
import { begin, explain, replace, SHARED, TAPS } from "../../screen";

/** `state` is also: sending, result, over. */
Page({
  ...TAPS,
  data: { ...SHARED, text: "", kept: "", percent: 0, mayHurry: false, result: null as Result | null },
  isGone: false,
  taskId: "",

  async onLoad() {
    begin(this, "sending_title");
    const kept = phone().say(phone().outbox.keepsItems ? "kept_here" : "storage_full");
    this.setData({ state: "sending", text: phone().say("sending"), kept, percent: 0 });
    const end = await deliver(phone(), { isGone: () => this.isGone, show: (progress) => this.tell(progress) });
    if (!this.isGone) this.conclude(end);
  },
  onUnload() {
    this.isGone = true;
    phone().hurry();
  },
  tell({ key, seconds, share }: Progress) {
    const text = phone().say(key, { seconds: seconds ?? 0 });
    this.setData({ text, mayHurry: key === "no_answer", percent: share === undefined ? this.data.percent : Math.round(share * 100) });
  },
  conclude(end: End) {
    if (end.step === "gone") return this.toTasks();
    this.taskId = end.task_id;
    phone().taskId = end.task_id;
    if (end.step === "consent") return replace("consent", end.task_id);
    if (end.step === "done") return this.setData({ state: "result", result: resultOf(phone(), end.answer?.body as CheckIn) });
    explain(this, end.answer ? new Problem(end.answer) : new Fault("failed_text"));
    if (end.step === "over") this.setData({ state: "over" });
  },
  now() {
    phone().hurry();
  },
  again() {
    void this.onLoad();
  },
  checkInAgain() {
    replace("capture", this.taskId);
  },
  receipt() {
    replace("receipt", this.taskId);
  },
});
