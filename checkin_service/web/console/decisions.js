// Decisions on their way. The service takes none back, so each is held here for some seconds, in which it can be undone.

import { backOff } from "./retry.js";

export const HELD_MS = 5000;

export class Decisions {
  /** Those that have not been sent to their end, the oldest first. */
  waiting = [];

  /** `changed()` is called whenever one of them changes; `sent(review)` with what the service made of one. */
  constructor(api, changed, sent, heldMs = HELD_MS) {
    Object.assign(this, { api, changed, sent, heldMs });
  }

  /** Takes a decision of {review_id, person_id, decision, note}. Its key is made now: however often it is sent, it counts once. */
  hold(decision) {
    const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const held = { ...decision, owner: this.api.session.owner, key, tries: 0, state: "held", until: Date.now() + this.heldMs, detail: "" };
    this.waiting.push(held);
    held.timer = setTimeout(() => this.#send(held), this.heldMs);
    this.changed();
  }

  /** Takes the last one back that is still held; its review, or null. */
  undo() {
    const held = this.waiting.findLast((one) => one.state === "held");
    if (!held) return null;
    clearTimeout(held.timer);
    this.#drop(held);
    return held.review_id;
  }

  /** Forgets one that the service has refused. */
  dismiss(held) {
    this.#drop(held);
  }

  /** By who is signed in now. */
  isDecided(reviewId) {
    const { owner } = this.api.session;
    return this.waiting.some((one) => one.review_id === reviewId && one.owner === owner && one.state !== "failed");
  }

  /** Sends at once what waits for a network or a new token. */
  again() {
    for (const held of this.waiting.filter((one) => one.state === "retrying")) {
      clearTimeout(held.timer);
      this.#send(held);
    }
  }

  async #send(held) {
    // another officer's token must not send it: it would count as that officer's
    if (held.owner !== this.api.session.owner) return this.#later(held);
    held.state = "sending";
    this.changed();
    const { decision, note, key, review_id } = held;
    const answer = await this.api.answer("POST", `/v1/reviews/${review_id}/decision`, { decision, note }, { "Idempotency-Key": key });
    if (answer.status === 200) {
      this.#drop(held);
      this.sent(answer.body);
    } else if (isPassing(answer)) this.#later(held, answer.wait);
    else this.#fail(held, answer);
  }

  #later(held, wait) {
    held.tries += 1;
    held.state = "retrying";
    held.timer = setTimeout(() => this.#send(held), (wait ?? backOff(held.tries)) * 1000);
    this.changed();
  }

  #fail(held, answer) {
    Object.assign(held, { state: "failed", detail: answer.detail || answer.title });
    this.changed();
  }

  #drop(held) {
    this.waiting = this.waiting.filter((one) => one !== held);
    this.changed();
  }
}

function isPassing({ status, code }) {
  return status === 0 || status === 401 || status === 408 || status === 429 || status >= 500 || code === "idempotency_in_progress";
}
