// The way without face recognition: ask that people judge.

import type { ManualRequest } from "./answers";
import { permit } from "./permissions";
import type { Phone } from "./phone";
import { FRAME } from "./position";
import { Fault } from "./wechat";

const LOCATE_MS = 10_000;

export interface Asked {
  task_id: string;
  reason: string;
  withPosition: boolean;
  /** Made once for what the person sees, so that a second tap asks for nothing new. */
  key: string;
}

export async function askManually(phone: Phone, { task_id, reason, withPosition, key }: Asked): Promise<ManualRequest> {
  const fixes = withPosition ? await located(phone) : [];
  const body = { task_id, reason: reason.trim(), ...(fixes.length > 0 && { fixes, frame: FRAME }) };
  return phone.api.call<ManualRequest>("POST", "/v1/manual-requests", body, { "Idempotency-Key": key });
}

/** Waits for a precise fix, but not for ever: the request counts without one, too. */
async function located(phone: Phone): Promise<object[]> {
  try {
    await permit(phone.wx, "scope.userLocation");
  } catch (error) {
    if (error instanceof Fault) return [];
    throw error;
  }
  await new Promise<void>((resolve) => {
    const cancel = phone.time.after(LOCATE_MS, resolve);
    const changed = () => {
      if (!phone.positions.isPrecise && !phone.positions.fault) return;
      cancel();
      resolve();
    };
    void phone.positions.start(changed);
  });
  phone.positions.stop();
  return phone.positions.asSent();
}
