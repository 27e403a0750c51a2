// What is asked of me: where, until when, and what to do next.

import { countdown } from "./clock.js";
import { metresBetween, roundedDistance, toWgs84 } from "./frames.js";
import { button, el } from "./view.js";

const SOON_MS = 24 * 3600 * 1000;

export async function tasks(app, page) {
  page.show({ title: app.say("tasks_title"), body: el("p", { class: "busy" }, app.say("loading")) });
  try {
    await app.refresh();
  } catch (error) {
    return app.explain(page, error, () => app.go("tasks", {}, { replace: true }));
  }
  if (page.isGone) return;
  if (await app.outbox.find(app.session.owner)) return app.go("sending", {}, { replace: true });
  const wanted = app.me.tasks.filter((task) => task.next === "give_consent");
  if (wanted.length && !app.hasOfferedConsent) return app.go("consent", { task_id: wanted[0].task_id });
  showTasks(app, page);
}

function showTasks(app, page) {
  const inOrder = [...app.me.tasks].sort((one, other) => rank(one) - rank(other) || Date.parse(one.closes_at) - Date.parse(other.closes_at));
  const pressing = inOrder.filter((task) => rank(task) === 0);
  app.taskId = pressing[0]?.task_id ?? inOrder[0]?.task_id ?? null;
  const cards = inOrder.map((task) => card(app, page, task, pressing.length === 1));
  const none = el("p", {}, app.say("no_tasks"));
  page.show({
    title: app.say("tasks_title"),
    body: cards.length ? cards : none,
    actions: [
      pressing.length === 1 ? step(app, pressing[0]) : "",
      button(app.say("rehearse"), () => app.go("rehearsal", { task_id: app.taskId }), { class: "second" }),
    ],
  });
}

/** 0: something can be done now, 1: it will be, 2: it is over. */
function rank(task) {
  if (task.own_state === "accepted" || task.state === "expired" || task.state === "invalidated") return 2;
  return task.next === "nothing" || task.next === "wait_for_opening" || task.next === "wait_for_reference" ? 1 : 0;
}

function card(app, page, task, isActionBelow) {
  const heading = el("h2", {}, task.enterprise.name);
  const isDone = task.own_state === "accepted";
  const parts = [heading, el("p", {}, app.say("place"), " ", el("strong", {}, task.place.registered_address))];
  if (isDone) parts.push(el("p", { class: "good" }, app.say("accepted_card", { at: app.sayInstant(Date.parse(task.accepted_at)) })));
  else parts.push(...stillToDo(app, page, task));
  if (isDone) parts.push(button(app.say("show_receipt"), () => app.go("receipt", { task_id: task.task_id }), { class: "second" }));
  else if (!isActionBelow && rank(task) === 0) parts.push(step(app, task));
  return el("section", { class: "card" }, parts);
}

function stillToDo(app, page, task) {
  const closesAt = Date.parse(task.closes_at);
  const left = el("p", { class: "left", role: "timer" });
  page.every(1000, () => {
    const { key, ...figures } = countdown(closesAt - app.clock.now());
    left.textContent = app.say(key, figures);
    left.classList.toggle("soon", closesAt - app.clock.now() < SOON_MS);
  });
  const next = task.own_state === "in_review" ? app.say("in_review_card") : task.next_text;
  const attempts = task.next === "check_in" ? el("p", { class: "small" }, app.say("attempts_left", { attempts: task.attempts_left })) : "";
  return [left, el("p", {}, next), attempts, distance(app, page, task)];
}

/** Read only when asked for, and not sent: the notice promises both. */
function distance(app, page, task) {
  const shown = el("p", { class: "small" });
  const look = () => {
    const tell = () => {
      shown.textContent = distanceText(app, task);
      app.announce(shown.textContent);
      if (app.positions.newest || app.positions.fault) app.positions.stop();
    };
    page.atEnd(() => app.positions.stop());
    shown.textContent = app.say("locating");
    app.positions.start(tell);
  };
  return el("div", {}, shown, button(app.say("how_far"), look, { class: "link" }));
}

/** How far the phone is from the point of a task's place that the service names, in words. */
export function distanceText(app, task) {
  const { newest, fault } = app.positions;
  if (!newest) return app.say(fault ?? "locating");
  const there = toWgs84([task.place.lon, task.place.lat], task.place.frame);
  const { key, ...figures } = roundedDistance(metresBetween([newest.lon, newest.lat], there), newest.accuracy_m);
  return app.say(key, figures);
}

function step(app, task) {
  const steps = { give_consent: ["read_notice", "consent"], check_in: ["check_in", "capture"], ask_manually: ["manual_ask", "manual"] };
  const [label, screen] = steps[task.next];
  return button(app.say(label), () => app.go(screen, { task_id: task.task_id }), { class: "first" });
}
