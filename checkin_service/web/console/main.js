// The console's frame: who is signed in, which view is shown, keys, decisions on their way, what happens meanwhile.

import { Api, Offline, Problem } from "./api.js";
import { ServerClock } from "./clock.js";
import { Decisions } from "./decisions.js";
import { chooseLanguage, LANGUAGES, say, sayInstant } from "./language.js";
import { Listening } from "./listening.js";
import { reviews } from "./reviews.js";
import { openStorage, Session } from "./session.js";
import { statistics } from "./statistics.js";
import { task } from "./task.js";
import { tasks } from "./tasks.js";
import { button, el } from "./view.js";

const VIEWS = { tasks, task, reviews, statistics, signed_out: signedOut };
const NAMED = ["tasks", "reviews", "statistics"];
// Each renewal of a task is a view, and so a row of the audit.
const REST_MS = 4000;
const WRITING = new Set(["INPUT", "TEXTAREA", "SELECT"]);

/** One showing of a view. Once another has come, what it still does is not seen. */
class View {
  isGone = false;
  keyed = {};
  decided = () => {};
  #hearing = null;

  constructor(app) {
    this.app = app;
  }

  show(title, ...parts) {
    if (this.isGone) return;
    const heading = el("h1", { tabindex: "-1" }, title);
    document.querySelector("#main").replaceChildren(heading, ...parts.filter(Boolean));
    document.title = `${title} · ${this.app.say("console")}`;
    heading.focus({ preventScroll: true });
  }

  keys(keyed) {
    this.keyed = keyed;
  }

  /** Calls `work(reviewId)` once a decision has been carried out. */
  atDecision(work) {
    this.decided = work;
  }

  /** Calls `work()` soon after something has happened, to one task or to any; in busy times not again before a rest. */
  hears(delayMs, work, taskId = null) {
    this.#hearing = { delayMs, work, taskId, timer: null, last: -REST_MS };
  }

  happened(event) {
    const hearing = this.#hearing;
    if (this.isGone || !hearing || hearing.timer) return;
    if (hearing.taskId && event.data.task_id && event.data.task_id !== hearing.taskId) return;
    const rest = hearing.last + REST_MS - performance.now();
    hearing.timer = setTimeout(() => {
      Object.assign(hearing, { timer: null, last: performance.now() });
      if (!this.isGone) this.app.doing(hearing.work);
    }, Math.max(hearing.delayMs, rest));
  }

  end() {
    this.isGone = true;
    clearTimeout(this.#hearing?.timer);
  }
}

class Console {
  notes = {};
  isLive = false;
  #view = new View(this);

  constructor() {
    const storage = openStorage("sessionStorage");
    // beside a phone page in the same tab, each has a token of its own
    const own = { getItem: (key) => storage.getItem(`console.${key}`), setItem: (key, value) => storage.setItem(`console.${key}`, value), removeItem: (key) => storage.removeItem(`console.${key}`) };
    this.kept = openStorage("localStorage");
    const kept = this.kept.getItem("console.language");
    this.language = LANGUAGES.includes(kept) ? kept : chooseLanguage(navigator.languages);
    this.session = new Session(own);
    this.clock = new ServerClock();
    this.api = new Api(this.session, this.clock, () => this.language);
    this.decisions = new Decisions(this.api, () => this.#showHeld(), (review) => this.#decided(review));
    this.listening = new Listening(this.api, (event) => this.#hear(event), (isLive) => this.#tellLive(isLive));
  }

  start() {
    addEventListener("hashchange", () => this.#enter());
    addEventListener("popstate", (event) => this.#render(event.state?.name ?? "tasks", event.state?.params));
    addEventListener("keydown", (event) => this.#key(event));
    addEventListener("unhandledrejection", (event) => this.#rejected(event));
    addEventListener("beforeunload", (event) => { if (this.decisions.waiting.some((one) => one.state !== "failed")) event.preventDefault(); });
    setInterval(() => this.#tellLeft(), 10_000);
    this.#enter();
  }

  // --- What views use ---

  say(key, figures) {
    return say(this.language, key, figures);
  }

  /** The instant at which something ends; midnight is the end of the day before. */
  deadline(text) {
    return sayInstant(this.language, Date.parse(text));
  }

  go(name, params = {}, { replace = false } = {}) {
    history[replace ? "replaceState" : "pushState"]({ name, params }, "");
    return this.#render(name, params);
  }

  /** A photograph as an address of its own; null when there is none any more, or it can't be had. */
  async picture(path) {
    const answer = await fetch(path, { headers: this.api.headers(), cache: "no-store" }).catch(() => null);
    return answer?.ok ? URL.createObjectURL(await answer.blob()) : null;
  }

  /** Does something for a view; what goes wrong is said. */
  async doing(work) {
    const view = this.#view;
    try {
      await work();
    } catch (error) {
      if (!view.isGone) this.#explain(error);
    }
  }

  announce(text) {
    document.querySelector("#live").textContent = text;
  }

  // --- Its own ---

  #enter() {
    const fragment = location.hash;
    const isNew = this.session.take(fragment);
    // a token in the address bar would be seen, shared and kept in the history
    if (fragment) history.replaceState(history.state, "", location.pathname);
    if (isNew) this.listening.stop();
    if (this.session.token) this.listening.start();
    this.decisions.again();
    const { name = "tasks", params = {} } = history.state ?? {};
    return this.go(name === "signed_out" ? "tasks" : name, params, { replace: true });
  }

  async #render(name, params = {}) {
    this.#view.end();
    const allowed = this.session.token ? name : "signed_out";
    const view = (this.#view = Object.assign(new View(this), { name: allowed, params }));
    this.#dress();
    await this.doing(() => VIEWS[allowed](this, view, params));
  }

  #explain(error) {
    if (error instanceof Problem && error.status === 401) {
      this.session.end();
      this.listening.stop();
      return this.#render("signed_out");
    }
    if (!(error instanceof Problem || error instanceof Offline)) throw error;
    const text = error instanceof Offline ? this.say("offline") : error.detail || error.title || this.say("failed");
    const { name, params } = this.#view;
    document.querySelector("#main [role=alert]")?.remove();
    document.querySelector("#main").prepend(el("p", { role: "alert" }, text, " ", button(this.say("again"), () => this.#render(name, params))));
  }

  /** What went wrong under a button; a defect of this page stays one. */
  #rejected(event) {
    if (!(event.reason instanceof Problem || event.reason instanceof Offline)) return;
    event.preventDefault();
    this.#explain(event.reason);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (WRITING.has(event.target.tagName) || document.querySelector("dialog[open]")) return;
    const digit = NAMED[Number(event.key) - 1];
    const work = this.#view.keyed[event.key] ?? (digit && this.session.token ? () => this.go(digit) : null);
    if (!work) return;
    event.preventDefault();
    this.doing(work);
  }

  #hear(event) {
    if (event.event === "attempt") this.announce(this.say("heard_attempt", { task: event.data.task_id }));
    this.#view.happened(event);
  }

  #tellLive(isLive) {
    if (this.isLive === isLive) return;
    this.isLive = isLive;
    this.#dress();
  }

  #decided(review) {
    this.announce(this.say(`review_${review.state}`));
    this.doing(() => this.#view.decided(review.review_id));
  }

  #showHeld() {
    const place = document.querySelector("#held");
    place.setAttribute("aria-label", this.say("held"));
    place.replaceChildren(...this.decisions.waiting.map((held) => {
      const words = this.say(`held_${held.state}`, { decision: this.say(held.decision), person: held.person_id });
      const act = held.state === "held" ? button(this.say("undo"), () => this.#view.keyed.z?.() ?? this.decisions.undo(), { "data-undo": held.review_id })
        : held.state === "failed" ? button(this.say("dismiss"), () => this.decisions.dismiss(held)) : "";
      return el("p", { role: held.state === "failed" ? "alert" : null, class: held.state }, words, held.detail ? ` ${held.detail}` : "", " ", act);
    }));
  }

  setLanguage(language) {
    this.language = language;
    this.kept.setItem("console.language", language);
    this.#showHeld();
    return this.#render(this.#view.name, this.#view.params);
  }

  #dress() {
    document.documentElement.lang = this.language;
    const languages = LANGUAGES.map((code) => el("option", { value: code, lang: code, selected: code === this.language }, say(code, "language_name")));
    const views = this.session.token ? NAMED.map((name, index) =>
      button(`${index + 1} ${this.say(name)}`, () => this.go(name), { "aria-current": this.#view.name === name ? "page" : null, "data-view": name })) : [];
    document.querySelector("#head").replaceChildren(
      el("strong", {}, this.say("console")),
      el("nav", { "aria-label": this.say("console") }, views),
      this.session.token ? el("span", { class: this.isLive ? "live" : "quiet", id: "heard" }, this.say(this.isLive ? "live" : "not_live")) : "",
      this.session.claims ? el("span", { class: "who" }, `${this.session.claims.sub} `, el("span", { id: "left" })) : "",
      el("select", { "aria-label": this.say("language"), id: "language", change: (event) => this.setLanguage(event.target.value) }, languages));
    this.#tellLeft();
  }

  #tellLeft() {
    const place = document.querySelector("#left");
    if (!place) return;
    const minutes = Math.max(0, Math.ceil((this.session.claims.exp * 1000 - this.clock.now()) / 60_000));
    place.textContent = this.say("signed_in_for", { minutes });
  }
}

async function signedOut(app, view) {
  const waiting = app.decisions.waiting.length ? el("p", { role: "alert" }, app.say("signed_out_waiting", { number: app.decisions.waiting.length })) : "";
  view.show(app.say("signed_out_title"), el("p", {}, app.say("signed_out_text")), waiting);
}

new Console().start();
