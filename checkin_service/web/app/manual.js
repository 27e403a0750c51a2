// The way without face recognition: ask that people judge.

import { allow, button, el } from "./view.js";

const WHY = ["manual_why_face", "manual_why_camera", "manual_why_position", "manual_why_refused"];

export async function manual(app, page, { task_id: taskId }) {
  try {
    if (!app.me) await app.refresh();
  } catch (error) {
    return app.explain(page, error, () => app.go("manual", { task_id: taskId }, { replace: true }));
  }
  const open = app.me.tasks.filter((task) => task.own_state !== "accepted");
  if (!open.length) return page.show({ title: app.say("manual_title"), body: el("p", {}, app.say("manual_none")), actions: app.homeButton() });
  showForm(app, page, open, open.find((task) => task.task_id === taskId) ?? open[0]);
}

function showForm(app, page, open, chosen) {
  const text = el("textarea", { id: "why", rows: "3", maxlength: "500", required: true });
  const send = button(app.say("manual_send"), () => ask(app, page, { taskId: which.value, text, position, key }), { class: "first" });
  const key = crypto.randomUUID?.() ?? String(Math.random());
  const which = el("select", { id: "which" }, open.map((task) => el("option", { value: task.task_id, selected: task === chosen }, task.enterprise.name)));
  const position = el("input", { type: "checkbox", id: "with-position" });
  const changed = () => allow(send, text.value.trim().length > 0);
  const fill = (why) => {
    text.value = app.say(why);
    changed();
  };
  text.addEventListener("input", changed);
  changed();
  page.show({
    title: app.say("manual_title"),
    body: [
      el("p", {}, app.say("manual_intro")),
      el("div", { class: "field" }, el("label", { for: "which" }, app.say("manual_task")), which),
      el("div", { class: "field" }, el("label", { for: "why" }, app.say("manual_why")), text),
      el("div", { class: "chips" }, WHY.map((why) => button(app.say(why), () => fill(why), { class: "chip" }))),
      app.me.consent.scopes.includes("location")
        ? el("div", { class: "choice" }, position, el("label", { for: "with-position" }, app.say("manual_position")))
        : "",
    ],
    actions: [send, app.homeButton()],
  });
}

async function ask(app, page, { taskId, text, position, key }) {
  const asked = { task_id: taskId, reason: text.value.trim() };
  if (position.checked) {
    await located(app, page);
    const fixes = app.positions.asSent();
    if (fixes.length) Object.assign(asked, { fixes, frame: "wgs84" });
  }
  try {
    const made = await app.api.call("POST", "/v1/manual-requests", asked, { "Idempotency-Key": key });
    showAsked(app, page, made);
  } catch (error) {
    app.explain(page, error, () => app.go("manual", { task_id: taskId }, { replace: true }));
  }
}

/** Waits for a precise fix, but not for ever: the request counts without one, too. */
function located(app, page) {
  return new Promise((resolve) => {
    const end = () => {
      app.positions.stop();
      resolve();
    };
    page.atEnd(end);
    setTimeout(end, 10_000);
    app.positions.start(() => (app.positions.isPrecise || app.positions.fault ? end() : null));
  });
}

function showAsked(app, page, made) {
  const text = app.say("manual_done", { at: app.sayInstant(Date.parse(made.received_at)) });
  app.announce(text);
  page.show({
    title: app.say("manual_done_title"),
    body: [el("p", { class: "good" }, text), el("p", { class: "small" }, app.say("manual_number"), " ", el("code", {}, made.manual_request_id))],
    actions: app.homeButton(),
  });
}
