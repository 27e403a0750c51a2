// A check-in on its way: sent until an answer is known, across bad networks and restarts.

import type { Answer } from "./api";
import type { CheckIn } from "./answers";
import type { Item } from "./outbox";
import type { Phone } from "./phone";
import { typeOf } from "./picture";
import { afterAsking, afterSending, type Step } from "./retry";

/** What is shown meanwhile: a text's key, seconds to the next try, how much has left. */
export interface Progress {
  key: string;
  seconds?: number;
  share?: number;
}

/** How it ended. gone: nothing was waiting, or nobody is looking any more. */
export type End = { step: "gone" } | { step: "done" | "sign_in" | "consent" | "over"; answer: Answer | null; task_id: string };

/** Where it is seen; `isGone` once that was left. */
export interface Screen {
  isGone(): boolean;
  show(progress: Progress): void;
}

/** Sends what waits for this person, until an answer is known. */
export async function deliver(phone: Phone, screen: Screen): Promise<End> {
  const owner = await phone.owner();
  for (let tries = 1; owner && !screen.isGone(); tries += 1) {
    const item = phone.outbox.find(owner);
    if (!item) break;
    const [answer, next] = item.status_url ? await ask(phone, item.status_url, tries) : await send(phone, item, screen, tries);
    // what nobody has seen stays, and is sent again for the same answer
    if (screen.isGone()) break;
    if (next.step === "sign_in") return { step: "sign_in", answer, task_id: item.task_id };
    if (next.step === "ask" && !item.status_url) taken(phone, item, answer);
    if (next.step === "ask" || next.step === "again") {
      await countDown(phone, screen, next.wait, item.status_url || next.step === "ask" ? "judging" : "no_answer");
      continue;
    }
    phone.outbox.remove(owner);
    return { step: next.step, answer, task_id: item.task_id };
  }
  return { step: "gone" };
}

/** From here on only the verdict is asked for. */
function taken(phone: Phone, item: Item, answer: Answer | null): void {
  const { status_url, check_in_id } = answer?.body as CheckIn;
  phone.outbox.put({ ...item, status_url: status_url ?? `/v1/check-ins/${check_in_id}` });
  phone.outbox.dropPictures(item);
}

async function ask(phone: Phone, statusUrl: string, tries: number): Promise<[Answer, Step]> {
  const answer = await phone.api.answer("GET", statusUrl);
  return [answer, afterAsking(answer, (answer.body as CheckIn | null)?.outcome, tries)];
}

async function send(phone: Phone, item: Item, screen: Screen, tries: number): Promise<[Answer | null, Step]> {
  if (!phone.outbox.isWhole(item)) return [null, { step: "over" }];
  screen.show({ key: "sending", share: 0 });
  const ahead = item.areFramesSent ? null : await sendFrames(phone, item);
  if (ahead) return [ahead, afterSending(ahead, tries)];
  // remembered first: once the check-in may have come, its challenge takes no more frames
  phone.outbox.put({ ...item, areFramesSent: true });
  const form = { file: item.selfie, name: "selfie", fields: item.fields, key: item.key };
  const show = (share: number) => screen.show(share < 1 ? { key: "sending", share } : { key: "judging_now", share });
  const answer = await phone.api.upload("/v1/check-ins", form, show);
  return [answer, afterSending(answer, tries)];
}

/** One request a frame, for WeChat sends one file at a time; null when all have come, else what one was answered. */
async function sendFrames(phone: Phone, { challenge_id, frames }: Item): Promise<Answer | null> {
  const files = phone.wx.getFileSystemManager();
  const answers = await Promise.all(
    frames.map((file, number) => {
      const bytes = files.readFileSync(file) as ArrayBuffer;
      return phone.api.answer("PUT", `/v1/challenges/${challenge_id}/burst/${number}`, bytes, { "Content-Type": typeOf(bytes) });
    }),
  );
  return answers.find(({ status }) => status !== 204) ?? null;
}

/** Counts down where it is seen; a tap, or a change of the network, ends it. */
function countDown(phone: Phone, screen: Screen, seconds: number, key: string): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      cancel();
      phone.wx.offNetworkStatusChange(end);
      phone.hurry = () => undefined;
      resolve();
    };
    let cancel: () => void = () => undefined;
    const tick = (left: number) => {
      if (left <= 0 || screen.isGone()) return end();
      screen.show({ key, seconds: left });
      cancel = phone.time.after(1000, () => tick(left - 1));
    };
    phone.hurry = end;
    phone.wx.onNetworkStatusChange(end);
    tick(seconds);
  });
}
