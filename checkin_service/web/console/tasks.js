// Tasks by deadline or by risk, with filters.

import { bar, figure, select } from "./shown.js";
import { button, el } from "./view.js";

const PAGE = 50;
const SOON_DAYS = 3;
const WINDOWS = [["running", "window_running"], ["waiting", "window_waiting"], ["all", "window_all"]];
const ORDERS = [["deadline", "order_deadline"], ["risk", "order_risk"]];
const DAYS = [["", "days_any"], ["0", "days_0"], ["3", "days_3"], ["7", "days_7"], ["14", "days_14"]];

export async function tasks(app, view) {
  const filter = (app.filter ??= { window: "running", order: "deadline", within_days: "", in_review: false, q: "" });
  const body = el("tbody");
  const columns = ["enterprise", "task", "state", "deadline", "progress", "missing", "missing_a_day", "in_review"];
  const head = el("thead", {}, el("tr", {}, columns.map((key) => el("th", { scope: "col" }, app.say(key)))));
  const more = button(app.say("more"), () => load(), { class: "more" });
  const shown = el("p", { class: "faint", role: "status" });
  let next = "";

  async function load(isAnew = false) {
    const page = await ask(app, filter, isAnew ? "" : next, isAnew ? Math.max(PAGE, Math.min(500, body.rows.length)) : PAGE);
    if (view.isGone) return;
    const focused = isAnew ? body.querySelector("button:focus")?.dataset.task : null;
    const rows = page.tasks.map((task) => row(app, task));
    if (isAnew) body.replaceChildren(...rows);
    else body.append(...rows);
    next = page.next ?? "";
    more.hidden = !page.next;
    shown.textContent = body.rows.length ? app.say(page.next ? "shown_more" : "shown_all", { shown: body.rows.length }) : app.say("nothing");
    if (focused) body.querySelector(`[data-task="${CSS.escape(focused)}"]`)?.focus();
  }

  const set = (name, value) => {
    filter[name] = value;
    return load(true);
  };
  const form = el("form", { class: "filter", role: "search", submit: (event) => { event.preventDefault(); set("q", event.target.elements.q.value.trim()); } },
    select(app, "window", "window", WINDOWS, filter.window, (value) => set("window", value)),
    select(app, "order", "order", ORDERS, filter.order, (value) => set("order", value)),
    select(app, "days_left", "within_days", DAYS, filter.within_days, (value) => set("within_days", value)),
    el("label", { class: "check" }, el("input", { type: "checkbox", name: "in_review", checked: filter.in_review, change: (event) => set("in_review", event.target.checked) }), app.say("only_in_review")),
    el("label", {}, app.say("search"), el("input", { type: "search", name: "q", maxlength: "100", value: filter.q, placeholder: app.say("search_what") })),
    el("button", { type: "submit" }, app.say("search")));
  view.show(app.say("tasks"), form, el("div", { class: "wide" }, el("table", { id: "tasks" }, el("caption", { class: "unseen" }, app.say("tasks")), head, body)), shown, more);
  view.keys({ j: () => step(body, 1), k: () => step(body, -1), "/": () => form.elements.q.focus() });
  view.hears(1500, () => load(true));
  await load(true);
}

function ask(app, filter, after, limit) {
  const asked = new URLSearchParams({ window: filter.window, order: filter.order, in_review: String(filter.in_review), limit: String(limit) });
  if (filter.within_days) asked.set("within_days", filter.within_days);
  if (filter.q) asked.set("q", filter.q);
  if (after) asked.set("after", after);
  return app.api.call("GET", `/v1/tasks?${asked}`);
}

function row(app, task) {
  const { accepted, total, in_review } = task.progress;
  const open = button(task.enterprise.name, () => app.go("task", { task_id: task.task_id }), { class: "link", "data-task": task.task_id });
  const isSoon = task.missing > 0 && task.days_left <= SOON_DAYS;
  const left = task.days_left < 0 ? app.say("days_over") : app.say("days", { days: task.days_left });
  return el("tr", { class: isSoon ? "soon" : "", "data-task-row": task.task_id },
    el("th", { scope: "row" }, open),
    el("td", {}, task.task_id),
    el("td", {}, app.say(`state_${task.state}`), task.provisional ? ` ${app.say("provisional")}` : ""),
    el("td", {}, `${app.deadline(task.closes_at)} `, el("span", { class: "left" }, left)),
    el("td", {}, bar(accepted, total), ` ${accepted}/${total}`),
    el("td", {}, String(task.missing), task.lacking_material ? ` ${app.say("lacking", { number: task.lacking_material })}` : ""),
    el("td", {}, figure(task.missing_a_day)),
    el("td", {}, String(in_review)));
}

/** Moves the focus to the row after or before. */
function step(body, by) {
  const buttons = [...body.querySelectorAll("button.link")];
  const at = buttons.indexOf(document.activeElement);
  buttons[Math.max(0, Math.min(buttons.length - 1, at + by))]?.focus();
}
