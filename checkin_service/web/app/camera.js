// The front camera: a picture of now. There is no way to choose an old one.

import { framing } from "./framing.js";

const SAMPLE = 48;
const TOO_DARK = 55;
const TOO_BRIGHT = 215;

/** Why there is no camera: camera_denied, camera_missing, camera_busy, insecure. */
export class CameraFault extends Error {}

export async function openCamera(video) {
  if (!globalThis.isSecureContext || !navigator.mediaDevices) throw new CameraFault("insecure");
  const wishes = { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } };
  // the attribute alone does not count on an element that a script has made
  video.muted = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ audio: false, video: wishes });
    await video.play();
  } catch (error) {
    closeCamera(video);
    const faults = { NotAllowedError: "camera_denied", SecurityError: "camera_denied", NotFoundError: "camera_missing", OverconstrainedError: "camera_missing" };
    throw new CameraFault(faults[error.name] ?? "camera_busy");
  }
}

export function closeCamera(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

/** What the camera sees, not mirrored, as a JPEG no longer than `longest` pixels. */
export function photograph(video, longest, quality) {
  const scale = Math.min(1, longest / Math.max(video.videoWidth, video.videoHeight));
  const canvas = drawn(video, Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

/** too_dark, too_bright or fine: the mean of the middle, where the oval is. */
export function light(video) {
  const pen = drawn(video, SAMPLE, SAMPLE).getContext("2d");
  const inner = pen.getImageData(SAMPLE / 4, SAMPLE / 6, SAMPLE / 2, (SAMPLE * 2) / 3).data;
  return lightOf(inner);
}

/** The same of RGBA bytes. */
export function lightOf(rgba) {
  let sum = 0;
  for (let at = 0; at < rgba.length; at += 4) sum += 0.299 * rgba[at] + 0.587 * rgba[at + 1] + 0.114 * rgba[at + 2];
  const mean = sum / (rgba.length / 4);
  if (mean < TOO_DARK) return "too_dark";
  return mean > TOO_BRIGHT ? "too_bright" : "fine";
}

/** Looks for faces where the browser can; elsewhere it has nothing to say. */
export function faceFinder() {
  let detector = null;
  try {
    detector = "FaceDetector" in globalThis ? new globalThis.FaceDetector({ fastMode: true, maxDetectedFaces: 2 }) : null;
  } catch {
    // named, but not there
  }
  return async (video) => {
    if (!detector) return "fine";
    try {
      const faces = await detector.detect(video);
      return framing(faces.map((face) => face.boundingBox), video.videoWidth, video.videoHeight);
    } catch {
      detector = null;
      return "fine";
    }
  };
}

function drawn(video, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.getContext("2d", { willReadFrequently: width === SAMPLE }).drawImage(video, 0, 0, width, height);
  return canvas;
}
