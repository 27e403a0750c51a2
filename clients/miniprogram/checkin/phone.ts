// The one phone that all pages share, made when the first of them opens.

import { Phone } from "./core/phone";
import type { Host } from "./core/session";
import { PHONES_TIME } from "./core/wechat";

let made: Phone | null = null;

export function phone(): Phone {
  made ??= new Phone(wx, PHONES_TIME, getApp<{ checkIn: Host }>().checkIn);
  return made;
}
