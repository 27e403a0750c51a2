// Is this phone ready? Found out before the way is gone; nothing leaves the phone and no attempt is spent.

import { closeCamera, light, openCamera } from "./camera.js";
import { button, el, oval } from "./view.js";

const CLOCK_OFF_MS = 60_000;

export async function rehearsal(app, page, params) {
  const video = el("video", { playsinline: true, muted: true, autoplay: true, "aria-hidden": "true" });
  const rows = Object.fromEntries(["network", "clock", "storage", "camera", "light", "position"].map((name) => [name, row(app, name)]));
  page.atEnd(() => closeCamera(video));
  page.atEnd(() => app.positions.stop());
  page.show({
    title: app.say("rehearsal_title"),
    body: [
      el("p", {}, app.say("rehearsal_intro")),
      el("p", { class: "verdict", role: "status" }),
      el("ul", { class: "checks" }, Object.values(rows).map((each) => each.item)),
      el("div", { class: "camera small" }, video, oval()),
    ],
    actions: [button(app.say("again"), () => app.go("rehearsal", params, { replace: true }), { class: "first" }), app.homeButton()],
  });
  const told = () => conclude(app, rows);
  await Promise.all([network(app, rows, told), camera(app, page, video, rows, told), position(app, rows, told)]);
}

async function network(app, rows, told) {
  rows.storage.tell(app.keepsItems ? "good" : "bad", app.say(app.keepsItems ? "storage_good" : "storage_bad"));
  try {
    await app.refresh();
    rows.network.tell("good", app.say("network_good"));
    const off = Math.abs(Date.now() - app.clock.now());
    const isOff = off > CLOCK_OFF_MS;
    rows.clock.tell("good", isOff ? app.say("clock_off", { minutes: Math.round(off / 60_000) }) : app.say("clock_good"));
  } catch {
    rows.network.tell("bad", app.say("offline_text"));
    rows.clock.tell("bad", app.say("clock_unknown"));
  }
  told();
}

async function camera(app, page, video, rows, told) {
  try {
    await openCamera(video);
  } catch (fault) {
    rows.camera.tell("bad", app.say(fault.message));
    rows.light.tell("bad", app.say("light_unknown"));
    return told();
  }
  if (page.isGone) return closeCamera(video);
  rows.camera.tell("good", app.say("camera_good"));
  page.every(700, () => {
    const seen = light(video);
    rows.light.tell(seen === "fine" ? "good" : "bad", app.say(seen === "fine" ? "light_good" : seen));
    told();
  });
}

async function position(app, rows, told) {
  app.positions.start(() => {
    const { newest, isPrecise, fault } = app.positions;
    if (newest) {
      const metres = Math.ceil(newest.accuracy_m);
      rows.position.tell(isPrecise ? "good" : "bad", app.say(isPrecise ? "position_good" : "position_rough", { metres }));
    } else rows.position.tell("bad", app.say(fault));
    told();
  });
}

function row(app, name) {
  const said = el("span", {}, app.say("checking"));
  const item = el("li", { class: "waits", "data-check": name }, el("strong", {}, app.say(`check_${name}`)), " ", said);
  const made = { item, state: "waits" };
  made.tell = (state, text) => {
    made.state = item.className = state;
    if (said.textContent !== text) said.textContent = text;
  };
  return made;
}

function conclude(app, rows) {
  const states = Object.values(rows).map((each) => each.state);
  const verdict = document.querySelector(".verdict");
  if (!verdict || states.includes("waits")) return;
  const text = app.say(states.includes("bad") ? "not_ready" : "ready");
  if (verdict.textContent !== text) verdict.textContent = text;
}
