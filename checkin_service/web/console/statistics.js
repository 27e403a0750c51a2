// How attempts went: by hour, by reason, by phone.

import { bar, figure, table } from "./shown.js";
import { button, el } from "./view.js";

const DAY_MS = 86_400_000;

export async function statistics(app, view) {
  const period = (app.period ??= { from: dayBefore(app, 6), to: dayBefore(app, 0) });
  const side = el("section", { id: "numbers" });
  const load = async () => {
    const counted = await app.api.call("GET", `/v1/statistics?${new URLSearchParams(period)}`);
    if (!view.isGone) side.replaceChildren(...numbers(app, counted));
  };
  const input = (name, label) => el("label", {}, app.say(label), el("input", { type: "date", name, value: period[name], required: true, change: (event) => { period[name] = event.target.value; } }));
  view.show(app.say("statistics"), el("form", { class: "filter", submit: (event) => { event.preventDefault(); app.doing(load); } },
    input("from", "from_day"), input("to", "to_day"), el("button", { type: "submit" }, app.say("show")),
    button(app.say("last_month"), () => { period.from = dayBefore(app, 29); period.to = dayBefore(app, 0); return app.go("statistics"); })), side);
  await load();
}

/** A day in Shanghai, so many before today. */
function dayBefore(app, days) {
  return new Date(app.clock.now() + 8 * 3_600_000 - days * DAY_MS).toISOString().slice(0, 10);
}

/** Statistics of a task or a period as sections. */
export function numbers(app, counted) {
  const total = Object.values(counted.outcomes).reduce((sum, value) => sum + value, 0);
  return [
    el("p", {}, Object.entries(counted.outcomes).map(([outcome, number]) => `${app.say(`outcome_${outcome}`)} ${number}`).join(" · ")),
    el("h3", {}, app.say("by_hour")), total ? byHour(app, counted.hours) : el("p", {}, app.say("nothing")),
    el("h3", {}, app.say("by_reason")), byReason(app, counted.reasons),
    el("h3", {}, app.say("by_phone")), el("p", { class: "faint" }, app.say("phone_note")), byPhone(app, counted.phones),
  ];
}

function byHour(app, hours) {
  const found = new Map(hours.map((hour) => [hour.hour, hour]));
  const most = Math.max(...hours.map((hour) => hour.attempts));
  const [first, last] = [hours[0].hour, hours.at(-1).hour];
  const rows = Array.from({ length: last - first + 1 }, (_, index) => found.get(first + index) ?? { hour: first + index, attempts: 0, rejected: 0 });
  return table(app.say("by_hour"), [app.say("hour"), app.say("attempts"), app.say("refused")],
    rows.map((row) => [`${String(row.hour).padStart(2, "0")}:00`, [bar(row.attempts, most), ` ${row.attempts}`], [bar(row.rejected, most, "bad"), ` ${row.rejected}`]]), { id: "hours" });
}

function byReason(app, reasons) {
  const most = Math.max(1, ...reasons.map((reason) => reason.attempts));
  return table(app.say("by_reason"), [app.say("reason"), app.say("attempts"), app.say("persons")],
    reasons.map((reason) => [app.say(`reason_${reason.code}`), [bar(reason.attempts, most, "bad"), ` ${reason.attempts}`], String(reason.persons)]), { id: "reasons" });
}

function byPhone(app, phones) {
  const columns = ["phone", "attempts", "persons", "refused", "refusal_rate", "reasons"].map((key) => app.say(key));
  return table(app.say("by_phone"), columns, phones.map((phone) => [
    `${phone.model ?? app.say("other_models")} (${phone.platform})`, String(phone.attempts), String(phone.persons), String(phone.rejected),
    [bar(phone.rejected, phone.attempts, "bad"), ` ${figure((100 * phone.rejected) / phone.attempts, 0)} %`],
    phone.reasons.map((reason) => `${app.say(`reason_${reason.code}`)} ${reason.attempts}`).join(" · "),
  ]), { id: "phones" });
}
