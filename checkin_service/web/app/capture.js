// The check-in: a picture of now, with where the phone is, and the turns that the challenge asks for.

import { closeCamera, faceFinder, light, openCamera, photograph } from "./camera.js";
import { formBytes } from "./outbox.js";
import { distanceText } from "./tasks.js";
import { allow, button, el, oval } from "./view.js";

const SELFIE_PX = 1280;
const FRAME_PX = 640;
const TURN_MS = 2200;
const BACK_MS = 1500;

export async function capture(app, page, { task_id: taskId }) {
  const task = app.task(taskId) ?? (await app.refresh().then(() => app.task(taskId), () => null));
  if (!task) return app.go("tasks", {}, { replace: true });
  const video = el("video", { playsinline: true, muted: true, autoplay: true, "aria-label": app.say("camera_view") });
  const hint = el("p", { class: "hint", role: "status" }, app.say("opening_camera"));
  const where = el("p", { class: "small where" }, app.say("locating"));
  const shutter = button(app.say("take"), () => take(app, page, { task, video, hint }), { class: "first" });
  allow(shutter, false);
  page.show({
    title: app.say("capture_title"),
    body: [el("p", { class: "small" }, task.place.registered_address), where, hint, el("div", { class: "camera" }, video, oval())],
    actions: [shutter, button(app.say("back"), () => app.go("tasks", {}, { replace: true }), { class: "second half" })],
  });
  page.atEnd(() => closeCamera(video));
  page.atEnd(() => app.positions.stop());
  const state = { isOpen: false, isTaking: false };
  page.state = state;
  app.positions.start(() => {
    where.textContent = whereText(app, task);
    ready(app, state, shutter);
  });
  try {
    await openCamera(video);
  } catch (fault) {
    return showFault(app, page, taskId, fault.message);
  }
  if (page.isGone) return closeCamera(video);
  state.isOpen = true;
  ready(app, state, shutter);
  guide(app, page, video, hint);
}

/** A position that the service would not use costs a photograph and a way: the phone is waited for. */
function ready(app, state, shutter) {
  if (!state.isTaking) allow(shutter, state.isOpen && app.positions.isPrecise);
}

function whereText(app, task) {
  const { newest, isPrecise } = app.positions;
  const rough = newest && !isPrecise ? [app.say("position_rough", { metres: Math.ceil(newest.accuracy_m) })] : [];
  return [distanceText(app, task), ...rough].join(" ");
}

function guide(app, page, video, hint) {
  const find = faceFinder();
  page.every(600, async () => {
    if (page.isGone || page.state.isTaking || !video.videoWidth) return;
    const seen = light(video);
    const word = seen === "fine" ? await find(video) : seen;
    if (!page.isGone && !page.state.isTaking) tell(hint, app.say(word === "fine" ? "hold_still" : word));
  });
}

function tell(hint, text) {
  if (hint.textContent !== text) hint.textContent = text;
}

async function take(app, page, { task, video, hint }) {
  page.state.isTaking = true;
  try {
    tell(hint, app.say("taking"));
    const asked = await app.api.call("POST", "/v1/challenges", { task_id: task.task_id });
    const capturedAt = new Date();
    const selfie = await photograph(video, SELFIE_PX, 0.92);
    const burst = await turns(app, page, video, hint, asked.actions);
    if (page.isGone) return;
    await keep(app, { task, asked, capturedAt, selfie, burst });
    app.go("sending", { task_id: task.task_id }, { replace: true });
  } catch (error) {
    closeCamera(video);
    app.positions.stop();
    if (error.code === "consent_required") return app.go("consent", {}, { replace: true });
    app.explain(page, error, () => app.go("capture", { task_id: task.task_id }, { replace: true }));
  } finally {
    page.state.isTaking = false;
  }
}

/** From the front to each turn and back, a frame each; the person's own left and right. */
async function turns(app, page, video, hint, actions) {
  if (!actions.length) return [];
  const frames = [await photograph(video, FRAME_PX, 0.85)];
  for (const action of actions) {
    for (const [text, ms] of [[action, TURN_MS], ["turn_back", BACK_MS]]) {
      if (page.isGone) return frames;
      tell(hint, app.say(text));
      app.announce(app.say(text));
      navigator.vibrate?.(40);
      await new Promise((resolve) => setTimeout(resolve, ms));
      frames.push(await photograph(video, FRAME_PX, 0.85));
    }
  }
  return frames;
}

async function keep(app, { task, asked, capturedAt, selfie, burst }) {
  const fields = {
    task_id: task.task_id,
    challenge_id: asked.challenge_id,
    frame: "wgs84",
    captured_at: capturedAt.toISOString(),
    fixes: app.positions.asSent(),
    device: { platform: platform(), device_id: deviceId(app) },
  };
  const form = await formBytes(fields, [["selfie", selfie], ...burst.map((frame) => ["burst", frame])]);
  await app.outbox.put({ owner: app.session.owner, task_id: task.task_id, key: asked.challenge_id, saved_at: Date.now(), ...form });
}

function platform() {
  const agent = navigator.userAgent;
  if (/HarmonyOS|OpenHarmony/i.test(agent)) return "harmony";
  if (/Android/i.test(agent)) return "android";
  return /iPhone|iPad|iPod/i.test(agent) ? "ios" : "other";
}

/** Made up once a phone; the notice speaks of it. */
function deviceId(app) {
  const made = app.kept.getItem("checkin.device") ?? crypto.randomUUID();
  app.kept.setItem("checkin.device", made);
  return made;
}

function showFault(app, page, taskId, fault) {
  page.show({
    title: app.say("capture_title"),
    body: el("p", { role: "alert" }, app.say(fault)),
    actions: [button(app.say("again"), () => app.go("capture", { task_id: taskId }, { replace: true }), { class: "first" }), app.homeButton()],
  });
}
