// What to do after an attempt to send, seen from its answer alone. Nothing here waits or sends.

import type { Answer } from "./api";

const MOST_WAIT_S = 30;
const ASK_AGAIN_S = 2;

export type Step =
  | { step: "done" | "sign_in" | "consent" | "over" }
  | { step: "ask" | "again"; wait: number };

/** Seconds of a `Retry-After` (seconds or a date), or null. */
export function retryAfter(header: string | undefined, nowMs: number): number | null {
  if (!header) return null;
  const isDate = /^[A-Z][a-z]{2}, \d/.test(header);
  const seconds = isDate ? (Date.parse(header) - nowMs) / 1000 : /^\d+$/.test(header) ? Number(header) : NaN;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : null;
}

/** Seconds before the next try when nobody said how many. */
export function backOff(tries: number): number {
  return Math.min(MOST_WAIT_S, 2 ** Math.max(1, tries));
}

/**
 * The next step after sending.
 *
 * done: judged. ask: taken, the verdict is to be asked for. again: the same under the same key. sign_in: the same once
 * there is a new token. consent: that was withdrawn. over: it can't succeed; a new one can.
 */
export function afterSending(answer: Answer, tries: number): Step {
  const { status, code } = answer;
  if (status === 202) return { step: "ask", wait: answer.wait ?? ASK_AGAIN_S };
  if (status >= 200 && status < 300) return { step: "done" };
  if (status === 401) return { step: "sign_in" };
  if (code === "consent_required") return { step: "consent" };
  const passing = status === 0 || status === 408 || status === 429 || status >= 500 || code === "idempotency_in_progress";
  return passing ? { step: "again", wait: answer.wait ?? backOff(tries) } : { step: "over" };
}

/** The same after asking for a verdict. */
export function afterAsking(answer: Answer, outcome: string | undefined, tries: number): Step {
  if (answer.status === 200) return outcome === "pending" ? { step: "ask", wait: answer.wait ?? ASK_AGAIN_S } : { step: "done" };
  const next = afterSending(answer, tries);
  return next.step === "again" ? { step: "ask", wait: next.wait } : next;
}
