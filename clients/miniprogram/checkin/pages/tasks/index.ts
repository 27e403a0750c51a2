import { LANGUAGES, say } from "../../core/language";
import { type Card, cards, distanceText } from "../../core/tasks";
import { permit } from "../../core/permissions";
import { Fault } from "../../core/wechat";
import { phone } from "../../phone";
import { begin, explain, go, SHARED, TAPS } from "../../screen";

type Tap = WechatMiniprogram.TouchEvent<WechatMiniprogram.IAnyObject, WechatMiniprogram.IAnyObject, { task: string; screen?: string }>;

Page({
  ...TAPS,
  data: {
    ...SHARED,
    cards: [] as Card[],
    distances: {} as Record<string, string>,
    languages: LANGUAGES.map((language) => say(language, "language_name")),
    language: 0,
    isLarge: false,
  },
  stopTicking: () => undefined as void,

  async onShow() {
    begin(this, "tasks_title");
    this.setData({ language: LANGUAGES.indexOf(phone().language), isLarge: phone().isLarge, distances: {} });
    try {
      const { tasks } = await phone().refresh();
      const owner = await phone().owner();
      if (owner && phone().outbox.find(owner)) return go("sending");
      const wanted = tasks.find(({ next }) => next === "give_consent");
      if (wanted && !phone().hasOfferedConsent) return go("consent", wanted.task_id);
    } catch (error) {
      return explain(this, error);
    }
    this.tick();
  },
  onHide() {
    this.leave();
  },
  onUnload() {
    this.leave();
  },
  leave() {
    this.stopTicking();
    phone().positions.stop();
  },
  /** Once a second, for the countdown. */
  tick() {
    const shown = cards(phone(), phone().me?.tasks ?? []);
    phone().taskId = shown[0]?.task_id ?? "";
    this.setData({ state: "shown", cards: shown });
    this.stopTicking();
    this.stopTicking = phone().time.after(1000, () => this.tick());
  },
  again() {
    void this.onShow();
  },
  /** Read only when asked for, and not sent: the notice promises both. */
  async howFar({ currentTarget: { dataset } }: Tap) {
    const task = phone().task(dataset.task);
    if (!task) return;
    const tell = (text: string) => this.setData({ [`distances.${task.task_id}`]: text });
    tell(phone().say("locating"));
    try {
      await permit(phone().wx, "scope.userLocation");
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      return tell(phone().say(error.key));
    }
    await phone().positions.start(() => {
      tell(distanceText(phone(), task));
      if (phone().positions.isPrecise) phone().positions.stop();
    });
  },
  step({ currentTarget: { dataset } }: Tap) {
    go(dataset.screen as "capture", dataset.task);
  },
  receipt({ currentTarget: { dataset } }: Tap) {
    go("receipt", dataset.task);
  },
  rehearse() {
    go("rehearsal", phone().taskId);
  },
  mine() {
    go("mine");
  },
  setLanguage({ detail }: WechatMiniprogram.PickerChange) {
    phone().setLanguage(LANGUAGES[Number(detail.value)] ?? "zh-CN");
    void this.onShow();
  },
  setLarge() {
    phone().setLarge(!phone().isLarge);
    this.setData({ isLarge: phone().isLarge, size: phone().textSize });
  },
});
