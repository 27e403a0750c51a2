// Which of the languages, and the texts in it.

import { shanghaiParts } from "./clock.js";
import { TEXTS } from "./texts.js";

export const LANGUAGES = ["zh-CN", "zh-HK", "en"];

/** The first that the browser asks for and that is spoken here. */
export function chooseLanguage(wanted) {
  for (const tag of wanted) {
    const [primary, ...rest] = tag.toLowerCase().split("-");
    if (primary === "en") return "en";
    if (primary === "yue") return "zh-HK";
    if (primary === "zh" || primary === "cmn") {
      const traditional = !rest.includes("hans") && rest.some((part) => ["hant", "hk", "mo", "tw"].includes(part));
      return traditional ? "zh-HK" : "zh-CN";
    }
  }
  return "zh-CN";
}

/** The text of a key with its {figures} filled in. */
export function say(language, key, figures = {}) {
  return TEXTS[key][language].replace(/\{(\w+)\}/g, (_, name) => String(figures[name]));
}

/** An instant, to the minute, in Shanghai. */
export function sayInstant(language, instantMs) {
  return say(language, "instant", shanghaiParts(instantMs));
}
