// Check-ins on their way: the very bytes and their key stay in the phone until an answer is known.

const STORE = "outbox";
// the receipt of a check-in is long judged by then, and without one its challenge is long over
const MOST_AGE_MS = 24 * 3600 * 1000;

export class Outbox {
  #database = null;
  #memory = new Map();

  /** Whether what is kept outlives the page; without a database it is kept in memory only. */
  async open() {
    try {
      this.#database = await settled(makeDatabase());
      await this.#forgetOld();
    } catch {
      this.#database = null;
    }
    return this.#database !== null;
  }

  /** `item`: owner, task_id, key, type, bytes, saved_at; status_url in place of the bytes once it was taken. */
  async put(item) {
    this.#memory.set(item.owner, item);
    await this.#run("readwrite", (store) => store.put(item));
  }

  async find(owner) {
    return (await this.#run("readonly", (store) => store.get(owner))) ?? this.#memory.get(owner) ?? null;
  }

  async remove(owner) {
    this.#memory.delete(owner);
    await this.#run("readwrite", (store) => store.delete(owner));
  }

  async #forgetOld() {
    for (const item of await this.#run("readonly", (store) => store.getAll())) {
      if (Date.now() - item.saved_at > MOST_AGE_MS) await this.remove(item.owner);
    }
  }

  async #run(mode, use) {
    if (!this.#database) return undefined;
    try {
      const transaction = this.#database.transaction(STORE, mode, { durability: "strict" });
      const result = await settled(use(transaction.objectStore(STORE)));
      if (mode === "readwrite") await new Promise((resolve, reject) => Object.assign(transaction, { oncomplete: resolve, onabort: reject }));
      return result;
    } catch {
      // full or taken away: the copy in memory is still sent
      return undefined;
    }
  }
}

/** The form as bytes with their content type, made once: a retry sends them again as they are. */
export async function formBytes(fields, files) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, typeof value === "string" ? value : JSON.stringify(value));
  for (const [name, file] of files) form.append(name, file, `${name}.jpg`);
  const packed = new Response(form);
  const type = packed.headers.get("Content-Type");
  return { type, bytes: await packed.arrayBuffer() };
}

/** Lets one tab at a time run `work`; `waiting` is called when another one is at it. */
export async function alone(name, waiting, work) {
  if (!navigator.locks) return work();
  const done = await navigator.locks.request(name, { ifAvailable: true }, async (lock) => lock && { value: await work() });
  if (done) return done.value;
  waiting();
  return navigator.locks.request(name, work);
}

function makeDatabase() {
  const opening = indexedDB.open("checkin", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "owner" });
  return opening;
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
