// Where a face is in the picture.

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** no_face, many_faces, too_far, too_near, off_centre or fine of the boxes found in a picture so wide and high. */
export function framing(boxes: readonly Box[], width: number, height: number): string {
  if (boxes.length !== 1) return boxes.length ? "many_faces" : "no_face";
  const [box] = boxes;
  const share = box.height / height;
  if (share < 0.25) return "too_far";
  if (share > 0.8) return "too_near";
  const away = Math.hypot((box.x + box.width / 2) / width - 0.5, (box.y + box.height / 2) / height - 0.5);
  return away > 0.2 ? "off_centre" : "fine";
}
