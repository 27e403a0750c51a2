// What several views show in the same way.

import { button, el } from "./view.js";

/** A table, in a place that scrolls where it is too wide, with a caption for the ear; `columns` are texts, `rows` lists of cells or rows made already. */
export function table(caption, columns, rows, attributes = {}) {
  const head = el("thead", {}, el("tr", {}, columns.map((text) => el("th", { scope: "col" }, text))));
  return el("div", { class: "wide" }, el("table", attributes, el("caption", { class: "unseen" }, caption), head, el("tbody", {}, rows.map(rowOf))));
}

function rowOf(row) {
  return Array.isArray(row) ? el("tr", {}, row.map((cell) => el("td", {}, cell))) : row;
}

/** Reasons in the service's words: what happened, and what the person was advised. */
export function reasonList(reasons, none) {
  if (!reasons.length) return el("p", { class: "faint" }, none);
  return el("ul", { class: "reasons" }, reasons.map(({ code, message, advice }) =>
    el("li", { "data-code": code }, el("strong", {}, message), advice ? el("span", { class: "faint" }, ` ${advice}`) : "")));
}

/** Names and what stands beside them; what is null is left out. */
export function facts(pairs) {
  return el("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** So much of so many, for the eye; the figure stands beside it. */
export function bar(value, most, kind = "") {
  return el("meter", { class: kind, min: "0", max: String(Math.max(most, 1)), value: String(value), "aria-hidden": "true" });
}

export function figure(value, digits = 1) {
  return value === null || value === undefined ? "–" : Number(value.toFixed(digits)).toString();
}

/** A list too long for one view: `page(from, to)` makes the rows shown, buttons lead on. */
export function paged(app, total, size, page) {
  const place = el("div");
  const shown = el("span", { role: "status" });
  let first = 0;
  const show = () => {
    const last = Math.min(first + size, total);
    shown.textContent = total ? app.say("range", { first: first + 1, last, total }) : app.say("nothing");
    place.replaceChildren(page(first, last));
  };
  const step = (by) => () => {
    first = Math.max(0, Math.min(first + by, Math.max(0, total - 1)));
    first -= first % size;
    show();
  };
  show();
  const buttons = total > size ? [button(app.say("before"), step(-size)), button(app.say("after"), step(size))] : [];
  return el("section", {}, place, el("p", { class: "paging" }, shown, ...buttons));
}

/** To fence and buffer, in words; null where none is known. */
export function distance(app, location) {
  if (location?.distance_m == null) return null;
  const figures = { metres: figure(Math.abs(location.distance_m)), error: figure(location.r95_m, 0) };
  return app.say(location.distance_m > 0 ? "metres_outside" : "metres_inside", figures);
}

export function moment(text) {
  return `${text.slice(0, 10)} ${text.slice(11, 19)}`;
}

/** A choice of some words, each a text of the page. */
export function select(app, label, name, values, chosen, change) {
  const options = values.map(([value, key]) => el("option", { value, selected: value === chosen }, app.say(key)));
  return el("label", {}, app.say(label), el("select", { name, change: (event) => change(event.target.value) }, options));
}
