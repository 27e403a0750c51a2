// Where the phone is: several fixes with their accuracy. WeChat dates none of them, and its first one may be old.

import { answered, type Time, type Wx, WxRefusal } from "./wechat";

/** What is asked for, and told to the service. */
export const FRAME = "gcj02";
/** A fix less accurate than this is not used by the service. */
export const USABLE_M = 100;
/** For so long `getLocation` answers with what it has answered before. */
export const CACHED_MS = 30_000;
const MOST_FIXES = 10;
const MOST_AGE_MS = 60_000;
const LONELY_MS = 5_000;
const SLOW_MS = 20_000;

type Located = WechatMiniprogram.OnLocationChangeListenerResult;

export interface Fix {
  lon: number;
  lat: number;
  accuracy_m: number;
  at: string;
  speed_mps?: number;
  altitude_m?: number;
}

interface Taken {
  fix: Fix;
  takenAt: number;
}

export class Positions {
  /** Why there is no position, as the key of a text; null while there may be one. */
  fault: string | null = null;
  private taken: Taken[] = [];
  private heard: ((got: Located) => void) | null = null;
  private cancels: (() => void)[] = [];
  private askedAt = -Infinity;
  private readonly wx: Wx;
  private readonly time: Time;

  constructor(wx: Wx, time: Time) {
    this.wx = wx;
    this.time = time;
  }

  /** Follows the phone from here on, for one may have walked since; `changed` is called with every fix and fault. */
  async start(changed: () => void): Promise<void> {
    this.stop();
    this.taken = [];
    this.fault = null;
    const heard = (got: Located) => this.take(got, changed);
    this.heard = heard;
    this.later(SLOW_MS, () => this.taken.length === 0 && this.fail("position_slow", changed));
    this.wx.onLocationChange(heard);
    try {
      await answered((ends) => this.wx.startLocationUpdate({ type: FRAME, ...ends }));
    } catch (error) {
      if (this.heard === heard) this.askNowAndThen(faultOf(error), changed);
    }
  }

  stop(): void {
    if (!this.heard) return;
    this.wx.offLocationChange(this.heard);
    this.wx.stopLocationUpdate({ fail: () => undefined });
    for (const cancel of this.cancels) cancel();
    this.cancels = [];
    this.heard = null;
  }

  /** The newest fix that is still worth showing. */
  get newest(): Fix | null {
    return this.recent().slice(-1)[0]?.fix ?? null;
  }

  /** Precise, and not the first that came, which may be what the phone remembered; but some phones give one only. */
  get isPrecise(): boolean {
    const recent = this.recent();
    const last = recent[recent.length - 1];
    if (!last || last.fix.accuracy_m > USABLE_M) return false;
    return this.taken.length > 1 || this.time.now() - last.takenAt >= LONELY_MS;
  }

  /** The fixes as the API takes them, without the first one when there are others. */
  asSent(): Fix[] {
    const since = this.taken.length > 1 ? this.recent().filter((each) => each !== this.taken[0]) : this.recent();
    return since.slice(-MOST_FIXES).map(({ fix }) => fix);
  }

  private recent(): Taken[] {
    return this.taken.filter(({ takenAt }) => this.time.now() - takenAt < MOST_AGE_MS);
  }

  private take(got: Located, changed: () => void): void {
    const takenAt = this.time.now();
    this.fault = null;
    // the first one stays in front, so that it is known
    const kept = this.taken.length > MOST_FIXES ? [...this.taken.slice(0, 1), ...this.taken.slice(2)] : this.taken;
    this.taken = [...kept, { fix: fixOf(got, takenAt), takenAt }];
    if (this.taken.length === 1) this.later(LONELY_MS, changed);
    changed();
  }

  /** Where following is not granted: now and then, but not sooner than WeChat looks anew. */
  private askNowAndThen(fault: string | null, changed: () => void): void {
    if (fault) return this.fail(fault, changed);
    const heard = this.heard;
    const ask = async () => {
      this.askedAt = this.time.now();
      try {
        const got = await answered<Located>((ends) => this.wx.getLocation({ type: FRAME, isHighAccuracy: true, highAccuracyExpireTime: 10_000, ...ends }));
        if (this.heard === heard) this.take(got, changed);
      } catch (error) {
        if (this.heard === heard) this.fail(faultOf(error) ?? "position_off", changed);
      }
      // what it remembers is from before it answered
      this.askedAt = this.time.now();
      if (this.heard === heard) this.later(CACHED_MS, ask);
    };
    this.later(Math.max(0, this.askedAt + CACHED_MS - this.time.now()), ask);
  }

  private fail(fault: string, changed: () => void): void {
    this.fault = fault;
    changed();
  }

  private later(ms: number, work: () => unknown): void {
    this.cancels.push(this.time.after(ms, work));
  }
}

/** position_not_allowed or position_off, or null for a call that is not granted to this mini-program. */
function faultOf(error: unknown): string | null {
  const said = error instanceof WxRefusal ? error.message.toLowerCase() : "";
  if (/auth|privacy|permission/.test(said)) return /system/.test(said) ? "position_off" : "position_not_allowed";
  return /locationswitchoff|location service|system/.test(said) ? "position_off" : null;
}

function fixOf(got: Located, takenAt: number): Fix {
  const fix: Fix = {
    lon: got.longitude,
    lat: got.latitude,
    accuracy_m: got.horizontalAccuracy || got.accuracy,
    at: new Date(takenAt).toISOString(),
  };
  // -1 is how some phones say that they don't know
  if (Number.isFinite(got.speed) && got.speed >= 0) fix.speed_mps = got.speed;
  if (Number.isFinite(got.altitude)) fix.altitude_m = got.altitude;
  return fix;
}
