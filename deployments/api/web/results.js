// What the votes of a study say: a sentence, bars, how sure that is, and how far the raters can be relied on.

import { between, chance, legend, number, percent, stacked, strengths } from "./bars.js";
import { h } from "./dom.js";

// `more` stands below the automatic numbers.
export function resultsOf(results, study, more) {
  const asked = Object.fromEntries(study.criteria.map(({ name, question }) => [name, question]));
  asked.all = "All questions together";
  const pairs = grouped(results.comparisons);
  return [
    h("p", {}, `${results.votes} ${results.votes === 1 ? "vote" : "votes"} of ${results.raters} ${results.raters === 1 ? "rater" : "raters"} count.`),
    pairs.map((comparisons) => comparison(comparisons, asked)),
    results.ranking.length > 0 && h("section", {}, h("h2", {}, "Ranking"),
      h("p", { class: "hint" }, "Strength by Bradley and Terry: 0 is the mean of all, a difference of 1 is odds of 2.7 to 1. With 95 % intervals."), strengths(results.ranking)),
    results.votes > 0 && h("details", {}, h("summary", {}, "By prompt"), results.prompts.map((row) =>
      h("div", { class: "row" }, h("b", {}, row.prompt), pairs.length > 1 && h("small", {}, ` ${row.a} against ${row.b}`),
        stacked(row), h("p", { class: "hint" }, counts(row))))),
    results.votes > 0 && h("details", {}, h("summary", {}, "How far the raters can be relied on"), reliance(results, asked)),
    results.numbers.length > 0 && h("details", {}, h("summary", {}, "Automatic numbers beside the votes"), numbers(results, study), more),
    results.notes.map((note) => h("p", { class: "hint note" }, note)),
  ];
}

function grouped(comparisons) {
  const groups = {};
  for (const one of comparisons) (groups[`${one.a}\n${one.b}`] ??= []).push(one);
  return Object.values(groups);
}

function comparison(rows, asked) {
  const [first] = rows;
  const seen = rows.filter(({ good, same, bad }) => good + same + bad);
  return h("section", {}, h("h2", {}, verdict(first)), seen.length > 0 && legend(first.a, first.b),
    seen.map((row) => h("div", { class: "row" }, h("b", {}, asked[row.criterion] ?? row.criterion), stacked(row), h("p", { class: "hint" }, counts(row), h("br"), sureness(row)))));
}

function verdict({ a, b, verdict: said, missing }) {
  if (said === "a") return `${a} is better than ${b}`;
  if (said === "b") return `${b} is better than ${a}`;
  if (said === "no difference") return `${a} and ${b}: no difference is seen`;
  return `${a} and ${b}: too few votes, ${missing} more before anything is said`;
}

function counts({ a, b, good, same, bad }) { return `${good} for ${a}, ${same} the same, ${bad} for ${b}`; }

function sureness(row) {
  return [
    row.ratio !== null && `ratio (G+S)/(B+S) ${number(row.ratio)}${between(row.ratio_interval)}`,
    row.preference !== null && `preferred ${percent(row.preference)}${between(row.preference_interval, percent)}`,
    row.preference_untied !== null && `without ties ${percent(row.preference_untied)}${between(row.preference_untied_interval, percent)}`,
    row.p_value !== null && `sign test ${chance(row.p_value)}`,
    row.missing > 0 && `${row.missing} votes are missing`,
  ].filter(Boolean).join("; ");
}

function reliance({ agreement, side_bias: bias }, asked) {
  return h("ul", {},
    agreement.map(({ criterion, fleiss_kappa, krippendorff_alpha }) => h("li", {},
      `${asked[criterion] ?? criterion} Fleiss' kappa ${number(fleiss_kappa)}, Krippendorff's alpha ${number(krippendorff_alpha)}; 1 is full agreement, 0 is chance.`)),
    h("li", {}, `The left video was named ${bias.left} times, the right one ${bias.right} times${bias.p_value === null ? "" : `, ${chance(bias.p_value)}`}.`));
}

function numbers({ numbers: rows, between }, { systems }) {
  const table = h("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Automatic numbers" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Number", ...systems, "Goes with the votes"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.number), systems.map((system) => h("td", {}, number(row.means[system], 3))),
      h("td", {}, row.correlation === null ? "not known" : `${number(row.correlation)} (Spearman, ${row.pairs} pairs${row.goes_with === "same" ? "; with votes for the same" : ""})`))))));
  return [table, between.map(({ a, b, numbers: of }) => h("p", { class: "hint" }, `${a} against ${b}: ${Object.entries(of).map(([name, value]) => `${name} ${number(value, 3)}`).join(", ")}`))];
}
