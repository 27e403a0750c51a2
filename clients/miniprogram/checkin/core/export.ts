// Everything that is stored of me, as a file to pass on.

import type { Phone } from "./phone";
import { answered } from "./wechat";

const NAME = "checkin-export.json";

/** Fetches it; the file stays until its page is left, or the mini-program opened anew. Throws `Offline` and `Problem`. */
export async function fetchExport({ api, wx }: Phone): Promise<void> {
  const stored = await api.call<object>("GET", "/v1/me/export");
  wx.getFileSystemManager().writeFileSync(fileOf(wx), JSON.stringify(stored, null, 1), "utf8");
}

/** Into a chat of the person's choice, such as the one with themselves. Rejects with `WxRefusal`. */
export async function passOn({ wx }: Phone): Promise<void> {
  await answered((ends) => wx.shareFileMessage({ filePath: fileOf(wx), fileName: NAME, ...ends }));
}

export function forget({ wx }: Pick<Phone, "wx">): void {
  try {
    wx.getFileSystemManager().unlinkSync(fileOf(wx));
  } catch {
    // none was fetched
  }
}

function fileOf(wx: Phone["wx"]): string {
  return `${wx.env.USER_DATA_PATH}/${NAME}`;
}
