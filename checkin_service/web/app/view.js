// Elements, made one by one: no text ever becomes markup.

/** An element with attributes (a function is a listener, true is bare, false and null are left out) and children. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return made;
}

/** A button that takes no second tap while its work lasts. */
export function button(label, work, attributes = {}) {
  const click = async () => {
    if (made.getAttribute("aria-disabled") === "true") return;
    made.setAttribute("aria-disabled", "true");
    try {
      await work();
    } finally {
      if (!made.dataset.kept) made.removeAttribute("aria-disabled");
    }
  };
  const made = el("button", { type: "button", click, ...attributes }, label);
  return made;
}

/** Lets a button be tapped, or not; it keeps its place for who goes by keyboard or ear. */
export function allow(made, may) {
  made.dataset.kept = may ? "" : "1";
  if (may) made.removeAttribute("aria-disabled");
  else made.setAttribute("aria-disabled", "true");
}

/** The little of Markdown that a notice is written in, as elements; its heading becomes an h2. */
export function notice(text) {
  const parts = [];
  let list = null;
  for (const line of text.split("\n").map((l) => l.trim()).filter(Boolean)) {
    const [, sign, rest] = line.match(/^(#+|-|\d+\.)?\s*(.*)$/);
    if (!sign || sign.startsWith("#")) {
      list = null;
      parts.push(el(sign ? `h${Math.min(6, sign.length + 1)}` : "p", {}, ...emphasised(rest)));
    } else {
      const kind = sign === "-" ? "UL" : "OL";
      if (list?.tagName !== kind) parts.push((list = el(kind.toLowerCase())));
      list.append(el("li", {}, ...emphasised(rest)));
    }
  }
  // it scrolls by itself, by keys too
  return el("article", { class: "notice", tabindex: "0" }, parts);
}

function emphasised(text) {
  return text.split("**").map((part, index) => (index % 2 ? el("strong", {}, part) : part));
}

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Rows of dark and light modules as a picture with its quiet zone. */
export function modules(rows, label) {
  const size = rows.length + 8;
  const runs = rows.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + 4} ${y + 4}h1v1h-1z` : "")));
  const drawn = shape("svg", { viewBox: `0 0 ${size} ${size}`, class: "qr", role: "img", "aria-label": label, "shape-rendering": "crispEdges" });
  drawn.append(shape("path", { d: runs.join("") }));
  return drawn;
}

/** The oval to put a face into; for the eyes only. */
export function oval() {
  const drawn = shape("svg", { viewBox: "0 0 300 400", class: "oval", "aria-hidden": "true" });
  drawn.append(shape("path", { class: "around", d: "M0 0H300V400H0ZM150 50C80 50 55 120 55 190S105 345 150 345 245 260 245 190 220 50 150 50Z" }));
  drawn.append(shape("path", { class: "edge", d: "M150 50C80 50 55 120 55 190S105 345 150 345 245 260 245 190 220 50 150 50Z" }));
  return drawn;
}
