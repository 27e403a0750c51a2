// Metres on the ground around a place: x to the east and y to the north, on the ellipsoid. Positions are WGS-84.

import { toWgs84 } from "./frames.js";

const radians = (degrees) => (degrees * Math.PI) / 180;

/** A plane around [lon, lat]: right to some centimetres within a kilometre, as the service's own. */
export function planeAt([lon0, lat0]) {
  const at = radians(lat0);
  const perLat = 111132.954 - 559.822 * Math.cos(2 * at) + 1.175 * Math.cos(4 * at);
  const perLon = 111412.84 * Math.cos(at) - 93.5 * Math.cos(3 * at) + 0.118 * Math.cos(5 * at);
  return {
    metres: ([lon, lat]) => [(lon - lon0) * perLon, (lat - lat0) * perLat],
    position: ([x, y]) => [lon0 + x / perLon, lat0 + y / perLat],
  };
}

/** A fence as GeoJSON in a frame: its rings, or centre and radius, in metres on a plane of its own. */
export function flatten({ fence, frame }) {
  const isCircle = fence.type === "Circle";
  const polygons = isCircle ? [] : fence.type === "Polygon" ? [fence.coordinates] : fence.coordinates;
  const rings = polygons.flat().map((ring) => ring.map((point) => toWgs84(point, frame)));
  const points = isCircle ? [toWgs84(fence.coordinates, frame)] : rings.flat();
  const middle = [0, 1].map((axis) => (Math.min(...points.map((p) => p[axis])) + Math.max(...points.map((p) => p[axis]))) / 2);
  const plane = planeAt(middle);
  return isCircle
    ? { plane, rings: [], circle: { centre: plane.metres(points[0]), radius: fence.radius_m } }
    : { plane, rings: rings.map((ring) => ring.map(plane.metres)), circle: null };
}

/** West, south, east and north of what is drawn. */
export function extentOf({ rings, circle }, buffer, points) {
  const around = circle ? [[circle.centre, circle.radius + buffer]] : rings.flat().map((point) => [point, buffer]);
  const all = [...around, ...points.map(({ at, r95 }) => [at, r95])];
  const least = (axis) => Math.min(...all.map(([p, r]) => p[axis] - r));
  const most = (axis) => Math.max(...all.map(([p, r]) => p[axis] + r));
  return [least(0), least(1), most(0), most(1)];
}
