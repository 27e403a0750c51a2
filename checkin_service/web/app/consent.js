// The notice, and consent to each of the three things that the law wants asked for one by one.

import { allow, button, el, notice } from "./view.js";

export async function consent(app, page) {
  app.hasOfferedConsent = true;
  page.show({ title: app.say("consent_title"), body: el("p", { class: "busy" }, app.say("loading")) });
  try {
    showNotice(app, page, await app.api.call("GET", "/v1/consent-notice"));
  } catch (error) {
    app.explain(page, error, () => app.go("consent", {}, { replace: true }));
  }
}

function showNotice(app, page, asked) {
  const agree = button(app.say("agree"), () => give(app, page, asked), { class: "first" });
  const boxes = asked.scopes.map((scope) => el("input", { type: "checkbox", id: `scope-${scope}`, change: () => allow(agree, boxes.every((box) => box.checked)) }));
  const labelled = asked.scopes.map((scope, index) => el("div", { class: "choice" }, boxes[index], el("label", { for: `scope-${scope}` }, app.say(`scope_${scope}`))));
  allow(agree, false);
  page.show({
    title: app.say("consent_title"),
    body: [
      el("p", {}, app.say("consent_intro")),
      el("details", { open: true }, el("summary", {}, app.say("notice")), notice(asked.text)),
      el("fieldset", {}, el("legend", {}, app.say("consent_each")), labelled),
    ],
    actions: [agree, button(app.say("not_now"), () => app.go("tasks", {}, { replace: true }), { class: "second half" })],
  });
}

async function give(app, page, asked) {
  try {
    await app.api.call("PUT", "/v1/me/consent", { notice_version: asked.notice_version, scopes: asked.scopes });
  } catch (error) {
    return app.explain(page, error, () => app.go("consent", {}, { replace: true }));
  }
  app.announce(app.say("consent_given"));
  return app.go("tasks", {}, { replace: true });
}
