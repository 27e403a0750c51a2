// Who is signed in: a token from the link's fragment, which no server sees, kept for this tab only.

const PLACE = "checkin.token";

/** The claims of a token, unverified: the server does that. Null for what is none. */
export function claimsOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims.sub === "string" && claims.sub ? claims : null;
  } catch {
    return null;
  }
}

export class Session {
  token = null;
  claims = null;

  constructor(storage) {
    this.storage = storage;
    this.#use(storage.getItem(PLACE));
  }

  /** Takes what a fragment brings; whether it brought a token. */
  take(fragment) {
    const token = new URLSearchParams(fragment.replace(/^#/, "")).get("token");
    if (token === null) return false;
    this.#use(token);
    if (this.token) this.storage.setItem(PLACE, token);
    return true;
  }

  /** What a submission belongs to: another person's token must not send it. */
  get owner() {
    return this.claims && `${this.claims.iss}|${this.claims.sub}`;
  }

  end() {
    this.token = this.claims = null;
    this.storage.removeItem(PLACE);
  }

  #use(token) {
    this.claims = token ? claimsOf(token) : null;
    this.token = this.claims ? token : null;
  }
}

/** A storage that holds, where the browser keeps none for us, at least while the page is open. */
export function openStorage(name) {
  try {
    const storage = globalThis[name];
    storage.setItem("checkin.try", "1");
    storage.removeItem("checkin.try");
    return storage;
  } catch {
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, String(value)),
      removeItem: (key) => kept.delete(key),
    };
  }
}
