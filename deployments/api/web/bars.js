// Results as bars: how often one system was better, both the same, the other better; and how strong each system is.

import { h } from "./dom.js";

export function number(value, digits = 2) { return value === null || value === undefined ? "-" : value.toFixed(digits).replace(/^-(0\.0*)$/, "$1"); }
export function percent(value) { return value === null || value === undefined ? "-" : `${Math.round(100 * value)} %`; }
export function between(interval, said = number) { return interval ? ` (${said(interval[0])} to ${said(interval[1])})` : ""; }
export function chance(p) { return p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`; }

// The shares of three counts, as wide as their place. What it shows stands in words beside it.
export function stacked({ good, same, bad }) {
  const bar = h("div", { class: "stacked", "aria-hidden": "true" });
  for (const [kind, count] of [["good", good], ["same", same], ["bad", bad]]) {
    const part = h("span", { class: kind });
    part.style.flexGrow = count;
    if (count) bar.append(part);
  }
  return bar;
}

export function legend(a, b) {
  return h("p", { class: "legend" }, [["good", `${a} is better`], ["same", "same"], ["bad", `${b} is better`]]
    .map(([kind, text]) => h("span", { class: `patch ${kind}` }, text)));
}

// Strengths on one line for each system: a dot, and the interval around it.
export function strengths(ranking) {
  const ends = ranking.flatMap(({ strength, interval }) => interval ?? [strength]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const at = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  return h("ol", { class: "ranking" }, ranking.map(({ system, strength, interval }) => {
    const dot = h("span", { class: "dot" });
    dot.style.left = at(strength);
    const line = h("span", { class: "whisker" });
    if (interval) { line.style.left = at(interval[0]); line.style.right = `calc(100% - ${at(interval[1])})`; }
    return h("li", {}, h("b", {}, system), h("span", { class: "scale", "aria-hidden": "true" }, interval && line, dot),
      h("span", {}, number(strength), between(interval)));
  }));
}
