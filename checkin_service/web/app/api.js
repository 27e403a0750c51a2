// The service's API. Every answer sets the server's clock.

import { retryAfter } from "./retry.js";

/** No answer came: the network. */
export class Offline extends Error {}

/** The service refused or failed; `detail` says in the person's language what to do. */
export class Problem extends Error {
  constructor(answer) {
    super(answer.code);
    Object.assign(this, answer);
  }
}

export class Api {
  /** `language()` and `session` are asked at every call. */
  constructor(session, clock, language) {
    Object.assign(this, { session, clock, language });
  }

  headers() {
    const { token } = this.session;
    return { "Accept-Language": this.language(), ...(token && { Authorization: `Bearer ${token}` }) };
  }

  /** The JSON of a successful answer. Throws `Offline` or `Problem`. */
  async call(method, path, body, headers) {
    const answer = await this.answer(method, path, body, headers);
    if (answer.status === 0) throw new Offline();
    if (answer.status >= 400) throw new Problem(answer);
    return answer.body;
  }

  /** Whatever the answer is; status 0 when none came. */
  async answer(method, path, body, headers = {}) {
    const sentAt = this.clock.ticks();
    const json = body === undefined ? {} : { "Content-Type": "application/json" };
    const options = { method, headers: { ...this.headers(), ...json, ...headers }, cache: "no-store" };
    if (body !== undefined) options.body = JSON.stringify(body);
    let response, text;
    try {
      response = await fetch(path, options);
      text = await response.text();
    } catch {
      return this.read(0);
    }
    return this.read(response.status, (name) => response.headers.get(name), text, sentAt);
  }

  /** Sends a form's stored bytes and tells how much of it has left; status 0 when no answer came. */
  upload(path, { bytes, type, key }, onProgress, signal) {
    return new Promise((resolve) => {
      const sending = new XMLHttpRequest();
      const sentAt = this.clock.ticks();
      const end = () => resolve(this.read(sending.status, (name) => sending.getResponseHeader(name), sending.responseText, sentAt));
      sending.open("POST", path);
      sending.timeout = 90_000;
      const headers = { ...this.headers(), "Content-Type": type, "Idempotency-Key": key };
      for (const [name, value] of Object.entries(headers)) sending.setRequestHeader(name, value);
      sending.upload.onprogress = (event) => onProgress(event.loaded / bytes.byteLength);
      sending.onloadend = end;
      signal?.addEventListener("abort", () => sending.abort());
      sending.send(bytes);
    });
  }

  read(status, header, text, sentAt) {
    if (status === 0) return { status, body: null, code: "", detail: "", wait: null };
    this.clock.observe(header("Date"), sentAt, this.clock.ticks());
    let body = null;
    try {
      body = text ? JSON.parse(text) : null;
    } catch {
      // a proxy's page: the status has to do
    }
    const wait = retryAfter(header("Retry-After"), this.clock.now());
    return { status, body, code: body?.code ?? "", title: body?.title ?? "", detail: body?.detail ?? "", wait };
  }
}
