// A fence, its buffer and where check-ins were, drawn in metres; under it tiles, where the service names some.

import { toWgs84 } from "./frames.js";
import { extentOf, flatten } from "./plane.js";
import { button, el } from "./view.js";

const SPACE = "http://www.w3.org/2000/svg";
const MOST_TILES = 40;
const TILE_PX = 256;
const WORLD_M = 2 * Math.PI * 6378137;
// A position further off than this is said in words; drawn, it would leave nothing to be seen of the fence.
const FURTHEST_M = 3000;
let numbers = 0;

export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Tiles as the page was told of them; null for none. */
export function baseMap() {
  const told = document.querySelector("meta[name=base-map]");
  return told.content ? { template: told.content, frame: told.dataset.frame } : null;
}

export class FenceMap {
  #group = shape("g");
  #tiles = shape("g");
  #marks = shape("g");
  #svg = shape("svg", { class: "map", tabindex: "0", role: "img" });
  #scale = shape("g", { class: "scale" });
  #view;

  /** `place`: fence, frame, buffer_m. `say`: texts. */
  constructor(place, say, tiles = baseMap()) {
    Object.assign(this, { place, say, tiles, flat: flatten(place), number: (numbers += 1) });
    this.#svg.append(this.#tiles, this.#group, this.#marks, this.#scale);
    this.#svg.addEventListener("keydown", (event) => this.#key(event));
    this.#svg.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#drawFence();
    this.element = el("figure", { class: "mapped" }, this.#svg, this.#caption());
    this.show([]);
  }

  /** Draws check-ins of {id, location, outcome, label}; the one named by `chosen` stands out. */
  show(checkIns, chosen = null) {
    this.marked = checkIns.filter((c) => c.location && c.location.lon !== null).map((c) => this.#placed(c));
    const near = this.marked.filter(({ at }) => Math.hypot(...at) < FURTHEST_M);
    this.#marks.replaceChildren(...near.flatMap((mark) => this.#mark(mark, mark.id === chosen)));
    const alone = checkIns.find((c) => c.id === chosen && c.location && c.location.lon === null && c.location.distance_m > 0);
    if (alone && alone.location.distance_m < FURTHEST_M) this.#marks.prepend(...this.#ring(alone.location.distance_m));
    this.#svg.setAttribute("aria-label", this.say("map_label", { marks: near.length, buffer: this.place.buffer_m }));
    const reach = alone ? alone.location.distance_m : 0;
    this.#fit(extentOf(this.flat, this.place.buffer_m + (reach < FURTHEST_M ? reach : 0), near));
  }

  // --- What is drawn ---

  #placed({ id, location, outcome, label }) {
    const at = this.flat.plane.metres(toWgs84([location.lon, location.lat], this.place.frame));
    return { id, at, r95: location.r95_m ?? 0, outcome, label };
  }

  #outline(attributes) {
    const { rings, circle } = this.flat;
    if (circle) return shape("circle", { cx: circle.centre[0], cy: -circle.centre[1], r: circle.radius, ...attributes });
    const d = rings.map((ring) => `M${ring.map(([x, y]) => `${x.toFixed(3)} ${(-y).toFixed(3)}`).join("L")}Z`).join("");
    return shape("path", { d, "fill-rule": "evenodd", "stroke-linejoin": "round", ...attributes });
  }

  /** The buffer is a stroke as wide as it is on both sides: its outer edge is where a distance is 0. */
  #drawFence() {
    const buffer = this.#outline({ class: "buffer", "stroke-width": 2 * this.place.buffer_m });
    this.#group.append(buffer, this.#outline({ class: "fence", "vector-effect": "non-scaling-stroke" }));
  }

  #mark({ at: [x, y], r95, outcome, label }, isChosen) {
    const dot = shape("path", { d: `M${x.toFixed(3)} ${(-y).toFixed(3)}h0`, class: `fix ${outcome}${isChosen ? " chosen" : ""}`, "vector-effect": "non-scaling-stroke" }, shape("title", {}, label));
    const around = shape("circle", { cx: x.toFixed(3), cy: (-y).toFixed(3), r: r95, class: `around ${outcome}`, "vector-effect": "non-scaling-stroke" });
    return isChosen ? [around, dot] : [dot];
  }

  /** All points at one distance: somewhere there it was, where no position is kept. */
  #ring(distance) {
    const id = `ring-${this.number}`;
    const wide = (extra) => 2 * (this.place.buffer_m + distance) + extra;
    const edge = wide(0) / 100;
    const mask = shape("mask", { id, maskUnits: "userSpaceOnUse", x: -9000, y: -9000, width: 18000, height: 18000 },
      this.#outline({ fill: "#fff", stroke: "#fff", "stroke-width": wide(edge) }),
      this.#outline({ fill: "#000", stroke: "#000", "stroke-width": Math.max(0, wide(-edge)) }));
    return [mask, shape("rect", { x: -9000, y: -9000, width: 18000, height: 18000, class: "ring", mask: `url(#${id})` })];
  }

  #caption() {
    const frame = this.say(`frame_${this.place.frame}`);
    return el("figcaption", {},
      el("span", { class: "legend" }, this.say("map_caption", { frame, buffer: this.place.buffer_m })),
      this.tiles ? el("span", { class: "legend" }, this.say("map_tiles", { frame: this.say(`frame_${this.tiles.frame}`) })) : "",
      button("＋", () => this.#zoom(0.7), { "aria-label": this.say("map_nearer") }),
      button("－", () => this.#zoom(1 / 0.7), { "aria-label": this.say("map_further") }));
  }

  // --- What is seen ---

  #fit([west, south, east, north]) {
    const margin = Math.max(east - west, north - south) * 0.06 + 10;
    this.#see([west - margin, -north - margin, east - west + 2 * margin, north - south + 2 * margin]);
  }

  #see(view) {
    this.#view = view;
    this.#svg.setAttribute("viewBox", view.map((value) => value.toFixed(2)).join(" "));
    this.#measure(view);
    if (this.tiles) this.#tile();
  }

  /** A bar as long as it says, in the corner. */
  #measure([x, y, width, height]) {
    const across = Math.min(width, height);
    const metres = [1000, 500, 200, 100, 50, 20, 10].find((step) => step < across / 2) ?? 5;
    const [left, bottom, size] = [x + width * 0.02, y + height * 0.98, height / 28];
    this.#scale.replaceChildren(
      shape("path", { d: `M${left} ${bottom - size / 3}v${size / 3}h${metres}v${-size / 3}`, "vector-effect": "non-scaling-stroke" }),
      shape("text", { x: left + size / 4, y: bottom - size / 3, "font-size": size }, this.say("map_scale", { metres })));
  }

  #zoom(by) {
    const [x, y, width, height] = this.#view;
    this.#see([x + (width * (1 - by)) / 2, y + (height * (1 - by)) / 2, width * by, height * by]);
  }

  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const [x, y, width, height] = this.#view;
    if (steps) this.#see([x + (steps[0] * width) / 8, y + (steps[1] * height) / 8, width, height]);
    else if (event.key === "+" || event.key === "=") this.#zoom(0.7);
    else if (event.key === "-") this.#zoom(1 / 0.7);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.#zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2);
  }

  // --- Tiles ---

  #tile() {
    const [x, y, width, height] = this.#view;
    const inFrame = (point) => this.#toTiles(this.flat.plane.position(point));
    const [west, north] = inFrame([x, -y]);
    const [east, south] = inFrame([x + width, -y - height]);
    let zoom = Math.min(18, Math.floor(Math.log2((WORLD_M / TILE_PX) * (700 / width))));
    while (zoom > 1 && countOf(west, north, east, south, zoom) > MOST_TILES) zoom -= 1;
    this.#tiles.replaceChildren(...tilesOf(west, north, east, south, zoom).map(([column, row]) => this.#image(column, row, zoom)));
  }

  /** WGS-84 in the tiles' frame, to a metre: enough to know which tiles are seen. */
  #toTiles([lon, lat]) {
    const back = toWgs84([lon, lat], this.tiles.frame);
    return [2 * lon - back[0], 2 * lat - back[1]];
  }

  #image(column, row, zoom) {
    const corner = (c, r) => this.flat.plane.metres(toWgs84(cornerOf(c, r, zoom), this.tiles.frame));
    const [[left, top], [right, bottom]] = [corner(column, row), corner(column + 1, row + 1)];
    const names = { x: column, y: row, z: zoom };
    const href = this.tiles.template.replace(/\{([xyz])\}/g, (_, name) => names[name]);
    return shape("image", { href, x: left, y: -top, width: right - left, height: top - bottom, preserveAspectRatio: "none" });
  }
}

function columnOf(lon, zoom) {
  return Math.floor(((lon + 180) / 360) * 2 ** zoom);
}

function rowOf(lat, zoom) {
  const y = Math.asinh(Math.tan((lat * Math.PI) / 180)) / Math.PI;
  return Math.floor(((1 - y) / 2) * 2 ** zoom);
}

function cornerOf(column, row, zoom) {
  const n = 2 ** zoom;
  return [(column / n) * 360 - 180, (Math.atan(Math.sinh(Math.PI * (1 - (2 * row) / n))) * 180) / Math.PI];
}

function countOf(west, north, east, south, zoom) {
  return (columnOf(east, zoom) - columnOf(west, zoom) + 1) * (rowOf(south, zoom) - rowOf(north, zoom) + 1);
}

function tilesOf(west, north, east, south, zoom) {
  const found = [];
  for (let column = columnOf(west, zoom); column <= columnOf(east, zoom); column += 1)
    for (let row = rowOf(north, zoom); row <= rowOf(south, zoom); row += 1) found.push([column, row]);
  return found;
}
