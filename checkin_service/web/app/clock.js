// The server's time, whatever the phone's clock and time zone say, and what is left of it.

const DAY_S = 86400;
const SHANGHAI_MS = 8 * 3600 * 1000;

/** The server's clock as its answers tell it. Between them it runs by a counter that nobody can set. */
export class ServerClock {
  #ahead = null;
  #doubt = Infinity;
  #ticks;

  /** `ticks`: milliseconds that only ever grow. */
  constructor(ticks = () => performance.now()) {
    this.#ticks = ticks;
  }

  get isKnown() {
    return this.#ahead !== null;
  }

  /** Takes in an answer's `Date`, which is cut to a second; a quick answer tells more than a slow one. */
  observe(date, sentAt, answeredAt) {
    const told = Date.parse(date);
    const doubt = answeredAt - sentAt;
    if (Number.isNaN(told) || doubt > this.#doubt * 2) return;
    this.#doubt = Math.max(doubt, 50);
    this.#ahead = told + 500 - (sentAt + answeredAt) / 2;
  }

  /** Milliseconds since 1970; the phone's own before the first answer. */
  now() {
    return this.isKnown ? this.#ticks() + this.#ahead : Date.now();
  }

  ticks() {
    return this.#ticks();
  }
}

/** What is left, as the text to use and its figures. */
export function countdown(leftMs) {
  const s = Math.floor(leftMs / 1000);
  if (s < 0) return { key: "left_none" };
  if (s >= DAY_S) return { key: "left_days", days: Math.floor(s / DAY_S), hours: Math.floor((s % DAY_S) / 3600) };
  if (s >= 3600) return { key: "left_hours", hours: Math.floor(s / 3600), minutes: Math.floor((s % 3600) / 60) };
  return { key: "left_minutes", minutes: Math.floor(s / 60), seconds: s % 60 };
}

/** An instant's parts in Shanghai. Midnight ends the day before: a deadline is read as its last day. */
export function shanghaiParts(instantMs) {
  const minute = Math.floor(instantMs / 60000) * 60000;
  const local = new Date(minute + SHANGHAI_MS);
  const midnight = local.getUTCHours() === 0 && local.getUTCMinutes() === 0;
  const day = midnight ? new Date(local.getTime() - 1) : local;
  const two = (number) => String(number).padStart(2, "0");
  return {
    year: day.getUTCFullYear(),
    month: day.getUTCMonth() + 1,
    day: day.getUTCDate(),
    date: day.toISOString().slice(0, 10),
    time: midnight ? "24:00" : `${two(local.getUTCHours())}:${two(local.getUTCMinutes())}`,
  };
}
