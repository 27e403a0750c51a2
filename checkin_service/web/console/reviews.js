// What waits for a decision, and what it rests on, side by side; decided by keyboard.

import { FenceMap } from "./map.js";
import { distance, facts, figure, moment, reasonList } from "./shown.js";
import { button, el } from "./view.js";

const PAGE = 100;
const LONGEST_NOTE = 500;

export async function reviews(app, view, { review_id = null, task_id = null }) {
  const one = { app, view, task_id, waiting: [], next: null, current: review_id, evidence: null, list: el("ol", { class: "queue", id: "queue" }), side: el("section", { id: "evidence", "aria-live": "off" }) };
  one.count = el("p", { class: "faint", role: "status" });
  one.more = button(app.say("more"), () => load(one, { isAnew: false }), { class: "more" });
  const all = task_id ? el("p", {}, app.say("of_task", { task: task_id }), " ", button(app.say("all_reviews"), () => app.go("reviews"), { class: "link" })) : "";
  view.show(app.say("reviews"), el("p", { class: "faint", id: "keys" }, app.say("review_keys")), all,
    el("div", { class: "desk" }, el("nav", { "aria-label": app.say("reviews") }, one.count, one.list, one.more), one.side));
  view.keys({ j: () => step(one, 1), k: () => step(one, -1), a: () => confirm(one, "accept"), r: () => confirm(one, "reject"), z: () => undo(one) });
  view.atDecision((reviewId) => decided(one, reviewId));
  view.hears(800, () => load(one, { isAnew: true }));
  await load(one, { isAnew: true });
  if (view.isGone) return;
  const first = one.current ?? open(one)[0]?.review_id;
  if (first) await look(one, first);
  else one.side.replaceChildren(el("p", {}, app.say("nothing_waits")));
}

// --- The queue ---

async function load(one, { isAnew }) {
  const asked = new URLSearchParams({ limit: String(PAGE) });
  if (one.task_id) asked.set("task_id", one.task_id);
  if (!isAnew && one.next) asked.set("after", one.next);
  const page = await one.app.api.call("GET", `/v1/reviews?${asked}`);
  if (one.view.isGone) return;
  one.waiting = isAnew ? page.reviews : [...one.waiting, ...page.reviews];
  one.next = page.next;
  list(one);
}

/** Those that are not decided, nor about to be. */
function open(one) {
  return one.waiting.filter((review) => !one.app.decisions.isDecided(review.review_id));
}

function list(one) {
  const { app } = one;
  const waiting = open(one);
  const hadFocus = one.list.contains(document.activeElement);
  one.list.replaceChildren(...waiting.map((review) => entry(one, review)));
  if (hadFocus) one.list.querySelector("[aria-current]")?.focus();
  one.count.textContent = app.say(one.next ? "waiting_more" : "waiting", { number: waiting.length });
  one.more.hidden = !one.next;
}

function entry(one, review) {
  const { app } = one;
  const isCurrent = review.review_id === one.current;
  const why = review.kind === "manual" ? app.say(review.state === "pending_second" ? "manual_second" : "manual") : review.reasons[0]?.message ?? "";
  return el("li", {}, button([el("strong", {}, review.person_id), ` ${moment(review.received_at)} `, review.overdue ? el("em", { class: "late" }, app.say("overdue")) : "", el("br"), el("span", { class: "faint" }, why)],
    () => look(one, review.review_id), { class: "entry", "data-review": review.review_id, "aria-current": isCurrent ? "true" : null }));
}

async function step(one, by) {
  const waiting = open(one);
  const at = waiting.findIndex((review) => review.review_id === one.current);
  const next = waiting[Math.max(0, Math.min(waiting.length - 1, at + by))];
  if (next && next.review_id !== one.current) await look(one, next.review_id);
}

// --- What it rests on ---

async function look(one, reviewId) {
  const { app } = one;
  one.current = reviewId;
  // nothing is decided on while something else is seen
  one.evidence = null;
  one.side.replaceChildren(el("p", {}, app.say("loading")));
  delete one.side.dataset.review;
  list(one);
  const evidence = await app.api.call("GET", `/v1/reviews/${reviewId}`);
  if (one.view.isGone || one.current !== reviewId) return;
  one.evidence = evidence;
  one.side.replaceChildren(...shown(one, evidence));
  one.side.dataset.review = reviewId;
  app.announce(`${evidence.person_id}. ${evidence.request_reason ?? evidence.reasons.map((reason) => reason.message).join(" ")}`);
}

function isOpen(evidence) {
  return evidence.state === "pending" || evidence.state === "pending_second";
}

function shown(one, e) {
  const { app } = one;
  const decide = isOpen(e) && !app.decisions.isDecided(e.review_id)
    ? el("p", { class: "decide" }, button(app.say("accept"), () => confirm(one, "accept"), { class: "good", "data-decide": "accept" }), button(app.say("reject"), () => confirm(one, "reject"), { class: "grave", "data-decide": "reject" }))
    : el("p", {}, app.say(`review_${e.state}`));
  return [
    el("h2", { tabindex: "-1" }, `${e.person.name || e.person_id} · ${e.enterprise.name}`),
    facts([
      [app.say("task"), button(e.task_id, () => app.go("task", { task_id: e.task_id }), { class: "link" })],
      [app.say("member"), [e.person_id, ...e.person.categories.map((kind) => app.say(`category_${kind}`)), ...(e.person.technical_lead ? [app.say("lead")] : [])].join(" · ")],
      [app.say("received_at"), moment(e.received_at)],
      [app.say("deadline"), app.deadline(e.closes_at)],
    ]),
    decide,
    el("div", { class: "sides" }, selfie(one, e), el("div", {}, reference(app, e), why(app, e), comparison(app, e)), where(app, e)),
    ...(e.signals.length ? [el("h3", {}, app.say("signals")), el("ul", {}, e.signals.map((signal) => el("li", {}, signal.message)))] : []),
    ...(e.decisions.length ? [el("h3", {}, app.say("decisions")), el("ul", {}, e.decisions.map((d) => el("li", {}, `${moment(d.decided_at)} ${d.actor}: ${app.say(d.decision)} – ${d.note}`)))] : []),
  ];
}

/** The photograph is asked for with the token, and written to the audit, whenever it is shown. */
function selfie(one, e) {
  const { app } = one;
  const place = el("figure", { class: "selfie" }, el("figcaption", {}, app.say("selfie")));
  if (!e.selfie) return el("figure", { class: "selfie" }, el("figcaption", {}, app.say("selfie")), el("p", { class: "faint" }, app.say("no_selfie")));
  app.picture(e.selfie).then((address) => {
    if (!address) return place.append(el("p", { role: "alert" }, app.say("selfie_failed")));
    place.prepend(el("img", { src: address, alt: app.say("selfie_of", { person: e.person_id }), load: () => URL.revokeObjectURL(address) }));
  });
  return place;
}

function reference(app, e) {
  const told = e.reference
    ? facts([[app.say("enrolled_at"), moment(e.reference.created_at)], [app.say("photographs"), String(e.reference.photos)], [app.say("engine"), e.reference.engine]])
    : el("p", {}, app.say("no_reference"));
  return el("section", { class: "reference" }, el("h3", {}, app.say("reference")), el("p", {}, app.say("reference_gone", { person: e.person_id })), told);
}

function why(app, e) {
  const isManual = e.kind === "manual";
  return el("section", {}, el("h3", {}, app.say(isManual ? "asked_why" : "reasons")),
    isManual ? el("blockquote", {}, e.request_reason) : reasonList(e.reasons, app.say("no_reason")));
}

function comparison(app, { face }) {
  if (!face) return "";
  return el("section", {}, el("h3", {}, app.say("comparison")), facts([
    [app.say("likeness"), face.likeness_text],
    [app.say("score"), `${figure(face.score, 3)} / ${figure(face.threshold, 3)} (${face.model_id}, ${face.operating_point})`],
    [app.say("rival"), face.rival_score === null ? null : figure(face.rival_score, 3)],
    [app.say("alive"), face.live === null ? null : figure(face.live, 2)],
  ]));
}

function where(app, e) {
  const address = el("p", {}, e.place.registered_address);
  if (!e.location) return el("section", {}, el("h3", {}, app.say("place")), address, el("p", { class: "faint" }, app.say("no_position")));
  const map = new FenceMap(e.place, app.say.bind(app));
  map.show([{ id: e.review_id, location: e.location, outcome: "review", label: e.person_id }], e.review_id);
  return el("section", {}, el("h3", {}, app.say("place")), address, facts([
    [app.say("zone"), app.say(`zone_${e.location.zone}`)],
    [app.say("distance"), distance(app, e.location)],
    [app.say("phone"), e.device ? [e.device.platform, e.device.model].filter(Boolean).join(" ") : null],
  ]), map.element);
}

// --- Deciding ---

/** Asks for the note, which is the confirmation; what was written last is offered again. */
function confirm(one, decision) {
  const { app, evidence } = one;
  if (!evidence || !isOpen(evidence) || app.decisions.isDecided(evidence.review_id) || document.querySelector("dialog[open]")) return;
  const note = el("textarea", { name: "note", required: true, maxlength: String(LONGEST_NOTE), rows: "3" });
  note.value = app.notes[decision] ?? "";
  const close = () => { dialog.close(); dialog.remove(); };
  const submit = (event) => {
    event.preventDefault();
    const text = note.value.trim();
    if (!text) return note.focus();
    app.notes[decision] = text;
    close();
    app.decisions.hold({ review_id: evidence.review_id, person_id: evidence.person_id, decision, note: text });
    app.doing(() => goOn(one));
  };
  const form = el("form", { submit },
    el("h2", { id: "confirm" }, app.say(`confirm_${decision}`, { person: evidence.person_id })),
    el("label", {}, app.say("note"), note),
    el("p", { class: "faint" }, app.say("confirm_keys")),
    el("p", { class: "decide" }, el("button", { type: "submit", class: decision === "accept" ? "good" : "grave" }, app.say(decision)), button(app.say("cancel"), close)));
  const dialog = el("dialog", { "aria-labelledby": "confirm", close: () => dialog.remove(), keydown: (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === note) submit(event); } }, form);
  document.body.append(dialog);
  dialog.showModal();
  note.focus();
  note.select();
}

/** To the next that waits, after a decision. */
async function goOn(one) {
  const at = one.waiting.findIndex((review) => review.review_id === one.current);
  const rest = [...one.waiting.slice(at + 1), ...one.waiting.slice(0, Math.max(0, at))];
  const next = rest.find((review) => !one.app.decisions.isDecided(review.review_id));
  if (next) return look(one, next.review_id);
  one.current = one.evidence = null;
  list(one);
  one.side.replaceChildren(el("p", {}, one.app.say("nothing_waits")));
  delete one.side.dataset.review;
}

async function undo(one) {
  const reviewId = one.app.decisions.undo();
  if (reviewId) await look(one, reviewId);
}

async function decided(one, reviewId) {
  await load(one, { isAnew: true });
  if (one.current === reviewId) await look(one, reviewId);
}
