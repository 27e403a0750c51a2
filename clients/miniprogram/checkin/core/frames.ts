// Coordinates of the frames that Chinese maps use, and metres on the ground.

import type { Said } from "./clock";

export type Point = readonly [lon: number, lat: number];

const AXIS_M = 6378245;
const FLATTENING = 0.00669342162296594323;
const BD_TURN = (Math.PI * 3000) / 180;
const radians = (degrees: number) => (degrees * Math.PI) / 180;

function toGcj02([lon, lat]: Point): Point {
  const [x, y] = [lon - 105, lat - 35];
  const waves = (20 * Math.sin(6 * x * Math.PI) + 20 * Math.sin(2 * x * Math.PI)) * (2 / 3);
  const north =
    -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * Math.sqrt(Math.abs(x)) + waves +
    (20 * Math.sin(y * Math.PI) + 40 * Math.sin((y / 3) * Math.PI)) * (2 / 3) +
    (160 * Math.sin((y / 12) * Math.PI) + 320 * Math.sin((y * Math.PI) / 30)) * (2 / 3);
  const east =
    300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * Math.sqrt(Math.abs(x)) + waves +
    (20 * Math.sin(x * Math.PI) + 40 * Math.sin((x / 3) * Math.PI)) * (2 / 3) +
    (150 * Math.sin((x / 12) * Math.PI) + 300 * Math.sin((x / 30) * Math.PI)) * (2 / 3);
  const magic = 1 - FLATTENING * Math.sin(radians(lat)) ** 2;
  return [
    lon + (east * 180) / ((AXIS_M / Math.sqrt(magic)) * Math.cos(radians(lat)) * Math.PI),
    lat + (north * 180) / (((AXIS_M * (1 - FLATTENING)) / magic ** 1.5) * Math.PI),
  ];
}

function toBd09(point: Point): Point {
  const [x, y] = toGcj02(point);
  const reach = Math.hypot(x, y) + 0.00002 * Math.sin(y * BD_TURN);
  const angle = Math.atan2(y, x) + 0.000003 * Math.cos(x * BD_TURN);
  return [reach * Math.cos(angle) + 0.0065, reach * Math.sin(angle) + 0.006];
}

const FROM_WGS84: Record<string, (point: Point) => Point> = { gcj02: toGcj02, bd09: toBd09 };

/** In WGS-84. There is no closed inverse: the forward way is corrected until it meets the point. */
export function toWgs84([lon, lat]: Point, frame: string): Point {
  const forward = FROM_WGS84[frame];
  if (!forward) return [lon, lat];
  let found: Point = [lon, lat];
  for (let step = 0; step < 10; step += 1) {
    const [x, y] = forward(found);
    found = [found[0] + lon - x, found[1] + lat - y];
  }
  return found;
}

/** Metres between two WGS-84 points that are not far apart, on the ellipsoid. */
export function metresBetween([lon, lat]: Point, [otherLon, otherLat]: Point): number {
  const middle = radians((lat + otherLat) / 2);
  const perLat = 111132.954 - 559.822 * Math.cos(2 * middle) + 1.175 * Math.cos(4 * middle);
  const perLon = 111412.84 * Math.cos(middle) - 93.5 * Math.cos(3 * middle) + 0.118 * Math.cos(5 * middle);
  return Math.hypot((otherLon - lon) * perLon, (otherLat - lat) * perLat);
}

/** A distance as the text to use and its figure, no more exact than it is known. */
export function roundedDistance(metres: number, accuracyM = 0): Said {
  if (metres < Math.max(20, accuracyM)) return { key: "distance_here", metres: Math.ceil(Math.max(20, accuracyM) / 10) * 10 };
  if (metres < 995) return { key: "distance_m", metres: Math.round(metres / 10) * 10 };
  return { key: "distance_km", kilometres: (metres / 1000).toFixed(metres < 9950 ? 1 : 0) };
}
