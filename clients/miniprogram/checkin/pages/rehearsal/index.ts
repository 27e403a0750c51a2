import { watchLight } from "../../core/camera";
import { Rehearsal, type Row } from "../../core/rehearsal";
import { phone } from "../../phone";
import { begin, SHARED, TAPS } from "../../screen";

Page({
  ...TAPS,
  data: { ...SHARED, rows: [] as Row[], verdict: "", isCameraOn: false },
  rehearsal: null as Rehearsal | null,
  stopWatching: () => undefined as void,

  async onLoad() {
    begin(this, "rehearsal_title");
    const rehearsal = new Rehearsal(phone(), () => this.tell(rehearsal));
    this.rehearsal = rehearsal;
    this.setData({ state: "shown", rows: rehearsal.rows, verdict: "", isCameraOn: false });
    this.setData({ isCameraOn: await rehearsal.run() });
  },
  tell(rehearsal: Rehearsal) {
    if (rehearsal === this.rehearsal) this.setData({ rows: rehearsal.rows, verdict: rehearsal.verdict });
  },
  onUnload() {
    this.rehearsal = null;
    this.stopWatching();
    phone().positions.stop();
  },
  cameraOpened() {
    this.rehearsal?.cameraOpened();
    this.stopWatching = watchLight(phone().wx, phone().time, (light) => this.rehearsal?.lightSeen(light));
  },
  cameraFailed() {
    this.rehearsal?.cameraFailed("camera_busy");
  },
  again() {
    this.onUnload();
    void this.onLoad();
  },
});
