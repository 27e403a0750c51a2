// Who is signed in: the host's business. We ask it for a token at every call and look whose it is.

import type { Wx } from "./wechat";

/** What the mini-program that we are a part of gives us: `checkIn` of its `App`. */
export interface Host {
  /** `https://…` of the service, without a slash at the end. */
  base: string;
  /** A token of scope `checkin`; `fresh`: the last one was refused, so one from a store won't do. */
  token(fresh: boolean): Promise<string>;
  /** Name and number of the card that WeChat's face verification compares with, where that is granted. */
  identity?(): Promise<{ name: string; number: string }>;
}

/** What a submission belongs to, of a token: another person's must not send it. Null for what is no token. */
export function ownerOf(wx: Wx, token: string): string | null {
  try {
    const claims = JSON.parse(textOf(wx, token.split(".")[1] ?? "")) as { iss?: unknown; sub?: unknown };
    return typeof claims.sub === "string" && claims.sub ? `${String(claims.iss)}|${claims.sub}` : null;
  } catch {
    return null;
  }
}

function textOf(wx: Wx, base64url: string): string {
  const bare = base64url.replace(/-/g, "+").replace(/_/g, "/");
  const bytes = new Uint8Array(wx.base64ToArrayBuffer(bare.padEnd(Math.ceil(bare.length / 4) * 4, "=")));
  return decodeURIComponent(Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, "0")}`).join(""));
}
