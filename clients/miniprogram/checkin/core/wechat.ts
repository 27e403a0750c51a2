// What the rest takes from the phone: WeChat's `wx` and the time.

export type Wx = WechatMiniprogram.Wx;

export interface Time {
  /** The phone's own clock in milliseconds since 1970; anybody may set it. */
  now(): number;
  /** Calls `work` once after so many milliseconds, unless what is returned is called before. */
  after(ms: number, work: () => void): () => void;
}

export const PHONES_TIME: Time = {
  now: () => Date.now(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

interface Ends<T> {
  success: (result: T) => void;
  fail: (error: { errMsg: string }) => void;
}

/** WeChat said no; the message is its `errMsg`. */
export class WxRefusal extends Error {}

/** A call of WeChat's as a promise. Rejects with `WxRefusal`. */
export function answered<T>(call: (ends: Ends<T>) => unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    call({ success: resolve, fail: ({ errMsg }) => reject(new WxRefusal(errMsg)) });
  });
}

/** What keeps a person from going on here, as the key of a text. */
export class Fault extends Error {
  readonly key: string;

  constructor(key: string) {
    super(key);
    this.key = key;
  }
}

export function pause(time: Time, ms: number): Promise<void> {
  return new Promise((resolve) => void time.after(ms, resolve));
}

/** `work`, or `Fault` with that key when it takes longer: some of WeChat's calls never answer on some phones. */
export function within<T>(time: Time, ms: number, key: string, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = time.after(ms, () => reject(new Fault(key)));
    work.then(resolve, reject).finally(cancel);
  });
}
