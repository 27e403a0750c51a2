// A receipt's link as a picture that another phone reads.

import { qrCode } from "./qr";

/** About as many pixels as a phone is wide; a module is a whole number of them, so that its edges are sharp. */
const WIDTH_PX = 1000;
const QUIET = 4;

type Canvas = Pick<WechatMiniprogram.Canvas, "width" | "height" | "getContext">;

/** Draws a link, which has no letters beyond ASCII, with its quiet zone. */
export function drawLink(canvas: Canvas, link: string): void {
  const rows = qrCode(Uint8Array.from(link, (letter) => letter.charCodeAt(0)));
  const modules = rows.length + 2 * QUIET;
  const px = Math.ceil(WIDTH_PX / modules);
  canvas.width = canvas.height = px * modules;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#000000";
  rows.forEach((row, y) => row.forEach((dark, x) => dark && pen.fillRect((x + QUIET) * px, (y + QUIET) * px, px, px)));
}
