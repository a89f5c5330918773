// The form that makes a new video of one that there is, from the first stage that the changes reach.

import { call } from "./api.js";
import { field, h, select } from "./dom.js";
import { number, refuseUnread, seed } from "./form.js";
import { culpritOf, parted, single } from "./single.js";
import { stageOptions } from "./stages.js";

export function remixForm(path, video, offered) {
  const error = h("p", { class: "error", role: "alert" });
  const submit = h("button", { class: "primary", type: "submit" }, "Make the remix");
  const form = h("form", { class: "card", hidden: true, novalidate: true, "aria-label": "Remix", onsubmit: async (event) => {
    event.preventDefault();
    error.textContent = "";
    submit.disabled = true;
    try {
      refuseUnread(form);
      const made = await call("POST", `${path}/remix`, changesOf(form, video));
      location.hash = `#/video/${made.id}`;
    } catch (refused) {
      error.textContent = refused.message;
      const culprit = culpritOf(form, refused);
      culprit?.closest("details")?.setAttribute("open", "");
      culprit?.focus();
    } finally {
      submit.disabled = false;
    }
  } },
    h("h2", {}, "Remix"),
    h("p", { class: "hint" }, "A new video with your changes. What comes before the first changed stage is taken over, and costs nothing."),
    field("Prompt", h("textarea", { name: "prompt", rows: 2, value: video.prompt, maxlength: offered.prompt_chars }), { kind: "wide" }),
    h("div", { class: "fields" },
      field("Run again from", select("from_stage", [["", "where the changes begin"], ...stageOptions()])),
      field("Seed", seed(`as before: ${video.seed}`)),
      offered.built_in && field("Steps", number("steps", 1, offered.max_steps, "as before")),
      offered.built_in && field("Guidance", h("input", { name: "guidance", type: "number", min: 1, max: 30, step: "any", placeholder: "as before" })),
      field("Frames per keyframe", number("factor", 2, offered.max_factor, "as before"))),
    single(offered, "as before"),
    error,
    h("p", { class: "actions" }, submit));
  return form;
}

function changesOf(form, video) {
  const { others, stages } = parted([...new FormData(form)]);
  const said = Object.fromEntries(others);
  const body = stages ? { stages } : {};
  if (said.prompt !== video.prompt) body.prompt = said.prompt;
  if (said.from_stage) body.from_stage = said.from_stage;
  if (said.seed !== "") body.seed = said.seed;
  for (const name of ["steps", "guidance", "factor"]) if (said[name]) body[name] = Number(said[name]);
  return body;
}
