import { Problem } from "../../core/api";
import { watchFace } from "../../core/camera";
import { take } from "../../core/capture";
import { permit } from "../../core/permissions";
import { distanceText } from "../../core/tasks";
import { Fault } from "../../core/wechat";
import { phone } from "../../phone";
import { begin, explain, replace, SHARED, TAPS } from "../../screen";

Page({
  ...TAPS,
  data: { ...SHARED, address: "", where: "", hint: "", mayTake: false },
  taskId: "",
  isOpen: false,
  isTaking: false,
  isGone: false,
  stopWatching: () => undefined as void,

  async onLoad({ task_id: taskId = "" }: Record<string, string | undefined>) {
    this.taskId = decodeURIComponent(taskId);
    begin(this, "capture_title");
    try {
      const task = phone().task(this.taskId) ?? (await phone().refresh().then(() => phone().task(this.taskId)));
      if (!task) return this.toTasks();
      await permit(phone().wx, "scope.camera");
      await permit(phone().wx, "scope.userLocation");
      if (this.isGone) return;
      const hint = phone().say("opening_camera");
      this.setData({ state: "shown", address: task.place.registered_address, where: phone().say("locating"), hint });
      await phone().positions.start(() => this.located());
    } catch (error) {
      explain(this, error);
    }
  },
  onUnload() {
    this.isGone = true;
    this.stopWatching();
    phone().positions.stop();
  },
  located() {
    const { newest, isPrecise, fault } = phone().positions;
    const task = phone().task(this.taskId);
    if (!task || this.isTaking) return;
    const metres = Math.ceil(newest?.accuracy_m ?? 0);
    const rough = newest && !fault && !isPrecise && metres > 100 ? phone().say("position_rough", { metres }) : "";
    this.setData({ where: `${distanceText(phone(), task)} ${rough}`, mayTake: this.isOpen && isPrecise });
  },
  cameraOpened() {
    this.isOpen = true;
    this.located();
    this.stopWatching = watchFace(phone().wx, phone().time, (word) => {
      if (!this.isTaking) this.setData({ hint: phone().say(word === "fine" ? "hold_still" : word) });
    });
  },
  cameraFailed() {
    if (!this.isTaking) explain(this, new Fault("camera_busy"));
  },
  async take() {
    const task = phone().task(this.taskId);
    // a second tap may come before the button is seen to be off
    if (!task || this.isTaking || !this.data.mayTake) return;
    this.isTaking = true;
    this.setData({ mayTake: false });
    try {
      await take(phone(), task, (key) => this.setData({ hint: phone().say(key) }));
      // whoever has gone back finds it waiting in the tasks
      if (!this.isGone) replace("sending", this.taskId);
    } catch (error) {
      if (error instanceof Problem && error.answer.code === "consent_required") return replace("consent", this.taskId);
      explain(this, error);
    } finally {
      this.isTaking = false;
    }
  },
  again() {
    this.onUnload();
    this.isGone = this.isOpen = false;
    void this.onLoad({ task_id: encodeURIComponent(this.taskId) });
  },
});
