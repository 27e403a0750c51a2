// A picture as it is sent: a JPEG that gets through within WeChat's 60 seconds on a bad network.

import { answered, type Wx } from "./wechat";

/** At 64 kbit/s this takes 50 s. */
export const MOST_BYTES = 400_000;

/** image/jpeg or image/png, by the first byte: iOS gives PNG, whatever the name says. */
export function typeOf(bytes: ArrayBuffer): string {
  return new Uint8Array(bytes)[0] === 0x89 ? "image/png" : "image/jpeg";
}

/** The file itself when it is a small JPEG, else a new one no longer than `longest` pixels. */
export async function sendable(wx: Wx, file: string, longest: number, quality: number): Promise<string> {
  const bytes = wx.getFileSystemManager().readFileSync(file) as ArrayBuffer;
  if (typeOf(bytes) === "image/jpeg" && bytes.byteLength <= MOST_BYTES) return file;
  try {
    return await drawnAnew(wx, file, longest, quality);
  } catch {
    // an old phone without such a canvas: the service may still take it
    return file;
  }
}

async function drawnAnew(wx: Wx, file: string, longest: number, quality: number): Promise<string> {
  const { width, height } = await answered<{ width: number; height: number }>((ends) => wx.getImageInfo({ src: file, ...ends }));
  const scale = Math.min(1, longest / Math.max(width, height));
  const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
  const canvas = wx.createOffscreenCanvas({ type: "2d", ...size });
  const image = canvas.createImage();
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = reject;
    image.src = file;
  });
  canvas.getContext("2d").drawImage(image, 0, 0, size.width, size.height);
  const whole = { ...size, destWidth: size.width, destHeight: size.height };
  const drawn = await answered<{ tempFilePath: string }>((ends) => wx.canvasToTempFilePath({ canvas, fileType: "jpg", quality, ...whole, ...ends }));
  return drawn.tempFilePath;
}
