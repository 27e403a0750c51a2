// My data: what is stored of me, and taking back my consent.

import { button, el } from "./view.js";

export async function mine(app, page) {
  const said = el("p", { role: "status" });
  const withdrawal = el("div", {}, button(app.say("withdraw"), () => confirmWithdrawal(app, page, withdrawal), { class: "second" }));
  page.show({
    title: app.say("mine_title"),
    body: [
      el("p", {}, app.say("signed_in_as", { person: app.session.claims.sub })),
      el("h2", {}, app.say("export_title")),
      el("p", {}, app.say("export_text")),
      button(app.say("export"), () => save(app, page, said), { class: "second" }),
      said,
      el("h2", {}, app.say("withdraw_title")),
      el("p", {}, app.say("withdraw_text")),
      withdrawal,
      el("h2", {}, app.say("sign_out_title")),
      button(app.say("sign_out"), () => leave(app), { class: "second" }),
    ],
    actions: app.homeButton(),
  });
}

async function save(app, page, said) {
  try {
    const stored = await app.api.call("GET", "/v1/me/export");
    const file = URL.createObjectURL(new Blob([JSON.stringify(stored, null, 1)], { type: "application/json" }));
    el("a", { href: file, download: "checkin-export.json" }).click();
    page.atEnd(() => URL.revokeObjectURL(file));
    said.textContent = app.say("exported");
  } catch (error) {
    app.explain(page, error, () => app.go("mine", {}, { replace: true }));
  }
}

function confirmWithdrawal(app, page, place) {
  place.replaceChildren(
    el("p", { role: "alert" }, app.say("withdraw_sure")),
    button(app.say("withdraw_yes"), () => withdraw(app, page), { class: "grave" }),
    button(app.say("withdraw_no"), () => app.go("mine", {}, { replace: true }), { class: "second" }),
  );
}

async function withdraw(app, page) {
  try {
    await app.api.call("DELETE", "/v1/me/consent");
  } catch (error) {
    return app.explain(page, error, () => app.go("mine", {}, { replace: true }));
  }
  await app.outbox.remove(app.session.owner);
  app.announce(app.say("withdrawn"));
  return app.go("tasks", {}, { replace: true });
}

function leave(app) {
  app.session.end();
  app.me = null;
  return app.go("signed_out", {}, { replace: true });
}
