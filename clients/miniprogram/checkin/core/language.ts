// Which of the languages, and the texts in it.

import { shanghaiParts } from "./clock";
import { TEXTS } from "./texts";

export type Language = "zh-CN" | "zh-HK" | "en";
export const LANGUAGES: readonly Language[] = ["zh-CN", "zh-HK", "en"];
export type Figures = Record<string, string | number>;

/** The one of ours for WeChat's, such as zh_TW. */
export function chooseLanguage(wechats: string): Language {
  const tag = wechats.toLowerCase();
  if (/^(zh|yue)/.test(tag)) return /hk|tw|mo|hant|yue/.test(tag) ? "zh-HK" : "zh-CN";
  return tag.startsWith("en") ? "en" : "zh-CN";
}

/** The text of a key with its {figures} filled in. */
export function say(language: Language, key: string, figures: Figures = {}): string {
  const texts = TEXTS[key];
  if (!texts) throw new RangeError(`no text is called ${key}`);
  return texts[language].replace(/\{(\w+)\}/g, (_, name: string) => String(figures[name]));
}

/** An instant, to the minute, in Shanghai. */
export function sayInstant(language: Language, instant: string): string {
  return say(language, "instant", shanghaiParts(Date.parse(instant)));
}

/** All texts without figures, for the pages' markup. */
export function plainTexts(language: Language): Record<string, string> {
  const plain: Record<string, string> = {};
  for (const key of Object.keys(TEXTS)) plain[key] = TEXTS[key]?.[language] ?? "";
  return plain;
}
