// The check-in: a picture of now, with where the phone is, and the test of liveness that the challenge asks for.

import type { Challenge, Task } from "./answers";
import { photograph } from "./camera";
import type { Item } from "./outbox";
import type { Phone } from "./phone";
import { FRAME } from "./position";
import { answered, Fault, pause } from "./wechat";

const SELFIE_PX = 1280;
const FRAME_PX = 640;
const TURN_MS = 2200;
const BACK_MS = 1500;

/**
 * Takes a check-in and stores it before anything of it is sent; `tell` says what the person is to do, as the key of a
 * text. Throws `Fault`, `Problem` and `Offline`.
 */
export async function take(phone: Phone, task: Task, tell: (key: string) => void): Promise<Item> {
  const { wx, time } = phone;
  const owner = await phone.owner();
  if (!owner) throw new Fault("sign_in_text");
  tell("taking");
  const asked = await phone.api.call<Challenge>("POST", "/v1/challenges", { task_id: task.task_id, ...(await card(phone)) });
  const capturedAt = new Date(time.now()).toISOString();
  const fixes = phone.positions.asSent();
  const selfie = await photograph(wx, time, SELFIE_PX, 0.92);
  const frames = await turns(phone, asked.actions, tell);
  if (asked.liveness?.verify_id) await faceVerified(phone, asked.liveness.verify_id);
  return phone.outbox.add({
    owner,
    task_id: task.task_id,
    challenge_id: asked.challenge_id,
    key: asked.challenge_id,
    saved_at: time.now(),
    fields: {
      task_id: task.task_id,
      challenge_id: asked.challenge_id,
      frame: FRAME,
      captured_at: capturedAt,
      fixes: JSON.stringify(fixes),
      device: JSON.stringify(phone.device()),
    },
    selfie,
    frames,
    areFramesSent: frames.length === 0,
  });
}

/** The card goes only where WeChat can look at the face afterwards. */
async function card({ wx, host }: Phone): Promise<{ identity?: object }> {
  if (!host.identity || typeof wx.requestFacialVerify !== "function") return {};
  return { identity: await host.identity() };
}

/** From the front to each turn and back, a frame each; the person's own left and right. */
async function turns({ wx, time }: Phone, actions: string[], tell: (key: string) => void): Promise<string[]> {
  if (!actions.length) return [];
  const frames = [await photograph(wx, time, FRAME_PX, 0.85)];
  for (const action of actions) {
    for (const [key, ms] of [[action, TURN_MS], ["turn_back", BACK_MS]] as const) {
      tell(key);
      wx.vibrateShort({ type: "light", fail: () => undefined });
      await pause(time, ms);
      frames.push(await photograph(wx, time, FRAME_PX, 0.85));
    }
  }
  return frames;
}

/** WeChat's own screens. What it says to us counts for nothing; without an end there would be nothing to ask it for. */
async function faceVerified({ wx }: Phone, verifyId: string): Promise<void> {
  try {
    await answered((ends) => wx.requestFacialVerify({ verifyId, ...ends }));
  } catch {
    throw new Fault("verify_unfinished");
  }
}
