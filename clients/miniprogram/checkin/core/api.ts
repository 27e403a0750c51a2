// The service's API through `wx.request` and `wx.uploadFile`. Every answer sets the server's clock.

import type { ServerClock } from "./clock";
import { Lanes } from "./lanes";
import { retryAfter } from "./retry";
import type { Host } from "./session";
import type { Time, Wx } from "./wechat";

/** WeChat's own limit, said so that a shorter one of the mini-program's app.json does not count. */
export const TIMEOUT_MS = 60_000;

/** `status` 0: none came. `wait`: seconds that were asked for. */
export interface Answer {
  status: number;
  body: unknown;
  code: string;
  title: string;
  detail: string;
  wait: number | null;
}

/** No answer came: the network. */
export class Offline extends Error {}

/** The service refused or failed; `detail` says in the person's language what to do. */
export class Problem extends Error {
  readonly answer: Answer;

  constructor(answer: Answer) {
    super(answer.code);
    this.answer = answer;
  }
}

/** A file and the text fields that go with it: WeChat sends one file in a form. */
export interface Form {
  file: string;
  name: string;
  fields: Record<string, string>;
  key: string;
}

type Headers = Record<string, string>;
type Method = "GET" | "PUT" | "POST" | "DELETE";
const NO_ANSWER: Answer = { status: 0, body: null, code: "", title: "", detail: "", wait: null };

export class Api {
  private readonly lanes = new Lanes();
  private readonly wx: Wx;
  private readonly time: Time;
  private readonly host: Host;
  private readonly clock: ServerClock;
  private readonly language: () => string;

  constructor(wx: Wx, time: Time, host: Host, clock: ServerClock, language: () => string) {
    this.wx = wx;
    this.time = time;
    this.host = host;
    this.clock = clock;
    this.language = language;
  }

  /** The JSON of a successful answer. Throws `Offline` or `Problem`. */
  async call<T>(method: Method, path: string, body?: object, headers: Headers = {}): Promise<T> {
    const answer = await this.answer(method, path, body, headers);
    if (answer.status === 0) throw new Offline();
    if (answer.status >= 400) throw new Problem(answer);
    return answer.body as T;
  }

  /** Whatever the answer is; bytes are sent as they are, other bodies as JSON. */
  answer(method: Method, path: string, body?: object | ArrayBuffer, headers: Headers = {}): Promise<Answer> {
    return this.signedIn((signed) => this.request(method, path, body, { ...signed, ...headers }));
  }

  /** Sends a form; `onProgress` hears how much of it has left, from 0 to 1. */
  upload(path: string, form: Form, onProgress: (share: number) => void): Promise<Answer> {
    return this.signedIn((signed) => this.uploadFile(path, form, { ...signed, "Idempotency-Key": form.key }, onProgress));
  }

  /** A token that was refused may just have become too old: once more with a fresh one. */
  private async signedIn(send: (headers: Headers) => Promise<Answer>): Promise<Answer> {
    const answer = await this.withToken(false, send);
    return answer.status === 401 ? this.withToken(true, send) : answer;
  }

  private async withToken(fresh: boolean, send: (headers: Headers) => Promise<Answer>): Promise<Answer> {
    let token: string;
    try {
      token = await this.host.token(fresh);
    } catch {
      return NO_ANSWER;
    }
    return this.lanes.run(() => send({ Authorization: `Bearer ${token}`, "Accept-Language": this.language() }));
  }

  private request(method: Method, path: string, body: object | ArrayBuffer | undefined, headers: Headers): Promise<Answer> {
    const isJson = body !== undefined && !(body instanceof ArrayBuffer);
    const sentAt = this.time.now();
    return new Promise((resolve) => {
      this.wx.request({
        url: this.host.base + path,
        method,
        header: { ...(isJson && { "Content-Type": "application/json" }), ...headers },
        // as text: what WeChat makes of JSON by itself differs from phone to phone
        ...(body !== undefined && { data: body instanceof ArrayBuffer ? body : JSON.stringify(body) }),
        dataType: "text",
        timeout: TIMEOUT_MS,
        success: (got) => resolve(this.read(got.statusCode, got.header as Headers, String(got.data ?? ""), sentAt)),
        fail: () => resolve(NO_ANSWER),
      });
    });
  }

  private uploadFile(path: string, form: Form, headers: Headers, onProgress: (share: number) => void): Promise<Answer> {
    const sentAt = this.time.now();
    let received: Headers = {};
    return new Promise((resolve) => {
      const task = this.wx.uploadFile({
        url: this.host.base + path,
        filePath: form.file,
        name: form.name,
        formData: form.fields,
        header: headers,
        timeout: TIMEOUT_MS,
        success: (got) => resolve(this.read(got.statusCode, received, got.data, sentAt)),
        fail: () => resolve(NO_ANSWER),
      });
      task.onHeadersReceived((got) => (received = got.header as Headers));
      task.onProgressUpdate(({ progress }) => onProgress(progress / 100));
    });
  }

  private read(status: number, headers: Headers, text: string, sentAt: number): Answer {
    this.clock.observe(headerOf(headers, "date"), sentAt, this.time.now());
    const wait = retryAfter(headerOf(headers, "retry-after"), this.clock.now());
    let body: unknown = null;
    try {
      body = text ? JSON.parse(text) : null;
    } catch {
      // a proxy's page: the status has to do
    }
    const { code = "", title = "", detail = "" } = (body ?? {}) as Partial<Answer>;
    return { status, body, code, title, detail, wait };
  }
}

/** Phones differ in how they write the names of headers. */
function headerOf(headers: Headers, name: string): string | undefined {
  const found = Object.keys(headers ?? {}).find((each) => each.toLowerCase() === name);
  return found && headers[found];
}
