// The front camera: a picture of now. There is no way to choose an old one.

import { type Box, framing } from "./framing";
import { sendable } from "./picture";
import { answered, Fault, type Time, within, type Wx } from "./wechat";

const TAKE_MS = 15_000;
const TOO_DARK = 55;
const TOO_BRIGHT = 215;

export interface CameraFrame {
  data: ArrayBuffer;
  width: number;
  height: number;
}

/** What the camera sees, as a small JPEG. Throws `Fault` camera_busy. */
export async function photograph(wx: Wx, time: Time, longest: number, quality: number): Promise<string> {
  const camera = wx.createCameraContext();
  // not as in a mirror, which is what WeChat gives of the front camera unless it is told
  const taking = answered<{ tempImagePath: string }>((ends) => camera.takePhoto({ quality: "high", selfieMirror: false, ...ends }));
  let file: string;
  try {
    file = (await within(time, TAKE_MS, "camera_busy", taking)).tempImagePath;
  } catch {
    throw new Fault("camera_busy");
  }
  return sendable(wx, file, longest, quality);
}

/** too_dark, too_bright or fine: the mean of the middle, where the oval is. */
export function lightOf({ data, width, height }: CameraFrame): string {
  const rgba = new Uint8Array(data);
  const step = Math.max(1, Math.floor(Math.min(width, height) / 48));
  let [sum, count] = [0, 0];
  for (let y = Math.floor(height / 6); y < (height * 5) / 6; y += step) {
    for (let x = Math.floor(width / 4); x < (width * 3) / 4; x += step) {
      const at = 4 * (y * width + x);
      sum += 0.299 * (rgba[at] ?? 0) + 0.587 * (rgba[at + 1] ?? 0) + 0.114 * (rgba[at + 2] ?? 0);
      count += 1;
    }
  }
  const mean = sum / count;
  if (mean < TOO_DARK) return "too_dark";
  return mean > TOO_BRIGHT ? "too_bright" : "fine";
}

/** Says what the light is like about twice a second, until what is returned is called. */
export function watchLight(wx: Wx, time: Time, tell: (light: string) => void): () => void {
  return watch(wx, time, (frame) => tell(lightOf(frame)));
}

/** The same of the light and, where it is fine, of the face. */
export function watchFace(wx: Wx, time: Time, tell: (word: string) => void): () => void {
  const faces = new Faces(wx);
  const stop = watch(wx, time, (frame) => {
    const light = lightOf(frame);
    tell(light === "fine" ? faces.look(frame) : light);
  });
  return () => {
    stop();
    faces.end();
  };
}

function watch(wx: Wx, time: Time, look: (frame: CameraFrame) => void): () => void {
  let next = -Infinity;
  const listener = wx.createCameraContext().onCameraFrame((frame) => {
    if (time.now() < next) return;
    next = time.now() + 600;
    look(frame);
  });
  listener.start();
  return () => listener.stop();
}

interface Anchor {
  origin: { x: number; y: number };
  size: { width: number; height: number };
}

/** Looks for faces where WeChat can, in the phone; elsewhere it has nothing to say. */
class Faces {
  private session: WechatMiniprogram.VKSession | null = null;
  private word = "fine";

  constructor(wx: Wx) {
    try {
      // the typings ask for a plane beside it, which WeChat does not look for together with faces
      const track = { face: { mode: 2 } } as WechatMiniprogram.Track;
      const session = wx.createVKSession({ track, version: "v1" });
      session.on("updateAnchors", (found: Anchor[]) => (this.word = framing(found.map(boxOf), 1, 1)));
      session.on("removeAnchors", () => (this.word = "no_face"));
      session.start((error) => (this.session = error ? null : session));
    } catch {
      // an old WeChat, or a phone that can't
    }
  }

  /** What was found in the frame before; answers take a while, and some phones give none. */
  look({ data, width, height }: CameraFrame): string {
    const { word } = this;
    this.word = "fine";
    this.session?.detectFace({ frameBuffer: data, width, height, scoreThreshold: 0.8, sourceType: 0 });
    return word;
  }

  end(): void {
    this.session?.destroy();
    this.session = null;
  }
}

/** As shares of the picture. */
function boxOf({ origin, size }: Anchor): Box {
  return { ...origin, ...size };
}
