// What all pages share: their texts, where they lead, and what is said when something went wrong.

import { plainTexts } from "./core/language";
import type { Trouble } from "./core/phone";
import { phone } from "./phone";

type Name = "capture" | "consent" | "manual" | "mine" | "receipt" | "rehearsal" | "sending" | "tasks";

interface Shown {
  setData(data: Record<string, unknown>): void;
}

/** What every page's markup knows. `state`: loading, shown or trouble; `size`: of the root's font. */
export const SHARED = { t: {} as Record<string, string>, size: "system", state: "loading", trouble: null as Trouble | null };

/** Begins to show a page, in the language of now. */
export function begin(page: Shown, title: string): void {
  page.setData({ t: plainTexts(phone().language), size: phone().textSize, state: "loading", trouble: null });
  wx.setNavigationBarTitle({ title: phone().say(title) });
}

/** Shows what went wrong. Throws again what is a defect of ours. */
export function explain(page: Shown, error: unknown): void {
  page.setData({ state: "trouble", trouble: phone().trouble(error) });
}

export function go(name: Name, taskId = ""): void {
  void wx.navigateTo({ url: urlOf(name, taskId) });
}

/** The page that is left can't be come back to. */
export function replace(name: Name, taskId = ""): void {
  void wx.redirectTo({ url: urlOf(name, taskId) });
}

function urlOf(name: Name, taskId: string): string {
  if (taskId) phone().taskId = taskId;
  return `../${name}/index?task_id=${encodeURIComponent(taskId)}`;
}

/** Taps that are the same everywhere. */
export const TAPS = {
  /** Never further than one tap, wherever one is. */
  toManual() {
    go("manual", phone().taskId);
  },
  /** Back to where they are, so that what the mini-program showed before us is still behind them. */
  toTasks() {
    const routes = getCurrentPages().map(({ route }) => route);
    const delta = routes.length - 1 - routes.findIndex((route) => route.endsWith("tasks/index"));
    if (delta > 0 && delta < routes.length) void wx.navigateBack({ delta });
    else replace("tasks");
  },
  openSettings() {
    void wx.openSetting({});
  },
};
