// A clock that stands still until it is told how much time passes.

export class FakeTime {
  skew = 0;
  #timers = new Set();

  now = () => Date.now() + this.skew;

  after = (ms, work) => {
    const timer = { due: this.now() + ms, work };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  };

  /** Runs the next timer that is due within so many milliseconds; whether there was one. */
  skip(ms) {
    const [next] = [...this.#timers].sort((one, other) => one.due - other.due);
    if (!next || next.due > this.now() + ms) return false;
    this.skew += Math.max(0, next.due - this.now());
    this.#timers.delete(next);
    next.work();
    return true;
  }

  async pass(ms) {
    const end = this.now() + ms;
    while (this.skip(end - this.now())) await turns();
    this.skew += Math.max(0, end - this.now());
  }
}

/** Lets everything run that waits for nothing but its turn. */
export async function turns() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
