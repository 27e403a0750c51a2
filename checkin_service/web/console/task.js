// One task: its window and place, a map, its members and how they tried.

import { FenceMap } from "./map.js";
import { bar, distance, facts, moment, paged, reasonList, table } from "./shown.js";
import { numbers } from "./statistics.js";
import { button, el } from "./view.js";

const MEMBERS = 50;
const ATTEMPTS = 100;
const PARTS = ["attempts", "members", "why_not", "readiness", "numbers"];

export async function task(app, view, { task_id, part = "attempts" }) {
  const path = `/v1/tasks/${encodeURIComponent(task_id)}`;
  const [status, registered] = await Promise.all([app.api.call("GET", path), app.api.call("GET", `${path}/registration`)]);
  if (view.isGone) return;
  const one = { app, view, path, status, registered, attempts: [], next: null, chosen: null, map: null };
  const head = el("section", { id: "status" });
  const aside = el("section", { id: "place", class: "place" });
  const side = el("section", { class: "part", id: "part" });
  const choose = (name) => {
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.part === name)));
    one.part = name;
    return SHOWN[name](one, side);
  };
  const tabs = PARTS.map((name) => button(app.say(name), () => choose(name), { "data-part": name, "aria-pressed": "false" }));
  view.show(registered.enterprise.name, el("p", {}, button(app.say("back_to_tasks"), () => app.go("tasks"), { class: "link" })), head,
    el("div", { class: "two" }, aside, el("div", {}, el("div", { role: "group", class: "tabs", "aria-label": app.say("parts") }, tabs), side)));
  showStatus(one, head);
  showPlace(one, aside);
  view.keys({ Escape: () => app.go("tasks") });
  view.hears(400, async () => {
    one.status = await app.api.call("GET", path);
    await loadAttempts(one, { isAnew: true });
    if (view.isGone) return;
    showStatus(one, head);
    if (one.part === "attempts") listAttempts(one, side);
  }, task_id);
  await loadAttempts(one, { isAnew: true });
  if (!view.isGone) await choose(part);
}

function showStatus({ app, status, registered }, head) {
  const { accepted, total, in_review } = status.progress;
  head.replaceChildren(facts([
    [app.say("task"), `${status.task_id} · ${registered.case_id} · ${app.say("round", { round: status.round })} · ${app.say(`flow_${status.flow}`)}`],
    [app.say("state"), el("strong", { "data-state": status.state }, app.say(`state_${status.state}`))],
    [app.say("window"), `${moment(status.opens_at)} – ${app.deadline(status.closes_at)}${status.window.provisional ? ` ${app.say("provisional")}` : ""}`],
    [app.say("progress"), [bar(accepted, total), ` ${accepted}/${total}`]],
    [app.say("in_review"), String(in_review)],
  ]));
}

function showPlace(one, aside) {
  const { app, registered } = one;
  const places = registered.places;
  const show = (index) => {
    const place = places[index];
    one.place = place;
    one.map = new FenceMap(place, app.say.bind(app));
    const versions = places.length > 1
      ? el("label", {}, app.say("fence_version"), el("select", { change: (event) => show(Number(event.target.value)) },
        places.map((p, i) => el("option", { value: String(i), selected: i === index }, `${p.fence_version} · ${moment(p.effective_at)}`))))
      : "";
    aside.replaceChildren(el("h2", {}, app.say("place")), el("p", {}, place.registered_address), versions, one.map.element, el("p", { class: "faint" }, app.say("map_kept")));
    drawAttempts(one);
  };
  show(places.length - 1);
}

// --- Attempts ---

async function loadAttempts(one, { isAnew }) {
  const after = isAnew ? "" : `&after=${one.next}`;
  const page = await one.app.api.call("GET", `${one.path}/attempts?limit=${ATTEMPTS}${after}`);
  const known = new Set(isAnew ? page.attempts.map((attempt) => attempt.check_in_id) : []);
  // so much is new that something lies between: begin from the latest again
  const isApart = isAnew && !one.attempts.some((attempt) => known.has(attempt.check_in_id));
  const others = isApart ? [] : one.attempts.filter((attempt) => !known.has(attempt.check_in_id));
  if (!isAnew || !others.length) one.next = page.next;
  one.attempts = isAnew ? [...page.attempts, ...others] : [...others, ...page.attempts];
  drawAttempts(one);
}

function drawAttempts(one) {
  const version = one.place.fence_version;
  const here = one.attempts.filter((attempt) => attempt.fence_version === version);
  one.map.show(here.map((a) => ({ id: a.check_in_id, location: a.location, outcome: a.outcome, label: `${a.person_id} ${moment(a.received_at)}` })), one.chosen);
}

function listAttempts(one, side) {
  const { app } = one;
  const columns = ["received_at", "member", "outcome", "reason", "distance", "phone"].map((key) => app.say(key));
  const rows = one.attempts.map((attempt) => attemptRow(one, attempt));
  const more = one.next ? button(app.say("more"), async () => { await loadAttempts(one, { isAnew: false }); listAttempts(one, side); }, { class: "more" }) : "";
  const focused = side.querySelector("button:focus")?.dataset.attempt;
  side.replaceChildren(table(app.say("attempts"), columns, rows, { id: "attempts" }), rows.length ? "" : el("p", {}, app.say("nothing")), more);
  if (focused) side.querySelector(`[data-attempt="${CSS.escape(focused)}"]`)?.focus();
}

function attemptRow(one, attempt) {
  const { app } = one;
  const { location, device } = attempt;
  const choose = button(moment(attempt.received_at), () => chooseAttempt(one, attempt, row), { class: "link", "data-attempt": attempt.check_in_id });
  const first = attempt.reasons[0]?.message ?? "";
  const isWaiting = attempt.review === "pending" || attempt.review === "pending_second";
  const review = isWaiting ? button(app.say("to_review"), () => app.go("reviews", { review_id: attempt.check_in_id, task_id: one.status.task_id })) : "";
  const row = el("tr", { class: attempt.outcome, "data-attempt-row": attempt.check_in_id },
    el("th", { scope: "row" }, choose), el("td", {}, attempt.person_id), el("td", {}, app.say(`outcome_${attempt.outcome}`), " ", review),
    el("td", {}, first), el("td", {}, distance(app, location) ?? "–"),
    el("td", {}, device ? [device.model ?? app.say("unknown"), " ", el("span", { class: "faint" }, device.platform)] : "–"));
  return row;
}

function chooseAttempt(one, attempt, row) {
  const { app } = one;
  const isShown = row.nextElementSibling?.classList.contains("opened");
  row.parentElement.querySelector(".opened")?.remove();
  one.chosen = isShown ? null : attempt.check_in_id;
  drawAttempts(one);
  if (isShown) return;
  const where = attempt.location && attempt.location.lon === null ? el("p", { class: "faint" }, app.say("position_gone")) : "";
  row.after(el("tr", { class: "opened" }, el("td", { colspan: "6" }, reasonList(attempt.reasons, app.say("no_reason")), where,
    el("p", { class: "faint" }, app.say(attempt.counted ? "counted" : "not_counted")))));
}

// --- The other parts ---

function listMembers({ app, status, registered }, side) {
  const states = new Map(status.members.map((member) => [member.person_id, member]));
  const columns = ["member", "name", "categories", "state", "reference", "attempts_made", "last_attempt"].map((key) => app.say(key));
  const rowOf = (member) => {
    const now = states.get(member.person_id);
    const kinds = member.categories.map((kind) => app.say(`category_${kind}`));
    return [member.person_id, member.name, [...kinds, ...(member.technical_lead ? [app.say("lead")] : [])].join(" · "),
      app.say(`member_${now.state}`), app.say(`reference_${now.reference}`), String(member.attempts), member.last_attempt_at ? moment(member.last_attempt_at) : "–"];
  };
  side.replaceChildren(paged(app, registered.members.length, MEMBERS, (first, last) =>
    table(app.say("members"), columns, registered.members.slice(first, last).map(rowOf), { id: "members" })));
}

async function listMissing({ app, view, path }, side) {
  const { members } = await app.api.call("GET", `${path}/why-not`);
  if (view.isGone) return;
  const columns = ["member", "why_not", "advice", "attempts_left"].map((key) => app.say(key));
  side.replaceChildren(paged(app, members.length, MEMBERS, (first, last) =>
    table(app.say("why_not"), columns, members.slice(first, last).map((m) => [m.person_id, m.message, m.advice, String(m.attempts_left_today)]), { id: "missing" })));
}

async function listDoubts({ app, view, path }, side) {
  side.replaceChildren(el("p", {}, app.say("loading")));
  const found = await app.api.call("GET", `${path}/readiness`);
  if (view.isGone) return;
  const doubts = [
    ...found.fences.flatMap((fence) => fence.doubts.map((doubt) => [app.say("fence_of", { version: fence.version }), doubt.message, doubt.advice])),
    ...found.references.map((doubt) => [doubt.person_id, doubt.message, doubt.advice]),
    ...(found.look_alikes?.pairs ?? []).map((doubt) => [doubt.person_ids.join(" / "), doubt.message, doubt.advice]),
  ];
  const columns = ["about", "doubt", "advice"].map((key) => app.say(key));
  side.replaceChildren(el("p", {}, app.say("consents_missing", { number: found.consents_missing, total: found.members })),
    paged(app, doubts.length, MEMBERS, (first, last) => table(app.say("readiness"), columns, doubts.slice(first, last))));
}

async function listNumbers({ app, view, path }, side) {
  const counted = await app.api.call("GET", `${path}/statistics`);
  if (!view.isGone) side.replaceChildren(...numbers(app, counted));
}

const SHOWN = { attempts: async (one, side) => listAttempts(one, side), members: async (one, side) => listMembers(one, side), why_not: listMissing, readiness: listDoubts, numbers: listNumbers };
