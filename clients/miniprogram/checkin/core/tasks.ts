// What is asked of me: where, until when, and what to do next.

import type { Task } from "./answers";
import { countdown } from "./clock";
import { metresBetween, roundedDistance, toWgs84 } from "./frames";
import type { Phone } from "./phone";
import { FRAME } from "./position";

const SOON_MS = 24 * 3600 * 1000;
const STEPS: Record<string, [label: string, screen: string]> = {
  give_consent: ["read_notice", "consent"],
  check_in: ["check_in", "capture"],
  ask_manually: ["manual_ask", "manual"],
};

/** A task as it is shown. */
export interface Card {
  task_id: string;
  enterprise: string;
  address: string;
  isDone: boolean;
  isSoon: boolean;
  left: string;
  next: string;
  attempts: string;
  step: string;
  screen: string;
}

/** The tasks, what is pressing first. */
export function cards(phone: Phone, tasks: Task[]): Card[] {
  const closes = (task: Task) => Date.parse(task.closes_at);
  return [...tasks].sort((one, other) => rank(one) - rank(other) || closes(one) - closes(other)).map((task) => card(phone, task));
}

function card(phone: Phone, task: Task): Card {
  const leftMs = Date.parse(task.closes_at) - phone.clock.now();
  const { key, ...figures } = countdown(leftMs);
  const isDone = task.own_state === "accepted";
  const [label, screen] = (rank(task) === 0 && STEPS[task.next]) || ["", ""];
  return {
    task_id: task.task_id,
    enterprise: task.enterprise.name,
    address: task.place.registered_address,
    isDone,
    isSoon: !isDone && leftMs < SOON_MS,
    left: isDone ? "" : phone.say(key, figures),
    next: nextText(phone, task, isDone),
    attempts: task.next === "check_in" ? phone.say("attempts_left", { attempts: task.attempts_left }) : "",
    step: label && phone.say(label),
    screen,
  };
}

function nextText(phone: Phone, task: Task, isDone: boolean): string {
  if (isDone) return phone.say("accepted_card", { at: phone.sayInstant(task.accepted_at ?? "") });
  return task.own_state === "in_review" ? phone.say("in_review_card") : task.next_text;
}

/** 0: something can be done now, 1: it will be, 2: it is over. */
function rank(task: Task): number {
  if (task.own_state === "accepted" || task.state === "expired" || task.state === "invalidated") return 2;
  return task.next in STEPS ? 0 : 1;
}

/** How far the phone is from the point of a task's place that the service names, in words. */
export function distanceText(phone: Phone, task: Task): string {
  const { newest, fault } = phone.positions;
  if (!newest) return phone.say(fault ?? "locating");
  const there = toWgs84([task.place.lon, task.place.lat], task.place.frame);
  const here = toWgs84([newest.lon, newest.lat], FRAME);
  const { key, ...figures } = roundedDistance(metresBetween(here, there), newest.accuracy_m);
  return phone.say(key, figures);
}
