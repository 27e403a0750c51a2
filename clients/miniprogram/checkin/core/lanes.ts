// WeChat lets a mini-program have ten requests and uploads under way, and refuses one more.

/** Ours of the ten: the rest is for the mini-program that we are a part of. */
export const MOST_AT_ONCE = 4;

/** Lets so many pieces of work run at a time; the others wait in the order in which they came. */
export class Lanes {
  private free: number;
  private readonly waiting: (() => void)[] = [];

  constructor(most = MOST_AT_ONCE) {
    this.free = most;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free -= 1;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
    }
  }
}
