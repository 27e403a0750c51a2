// Is this phone ready? Found out before the way is gone; nothing leaves the phone and no attempt is spent.

import { permit } from "./permissions";
import type { Phone } from "./phone";
import { Fault } from "./wechat";

const CLOCK_OFF_MS = 60_000;
const NAMES = ["network", "clock", "storage", "camera", "light", "position"] as const;
type Name = (typeof NAMES)[number];

export interface Row {
  name: Name;
  title: string;
  state: "waits" | "good" | "bad";
  text: string;
}

/** What is found out, row by row; `shown` is called with every change. The page tells what its camera does. */
export class Rehearsal {
  readonly rows: Row[];
  private readonly phone: Phone;
  private readonly shown: () => void;

  constructor(phone: Phone, shown: () => void) {
    this.phone = phone;
    this.shown = shown;
    this.rows = NAMES.map((name) => ({ name, title: phone.say(`check_${name}`), state: "waits", text: phone.say("checking") }));
  }

  /** Runs all checks but the camera's, which begins when this is over and it may be opened. */
  async run(): Promise<boolean> {
    this.tell("storage", this.phone.outbox.keepsItems, this.phone.outbox.keepsItems ? "storage_good" : "storage_full");
    const [, mayOpen] = await Promise.all([this.network(), this.camera()]);
    await this.position();
    return mayOpen;
  }

  /** In words whether all is well, once all is known. */
  get verdict(): string {
    const states = this.rows.map(({ state }) => state);
    if (states.includes("waits")) return "";
    return this.phone.say(states.includes("bad") ? "not_ready" : "ready");
  }

  cameraOpened(): void {
    this.tell("camera", true, "camera_good");
  }

  cameraFailed(fault: string): void {
    this.tell("camera", false, fault);
    this.tell("light", false, "light_unknown");
  }

  lightSeen(light: string): void {
    this.tell("light", light === "fine", light === "fine" ? "light_good" : light);
  }

  private async network(): Promise<void> {
    try {
      await this.phone.refresh();
    } catch {
      this.tell("network", false, "offline_text");
      return this.tell("clock", false, "clock_unknown");
    }
    this.tell("network", true, "network_good");
    const off = Math.abs(this.phone.time.now() - this.phone.clock.now());
    this.tell("clock", true, off > CLOCK_OFF_MS ? "clock_off" : "clock_good", { minutes: Math.round(off / 60_000) });
  }

  private async camera(): Promise<boolean> {
    const fault = await this.refused("scope.camera");
    if (fault) this.cameraFailed(fault);
    return !fault;
  }

  private async position(): Promise<void> {
    const fault = await this.refused("scope.userLocation");
    if (fault) return this.tell("position", false, fault);
    const { positions } = this.phone;
    await positions.start(() => {
      if (!positions.newest) return this.tell("position", false, positions.fault ?? "position_slow");
      if (this.phone.device().reduced_accuracy) return this.tell("position", false, "position_reduced");
      const metres = Math.ceil(positions.newest.accuracy_m);
      this.tell("position", positions.isPrecise, positions.isPrecise ? "position_good" : "position_rough", { metres });
    });
  }

  private async refused(scope: "scope.camera" | "scope.userLocation"): Promise<string | null> {
    try {
      await permit(this.phone.wx, scope);
      return null;
    } catch (error) {
      if (error instanceof Fault) return error.key;
      throw error;
    }
  }

  private tell(name: Name, isGood: boolean, key: string, figures = {}): void {
    const row = this.rows[NAMES.indexOf(name)] as Row;
    Object.assign(row, { state: isGood ? "good" : "bad", text: this.phone.say(key, figures) });
    this.shown();
  }
}
