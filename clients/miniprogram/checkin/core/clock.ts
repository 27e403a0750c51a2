// The server's time, whatever the phone's clock and time zone say, and what is left of it.

import type { Time } from "./wechat";

const DAY_S = 86400;
const SHANGHAI_MS = 8 * 3600 * 1000;
const CLOCK_SET_MS = 5_000;

/** The server's clock as its answers tell it. */
export class ServerClock {
  private ahead: number | null = null;
  private doubt = Infinity;
  private readonly time: Time;

  constructor(time: Time) {
    this.time = time;
  }

  /**
   * Takes in an answer's `Date`, which is cut to a second; a quick answer tells more than a slow one, but there is no
   * counter here that nobody can set: when the phone's clock was, what was known is of no use.
   */
  observe(date: string | undefined, sentAt: number, answeredAt: number): void {
    const told = Date.parse(date ?? "");
    const doubt = answeredAt - sentAt;
    if (Number.isNaN(told) || doubt < 0) return;
    const ahead = told + 500 - (sentAt + answeredAt) / 2;
    const wasSet = this.ahead !== null && Math.abs(ahead - this.ahead) > CLOCK_SET_MS + doubt;
    if (doubt > this.doubt * 2 && !wasSet) return;
    this.doubt = Math.max(doubt, 50);
    this.ahead = ahead;
  }

  /** Milliseconds since 1970; the phone's own before the first answer. */
  now(): number {
    return this.time.now() + (this.ahead ?? 0);
  }
}

export interface Said {
  key: string;
  [figure: string]: string | number;
}

/** What is left, as the text to use and its figures. */
export function countdown(leftMs: number): Said {
  const s = Math.floor(leftMs / 1000);
  if (s < 0) return { key: "left_none" };
  if (s >= DAY_S) return { key: "left_days", days: Math.floor(s / DAY_S), hours: Math.floor((s % DAY_S) / 3600) };
  if (s >= 3600) return { key: "left_hours", hours: Math.floor(s / 3600), minutes: Math.floor((s % 3600) / 60) };
  return { key: "left_minutes", minutes: Math.floor(s / 60), seconds: s % 60 };
}

/** An instant's parts in Shanghai. Midnight ends the day before: a deadline is read as its last day. */
export function shanghaiParts(instantMs: number): Record<string, string | number> {
  const minute = Math.floor(instantMs / 60000) * 60000;
  const local = new Date(minute + SHANGHAI_MS);
  const midnight = local.getUTCHours() === 0 && local.getUTCMinutes() === 0;
  const day = midnight ? new Date(local.getTime() - 1) : local;
  const two = (number: number) => String(number).padStart(2, "0");
  return {
    year: day.getUTCFullYear(),
    month: day.getUTCMonth() + 1,
    day: day.getUTCDate(),
    date: day.toISOString().slice(0, 10),
    time: midnight ? "24:00" : `${two(local.getUTCHours())}:${two(local.getUTCMinutes())}`,
  };
}
