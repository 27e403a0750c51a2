// The page's frame: who is signed in, which screen is shown, language and size of the text.

import { Api, Offline, Problem } from "./api.js";
import { capture } from "./capture.js";
import { ServerClock } from "./clock.js";
import { consent } from "./consent.js";
import { chooseLanguage, LANGUAGES, say, sayInstant } from "./language.js";
import { manual } from "./manual.js";
import { mine } from "./mine.js";
import { Outbox } from "./outbox.js";
import { Positions } from "./position.js";
import { rehearsal } from "./rehearsal.js";
import { result, sending } from "./sending.js";
import { openStorage, Session } from "./session.js";
import { receipt, verification } from "./shown_receipt.js";
import { tasks } from "./tasks.js";
import { button, el } from "./view.js";

const SCREENS = { capture, consent, manual, mine, receipt, rehearsal, result, sending, signed_out: signedOut, tasks, verification };
const WITHOUT_TOKEN = new Set(["signed_out", "verification"]);

/** One showing of a screen. Once another has come, what it still does is not seen. */
class Page {
  isGone = false;
  #endings = [];

  constructor(app) {
    this.app = app;
  }

  /** `title`: a text; `body`, `actions`: elements. `actions` stay at the bottom, where the thumb is. */
  show({ title, body, actions = [] }) {
    if (this.isGone) return;
    const isFirst = this.heading === undefined;
    this.heading = el("h1", { tabindex: "-1" }, title);
    document.querySelector("#main").replaceChildren(this.heading, ...[body].flat().filter(Boolean));
    document.querySelector("#foot").replaceChildren(...[actions].flat().filter(Boolean), this.app.wayWithoutFace());
    document.title = title;
    if (isFirst) {
      scrollTo(0, 0);
      this.heading.focus({ preventScroll: true });
    }
  }

  /** Waits for this to be called when another screen comes. */
  atEnd(work) {
    if (this.isGone) work();
    else this.#endings.push(work);
  }

  every(ms, work) {
    const timer = setInterval(work, ms);
    this.atEnd(() => clearInterval(timer));
    work();
  }

  end() {
    this.isGone = true;
    for (const work of this.#endings) work();
  }
}

class App {
  me = null;
  taskId = null;
  hasOfferedConsent = false;
  #page = null;

  constructor() {
    this.kept = openStorage("localStorage");
    this.session = new Session(openStorage("sessionStorage"));
    this.clock = new ServerClock();
    this.outbox = new Outbox();
    this.positions = new Positions();
    this.language = this.kept.getItem("checkin.language") ?? chooseLanguage(navigator.languages ?? [navigator.language]);
    this.api = new Api(this.session, this.clock, () => this.language);
  }

  async start() {
    addEventListener("popstate", (event) => event.state && this.#render(event.state.name, event.state.params));
    addEventListener("hashchange", () => this.#enter());
    this.keepsItems = await this.outbox.open();
    this.#enter();
  }

  // --- What screens use ---

  say(key, figures) {
    return say(this.language, key, figures);
  }

  sayInstant(instantMs) {
    return sayInstant(this.language, instantMs);
  }

  go(name, params = {}, { replace = false } = {}) {
    history[replace ? "replaceState" : "pushState"]({ name, params }, "");
    return this.#render(name, params);
  }

  /** Says something to who does not see it. */
  announce(text) {
    const live = document.querySelector("#live");
    if (live.textContent !== text) live.textContent = text;
  }

  async refresh() {
    this.me = await this.api.call("GET", "/v1/me");
    return this.me;
  }

  task(taskId) {
    return this.me?.tasks.find((task) => task.task_id === taskId) ?? null;
  }

  /** What went wrong in words; true once shown, false for a defect of this page. */
  explain(page, error, again) {
    if (error instanceof Problem && error.status === 401) {
      this.session.end();
      return this.go("signed_out", {}, { replace: true });
    }
    if (!(error instanceof Problem || error instanceof Offline)) throw error;
    const [title, text] = error instanceof Offline ? [this.say("offline_title"), this.say("offline_text")] : [error.title, error.detail];
    page.show({
      title: title || this.say("failed_title"),
      body: el("p", { role: "alert" }, text || this.say("failed_text")),
      actions: [button(this.say("again"), again, { class: "first" }), this.homeButton()],
    });
  }

  homeButton() {
    return button(this.say("to_tasks"), () => this.go("tasks"), { class: "second half" });
  }

  /** Never further than one tap, wherever one is. */
  wayWithoutFace() {
    if (!this.session.token || this.#page?.name === "manual") return "";
    return button(this.say("manual_way"), () => this.go("manual", { task_id: this.taskId }), { class: "way" });
  }

  setLanguage(language) {
    this.language = language;
    this.kept.setItem("checkin.language", language);
    this.#again();
  }

  setLarge(isLarge) {
    this.kept.setItem("checkin.large", isLarge ? "1" : "");
    this.#dress();
  }

  get isLarge() {
    return this.kept.getItem("checkin.large") === "1";
  }

  // --- Its own ---

  #enter() {
    const fragment = location.hash;
    const hasToken = this.session.take(fragment);
    // a token in the address bar would be seen, shared and kept in the history
    if (fragment) history.replaceState(null, "", location.pathname);
    const shown = new URLSearchParams(fragment.slice(1)).get("receipt");
    if (shown) return this.go("verification", { receipt: shown }, { replace: true });
    if (hasToken) this.hasOfferedConsent = false;
    return this.go("tasks", {}, { replace: true });
  }

  #render(name, params = {}) {
    this.#page?.end();
    const allowed = this.session.token || WITHOUT_TOKEN.has(name) ? name : "signed_out";
    this.#page = Object.assign(new Page(this), { name: allowed, params });
    if (params.task_id) this.taskId = params.task_id;
    this.#dress();
    return SCREENS[allowed](this, this.#page, params);
  }

  #again() {
    // in the middle of sending or taking a picture only the frame changes its language
    if (["sending", "capture"].includes(this.#page.name)) this.#dress();
    else this.#render(this.#page.name, this.#page.params);
  }

  #dress() {
    document.documentElement.lang = this.language;
    document.documentElement.classList.toggle("large", this.isLarge);
    const languages = LANGUAGES.map((code) => el("option", { value: code, lang: code, selected: code === this.language }, say(code, "language_name")));
    const head = document.querySelector("#head");
    const focused = [...head.children].indexOf(document.activeElement);
    head.replaceChildren(
      el("select", { "aria-label": this.say("language"), change: (event) => this.setLanguage(event.target.value) }, languages),
      button(this.say("large"), () => this.setLarge(!this.isLarge), { "aria-pressed": String(this.isLarge) }),
      this.session.token ? button(this.say("mine"), () => this.go("mine")) : "",
    );
    head.children[focused]?.focus();
  }
}

async function signedOut(app, page) {
  page.show({
    title: app.say("signed_out_title"),
    body: [el("p", {}, app.say("signed_out_text")), el("p", {}, app.say("signed_out_manual"))],
  });
}

new App().start();
