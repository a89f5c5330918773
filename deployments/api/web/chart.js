// A small chart with axes that say what they measure: lines over the last hour, or bars a minute.

import { h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 128, LEFT = 26, RIGHT = 4, TOP = 8, BOTTOM = 20; // pixels

function s(tag, properties, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

// The least round number that is not below `value`.
function ceiling(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((top) => top >= value);
}

export class Chart {
  // `unit` stands at the upright axis; `lines` are [class, text] of each line.
  constructor(about, unit, lines, span = 3600) {
    Object.assign(this, { about, unit, lines, span });
    this.svg = s("svg", { height: HEIGHT, role: "img", class: "chart" });
    this.element = h("figure", { class: "graph" }, this.svg,
      h("figcaption", {}, lines.map(([kind, text]) => h("span", { class: `key ${kind}` }, text))));
  }

  // `points` are [seconds ago, values...], the oldest first.
  show(points, bars = false) {
    const width = this.svg.clientWidth || 320; // as wide as its place, whose words stay as large as all others
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const top = ceiling(Math.max(0, ...points.flatMap(([, ...values]) => values)));
    const x = (ago) => LEFT + (width - LEFT - RIGHT) * (1 - Math.min(1, ago / this.span));
    const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top;
    const shown = points.filter(([ago]) => ago <= this.span);
    const drawn = this.lines.map(([kind], index) => bars
      ? s("g", { class: kind }, ...shown.filter((point) => point[1]).map(([ago, value]) =>
        s("rect", { x: x(ago), y: y(value), width: Math.max(2, (width - LEFT - RIGHT) / 60 - 1), height: HEIGHT - BOTTOM - y(value) })))
      : s("polyline", { class: kind, points: shown.map(([ago, ...values]) => `${x(ago).toFixed(1)},${y(values[index]).toFixed(1)}`).join(" ") }));
    const minutes = Math.round(this.span / 60);
    this.svg.replaceChildren(
      ...[0, top / 2, top].map((value) => s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) })),
      ...[0, top / 2, top].map((value) => s("text", { x: LEFT - 4, y: y(value) + 3, "text-anchor": "end" }, String(value))),
      ...[minutes, minutes / 2, 0].map((ago) => s("text", { x: x(60 * ago), y: HEIGHT - 6, "text-anchor": ago === 0 ? "end" : ago === minutes ? "start" : "middle" }, ago ? `${ago} min ago` : "now")),
      ...drawn);
    const last = points.at(-1)?.slice(1) ?? [];
    this.svg.setAttribute("aria-label", `${this.about}, ${this.unit} over the last ${minutes} minutes: `
      + (last.length ? this.lines.map(([, text], index) => `${text} ${last[index]} now`).join(", ") : "nothing seen yet"));
  }
}
