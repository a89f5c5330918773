// Steps and guidance of single stages, before those of all: a fold of the forms, and what was said in it.

import { field, h } from "./dom.js";
import { nameOf, titled } from "./stages.js";

export function single(offered, kept) {
  const one = (stage, what, range) => field(`${titled(nameOf(stage))}, ${what}`,
    h("input", { name: `stages.${stage}.${what}`, type: "number", min: 1, ...range, placeholder: kept ?? String(offered[what][stage]) }));
  return h("details", { class: "single" }, h("summary", {}, "Steps and guidance of one stage"),
    h("div", { class: "fields" }, Object.keys(offered.steps).map((stage) => [
      one(stage, "steps", { max: offered.max_steps, step: 1, inputmode: "numeric" }),
      one(stage, "guidance", { max: 30, step: "any" })])));
}

// Takes what is of single stages out of the pairs of a form, and puts it together.
export function parted(pairs) {
  const stages = {};
  const others = pairs.filter(([name, value]) => {
    const [whole, stage, what] = name.split(".");
    if (what === undefined) return true;
    if (value !== "") (stages[stage] ??= {})[what] = Number(value);
    return whole !== "stages";
  });
  return { others, stages: Object.keys(stages).length ? stages : null };
}

// Whose value a refusal is about: its sentence begins with the name, where the field is within another.
export function culpritOf(form, refused) {
  return [...form.elements].find((control) => control.name?.includes(".") && refused.message.startsWith(`${control.name} `))
    ?? form.elements.namedItem(refused.param ?? "");
}
