// WeChat asks the person three times: for the privacy guideline, for the permission, and the system for its own.

import { answered, Fault, type Wx } from "./wechat";

const DENIED = { "scope.camera": "camera_not_allowed", "scope.userLocation": "position_not_allowed" } as const;

/** Returns once a permission is there. Throws `Fault` privacy_refused, camera_not_allowed, position_not_allowed. */
export async function permit(wx: Wx, scope: keyof typeof DENIED): Promise<void> {
  // older WeChats have no guideline to agree to
  if (typeof wx.requirePrivacyAuthorize === "function") {
    await said("privacy_refused", answered((ends) => wx.requirePrivacyAuthorize(ends)));
  }
  await said(DENIED[scope], answered((ends) => wx.authorize({ scope, ...ends })));
}

async function said(fault: string, asking: Promise<unknown>): Promise<void> {
  try {
    await asking;
  } catch {
    throw new Fault(fault);
  }
}
