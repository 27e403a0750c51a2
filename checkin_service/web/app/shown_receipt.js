// The receipt as its owner shows it, and as others check it.

import { qrCode } from "./qr.js";
import { receiptLink, verifyReceipt } from "./receipt.js";
import { button, el, modules } from "./view.js";

export async function receipt(app, page, { task_id: taskId }) {
  page.show({ title: app.say("receipt_title"), body: el("p", { class: "busy" }, app.say("loading")) });
  try {
    await app.refresh();
    const task = app.task(taskId);
    if (!task?.check_in_id) return app.go("tasks", {}, { replace: true });
    const from = task.method === "manual" ? "manual-requests" : "check-ins";
    const answer = await app.api.call("GET", `/v1/${from}/${task.check_in_id}`);
    showReceipt(app, page, task, answer.receipt);
  } catch (error) {
    app.explain(page, error, () => app.go("receipt", { task_id: taskId }, { replace: true }));
  }
}

function showReceipt(app, page, task, signed) {
  const link = receiptLink(signed);
  const copied = el("p", { role: "status" });
  const share = async () => {
    try {
      if (navigator.share) await navigator.share({ title: app.say("receipt_title"), url: link });
      else await navigator.clipboard.writeText(link);
      copied.textContent = app.say(navigator.share ? "shared" : "copied");
    } catch {
      copied.textContent = app.say("copy_by_hand");
    }
  };
  page.show({
    title: app.say("receipt_title"),
    body: [
      el("p", { class: "good" }, app.say("accepted_at", { at: app.sayInstant(Date.parse(task.accepted_at)) })),
      modules(qrCode(new TextEncoder().encode(link)), app.say("receipt_picture")),
      facts([
        [app.say("enterprise"), task.enterprise.name],
        [app.say("place"), task.place.registered_address],
        [app.say("number"), task.check_in_id],
      ]),
      el("p", {}, app.say("receipt_text")),
      el("div", { class: "field" }, el("label", { for: "code" }, app.say("receipt_code")), el("textarea", { id: "code", rows: "4", readonly: true }, link)),
      copied,
    ],
    actions: [button(app.say("share"), share, { class: "first" }), app.homeButton()],
  });
}

/** For whoever was shown a link: nobody is signed in. */
export async function verification(app, page, { receipt: signed }) {
  page.show({ title: app.say("verification_title"), body: el("p", { class: "busy" }, app.say("loading")) });
  let keys;
  try {
    keys = await app.api.call("GET", "/v1/receipt-keys");
  } catch (error) {
    return app.explain(page, error, () => app.go("verification", { receipt: signed }, { replace: true }));
  }
  const claims = await verifyReceipt(signed, keys);
  if (!claims) return page.show({ title: app.say("not_genuine_title"), body: el("p", { class: "bad", role: "alert" }, app.say("not_genuine")) });
  page.show({
    title: app.say("genuine_title"),
    body: [
      el("p", { class: "good" }, app.say("genuine")),
      facts([
        [app.say("person"), claims.sub],
        [app.say("task"), claims.task_id],
        [app.say("number"), claims.check_in_id],
        [app.say("when"), app.sayInstant(Date.parse(claims.accepted_at))],
        [app.say("how"), app.say(`method_${claims.method}`)],
      ]),
    ],
  });
}

function facts(pairs) {
  return el("dl", {}, pairs.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}
