// Where the phone is: several fixes with their accuracy, as the phone gives them.

/** A fix less accurate than this is not used by the service. */
export const USABLE_M = 100;
const MOST_FIXES = 10;
const MOST_AGE_MS = 60_000;
const CLOCKS_AGREE_MS = 5_000;
const SAME_PACE_MS = 2_000;

export class Positions {
  fixes = [];
  /** Why there is none: position_denied, position_off, position_slow, insecure; null while there may be. */
  fault = null;
  #watch = null;

  /** Follows the phone from here on, for one may have walked since; `changed` is called with every fix and fault. */
  start(changed) {
    this.stop();
    this.fixes = [];
    this.fault = globalThis.isSecureContext && navigator.geolocation ? null : "insecure";
    if (this.fault) return changed();
    const took = (position) => {
      this.fault = null;
      this.fixes = [...this.fixes, fixOf(position, Date.now())].slice(-MOST_FIXES);
      changed();
    };
    const failed = (error) => {
      this.fault = { 1: "position_denied", 2: "position_off" }[error.code] ?? "position_slow";
      changed();
    };
    const wishes = { enableHighAccuracy: true, maximumAge: 0, timeout: 20_000 };
    this.#watch = navigator.geolocation.watchPosition(took, failed, wishes);
  }

  stop() {
    if (this.#watch !== null) navigator.geolocation.clearWatch(this.#watch);
    this.#watch = null;
  }

  /** The newest fix that is still worth showing. */
  get newest() {
    const fix = this.fixes.at(-1);
    return fix && Date.now() - fix.taken_at < MOST_AGE_MS ? fix : null;
  }

  get isPrecise() {
    return Boolean(this.newest && this.newest.accuracy_m <= USABLE_M);
  }

  /** The fixes as the API takes them. */
  asSent() {
    const recent = this.fixes.filter((fix) => Date.now() - fix.taken_at < MOST_AGE_MS);
    return onPhonesClock(recent).map(({ taken_at: _, at, ...fix }) => ({ ...fix, at: new Date(at).toISOString() }));
  }
}

export function fixOf({ coords, timestamp }, takenAt) {
  const { longitude, latitude, accuracy, speed, altitude } = coords;
  const fix = { lon: longitude, lat: latitude, accuracy_m: accuracy, at: timestamp, taken_at: takenAt };
  if (Number.isFinite(speed)) fix.speed_mps = speed;
  if (Number.isFinite(altitude)) fix.altitude_m = altitude;
  return fix;
}

/**
 * Some phones date a fix by the satellites, not by their own clock, and the photograph by their own, so that a clock set
 * wrong makes every fix look old. Fixes that come at the pace of their dates are fresh, and are dated by the phone's
 * clock; a cached one, whose date stands still, stays old.
 */
export function onPhonesClock(fixes) {
  if (fixes.length < 2) return fixes;
  const [first, last] = [fixes[0], fixes.at(-1)];
  const apart = last.at - last.taken_at;
  const keepsPace = last.at > first.at && Math.abs(apart - (first.at - first.taken_at)) < SAME_PACE_MS;
  if (Math.abs(apart) <= CLOCKS_AGREE_MS || !keepsPace) return fixes;
  return fixes.map((fix) => ({ ...fix, at: fix.at - apart }));
}
