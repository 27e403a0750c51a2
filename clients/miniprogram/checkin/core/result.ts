// What came of a check-in, and what to do next, in the service's own words.

import type { CheckIn, Reason } from "./answers";
import type { Phone } from "./phone";

const NO_MORE_HERE = ["task_not_open", "window_not_open", "window_closed", "too_many_attempts", "not_enrolled"];

export interface Result {
  title: string;
  outcome: string;
  lines: string[];
  reasons: Reason[];
  mayTryAgain: boolean;
  hasReceipt: boolean;
}

export function resultOf(phone: Phone, answer: CheckIn): Result {
  const reasons = answer.reasons ?? [];
  const mayTryAgain = answer.outcome === "rejected" && !reasons.some(({ code }) => NO_MORE_HERE.includes(code));
  const lines: string[] = [];
  if (answer.outcome === "accepted") lines.push(phone.say("accepted_at", { at: phone.sayInstant(answer.received_at) }));
  if (answer.outcome === "review") lines.push(phone.say("review_text"));
  if (mayTryAgain) lines.push(phone.say("attempts_left", { attempts: answer.attempts_left ?? 0 }));
  const title = phone.say(`outcome_${answer.outcome}`);
  return { title, outcome: answer.outcome, lines, reasons, mayTryAgain, hasReceipt: Boolean(answer.receipt) };
}
