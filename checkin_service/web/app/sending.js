// A check-in on its way: sent until an answer is known, across bad networks and reloads, and what the answer says.

import { alone } from "./outbox.js";
import { afterAsking, afterSending } from "./retry.js";
import { button, el } from "./view.js";

export async function sending(app, page) {
  const shown = { bar: el("progress", { max: "1", value: "0", "aria-label": app.say("progress") }), text: el("p", { role: "status" }, app.say("sending")) };
  const now = button(app.say("now"), () => shown.hurry?.(), { class: "first", hidden: true });
  shown.now = now;
  page.show({ title: app.say("sending_title"), body: [shown.bar, shown.text, el("p", { class: "small" }, app.say(app.keepsItems ? "sending_kept" : "storage_bad"))], actions: [now] });
  const gone = new AbortController();
  page.atEnd(() => gone.abort());
  const waiting = () => (shown.text.textContent = app.say("other_tab"));
  const end = await alone(`checkin-${app.session.owner}`, waiting, () => deliver(app, page, shown, gone.signal));
  if (!page.isGone) conclude(app, page, end);
}

/** How it ended: done with the answer, or why it can't go on. */
async function deliver(app, page, shown, signal) {
  for (let tries = 1; !page.isGone; tries += 1) {
    const item = await app.outbox.find(app.session.owner);
    if (!item) return { step: "gone" };
    const [answer, next] = item.status_url ? await ask(app, item, tries) : await send(app, page, item, shown, tries, signal);
    if (next.step === "sign_in" || page.isGone) return { ...next, answer };
    if (next.step === "ask" && !item.status_url) await app.outbox.put({ ...item, bytes: null, status_url: answer.body?.status_url ?? `/v1/check-ins/${answer.body?.check_in_id}` });
    if (next.step === "ask" || next.step === "again") {
      await pause(app, page, shown, next.wait, item.status_url || next.step === "ask" ? "judging" : "no_answer");
      continue;
    }
    await app.outbox.remove(item.owner);
    return { ...next, answer, task_id: item.task_id };
  }
  return { step: "gone" };
}

async function send(app, page, item, shown, tries, signal) {
  shown.text.textContent = app.say("sending");
  shown.bar.value = 0;
  const progress = (share) => {
    shown.bar.value = Math.min(1, share);
    if (share >= 1) shown.text.textContent = app.say("judging_now");
  };
  const answer = await app.api.upload("/v1/check-ins", item, progress, signal);
  return [answer, afterSending(answer, tries)];
}

async function ask(app, item, tries) {
  const answer = await app.api.answer("GET", item.status_url);
  return [answer, afterAsking(answer, answer.body?.outcome, tries)];
}

/** Counts down where it is seen; a tap, or the network's return, ends it. */
function pause(app, page, shown, seconds, key) {
  return new Promise((resolve) => {
    const due = app.clock.ticks() + seconds * 1000;
    const end = () => {
      clearInterval(timer);
      removeEventListener("online", end);
      shown.now.hidden = true;
      shown.hurry = null;
      resolve();
    };
    const tick = () => {
      const left = Math.ceil((due - app.clock.ticks()) / 1000);
      if (left <= 0) end();
      else shown.text.textContent = app.say(key, { seconds: left });
    };
    const timer = setInterval(tick, 250);
    shown.hurry = end;
    shown.now.hidden = key === "judging";
    addEventListener("online", end);
    page.atEnd(end);
    tick();
  });
}

function conclude(app, page, end) {
  if (end.step === "done") {
    app.answer = { ...end.answer.body, task_id: end.task_id };
    return app.go("result", { task_id: end.task_id }, { replace: true });
  }
  if (end.step === "gone") return app.go("tasks", {}, { replace: true });
  if (end.step === "consent") return app.go("consent", { task_id: end.task_id }, { replace: true });
  if (end.step === "sign_in") {
    app.session.end();
    return app.go("signed_out", {}, { replace: true });
  }
  return page.show({
    title: end.answer.title || app.say("failed_title"),
    body: el("p", { role: "alert" }, end.answer.detail || app.say("failed_text")),
    actions: [button(app.say("check_in_again"), () => app.go("capture", { task_id: end.task_id }, { replace: true }), { class: "first" }), app.homeButton()],
  });
}

const NO_MORE_HERE = ["task_not_open", "window_not_open", "window_closed", "too_many_attempts", "not_enrolled"];

/** What came of it, and what to do next, in the service's own words. */
export async function result(app, page, params) {
  const answer = app.answer;
  if (!answer) return app.go("tasks", {}, { replace: true });
  const reasons = answer.reasons ?? [];
  const again = answer.outcome === "rejected" && !reasons.some(({ code }) => NO_MORE_HERE.includes(code));
  const parts = reasons.map(({ code, message, advice }) => el("div", { class: "reason", "data-reason": code }, el("strong", {}, message), el("p", {}, advice)));
  if (answer.outcome === "accepted") parts.unshift(el("p", {}, app.say("accepted_at", { at: app.sayInstant(Date.parse(answer.received_at)) })));
  if (answer.outcome === "review") parts.unshift(el("p", {}, app.say("review_text")));
  if (again) parts.push(el("p", { class: "small" }, app.say("attempts_left", { attempts: answer.attempts_left })));
  page.show({
    title: app.say(`outcome_${answer.outcome}`),
    body: el("div", { class: `outcome ${answer.outcome}`, "data-outcome": answer.outcome }, parts),
    actions: [
      again ? button(app.say("check_in_again"), () => app.go("capture", params, { replace: true }), { class: "first" }) : "",
      answer.receipt ? button(app.say("show_receipt"), () => app.go("receipt", params), { class: "first" }) : "",
      app.homeButton(),
    ],
  });
}
