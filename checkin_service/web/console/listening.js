// What happens, as the service tells it: server-sent events, read with fetch, for EventSource can't send a token.

const MOST_WAIT_MS = 30_000;

/** The events in a text of whole blocks: {id, event, data}. */
export function parseEvents(blocks) {
  return blocks.split("\n\n").map(parseEvent).filter((found) => found.event);
}

function parseEvent(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const [name, ...value] = line.split(": ");
    if (name) fields[name] = value.join(": ");
  }
  return { id: fields.id, event: fields.event, data: fields.data ? JSON.parse(fields.data) : {} };
}

export class Listening {
  #last = "";
  #ending = null;

  /** `hear(event)` is called for each; `tell(isLive)` whenever that changes. */
  constructor(api, hear, tell) {
    Object.assign(this, { api, hear, tell });
  }

  start() {
    if (this.#ending) return;
    this.#ending = new AbortController();
    this.#goOn(this.#ending.signal);
  }

  stop() {
    this.#ending?.abort();
    this.#ending = null;
    this.tell(false);
  }

  async #goOn(signal) {
    for (let failures = 0; !signal.aborted; ) {
      const heard = await this.#once(signal).catch(() => false);
      if (signal.aborted) return;
      failures = heard ? 0 : failures + 1;
      if (failures) this.tell(false);
      await new Promise((resolve) => setTimeout(resolve, Math.min(MOST_WAIT_MS, 500 * 2 ** failures)));
    }
  }

  /** One stream to its end; whether anything was heard. */
  async #once(signal) {
    const headers = { ...this.api.headers(), Accept: "text/event-stream" };
    const response = await fetch(`/v1/events?after=${encodeURIComponent(this.#last)}`, { headers, signal, cache: "no-store" });
    if (!response.ok) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      text += value;
      const end = text.lastIndexOf("\n\n") + 2;
      if (end > 1) parseEvents(text.slice(0, end)).forEach((event) => this.#take(event));
      text = end > 1 ? text.slice(end) : text;
    }
  }

  #take(event) {
    this.#last = event.event === "reset" ? "" : event.id || this.#last;
    this.tell(true);
    if (event.event !== "hello") this.hear(event);
  }
}
