// The way without face recognition: ask that people judge.

import type { ManualRequest } from "./answers";
import { permit } from "./permissions";
import { madeUp, type Phone } from "./phone";
import { FRAME } from "./position";
import { Fault } from "./wechat";

const LOCATE_MS = 10_000;

export interface Form {
  task_id: string;
  reason: string;
  withPosition: boolean;
}

/** A request as it is sent again and again; `form` is what it was made of. */
export interface Asked {
  form: Form;
  body: object;
  key: string;
}

/** What was asked already, while the form is the same: another position under the same key would be refused. */
export async function prepared(phone: Phone, form: Form, last: Asked | null): Promise<Asked> {
  if (last && JSON.stringify(last.form) === JSON.stringify(form)) return last;
  const fixes = form.withPosition ? await located(phone) : [];
  const body = { task_id: form.task_id, reason: form.reason.trim(), ...(fixes.length > 0 && { fixes, frame: FRAME }) };
  return { form, body, key: madeUp(phone.time) };
}

export function askManually(phone: Phone, { body, key }: Asked): Promise<ManualRequest> {
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
