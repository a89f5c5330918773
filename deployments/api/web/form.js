// The form that makes a video: a prompt, examples, a picture or a video to begin with, options in groups.

import { ApiError, call } from "./api.js";
import { button, field, h, seconds, select } from "./dom.js";
import { Given } from "./given.js";
import { culpritOf, parted, single } from "./single.js";
import { STAGES, nameOf, stageOptions, titled } from "./stages.js";

const SHOWN = 4; // examples

export function promptForm(offered, signal) {
  const error = h("p", { class: "error", role: "alert" });
  const prompt = h("textarea", {
    id: "prompt", name: "prompt", rows: 3, required: true, maxlength: offered.prompt_chars, placeholder: `${titled(offered.examples[0])}.`,
    "aria-describedby": "prompt-help",
    onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); },
  });
  const given = new Given(signal);
  const made = h("button", { class: "primary", type: "submit" }, "Make the video");
  const form = h("form", { class: "card prompt", novalidate: true, onsubmit: submit },
    h("h1", {}, h("label", { for: "prompt" }, "What should happen in the video?")),
    prompt,
    h("p", { id: "prompt-help", class: "hint" }, "One sentence: who, what they do, where, and in which style.", h("span", { class: "keys" }, " Ctrl+Enter sends it.")),
    examples(offered, prompt),
    given.element,
    h("p", { class: "actions" }, made, given.button),
    error,
    h("details", { class: "options" }, h("summary", {}, "Options"), groups(offered, given)),
    draws(offered));
  given.watch(form);

  async function submit(event) {
    event.preventDefault();
    error.textContent = "";
    for (const marked of form.querySelectorAll("[aria-invalid]")) marked.removeAttribute("aria-invalid");
    made.disabled = true;
    try {
      refuseUnread(form);
      const video = await call("POST", "v1/videos", bodyOf(form), { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) });
      location.hash = `#/video/${video.id}`;
    } catch (refused) {
      error.textContent = refused.message;
      const culprit = culpritOf(form, refused) ?? prompt;
      for (let fold = culprit.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
      culprit.setAttribute("aria-invalid", "true");
      culprit.focus();
    } finally {
      made.disabled = false;
    }
  }
  return form;
}

function examples(offered, prompt) {
  const take = (text) => { prompt.value = text; prompt.focus(); };
  return h("div", { class: "examples", role: "group", "aria-label": "Examples" },
    offered.examples.slice(0, SHOWN).map((text) => button(text, () => take(text), { class: "chip" })),
    button("Surprise me", () => take(surprise(offered)), { class: "chip" }));
}

// A prompt of what the model knows; where it knows the language, one of the examples.
function surprise({ draws, examples: known }) {
  const one = (list) => list[Math.floor(Math.random() * list.length)];
  if (!draws.subject?.length) return one(known);
  const subject = one(draws.subject);
  return `${/^[aeiou]/.test(subject) && !/^(uni|ufo)/.test(subject) ? "an" : "a"} ${subject} ${one(draws.motion)} ${one(draws.place)} ${one(draws.time)}`;
}

function groups(offered, given) {
  const each = (values) => Object.entries(values).map(([stage, value]) => `${nameOf(stage)} ${value}`).join(", ");
  const fps = offered.keyframe_fps * offered.factor;
  return [
    group("The video",
      field("Size", select("size", offered.sizes.map((size) => [size, size.replace("x", " × ")]))),
      field("Length", select("seconds", offered.seconds.map((text) => [text, seconds(Number(text)).replace(".0", "")]))),
      field("Frames per keyframe", number("factor", 2, offered.max_factor, String(offered.factor)), { help: `2 to ${offered.max_factor}; ${offered.factor} give ${fps} frames a second` })),
    group("How it is drawn",
      field("Seed", seed("drawn for you"), { help: "The same seed gives the same video" }),
      offered.built_in && field("Steps", number("steps", 1, offered.max_steps, "the preset's"), { help: `1 to ${offered.max_steps} for every stage; else ${each(offered.steps)}` }),
      offered.built_in && field("Guidance", h("input", { name: "guidance", type: "number", min: 1, max: 30, step: "any", placeholder: "the preset's" }), { help: `1 to 30: how strictly it follows the prompt; else ${each(offered.guidance)}` }),
      field("Not in the video", h("input", { name: "negative_prompt", type: "text", maxlength: offered.prompt_chars }), { kind: "wide" })),
    single(offered),
    group("Where it begins",
      field("Begin with this picture", given.picture, { help: "In the place of the one that would be drawn" }),
      field("Begin with this video", given.video),
      given.enter(field("and", select("enter", [["v2v", "redraw it in high resolution"], ["vfi", "only add frames between its frames"]])))),
    group("Where it stops",
      field("Approve the picture first", select("candidates", [["", "No"], ["1", "Yes, one"], ...range(2, offered.max_candidates).map((n) => [String(n), `Yes, the best of ${n}`])]),
        { help: "It waits for your choice, and uses no device meanwhile" }),
      field("Stop after", select("until", [["", "the last stage"], ...stageOptions(Object.keys(STAGES).slice(0, 3))]))),
  ];
}

function group(title, ...fields) {
  return h("fieldset", {}, h("legend", {}, title), h("div", { class: "fields" }, fields));
}

function draws(offered) {
  const known = Object.entries({ subject: "Who", look: "How they look", motion: "What they do", place: "Where", time: "When", camera: "Camera", style: "Style" })
    .filter(([slot]) => offered.draws[slot]?.length);
  const all = known.length > 0;
  return h("details", { class: "draws" }, h("summary", {}, `What ${offered.model} can draw`),
    all ? h("p", { class: "hint" }, "It was taught these words, and reads many others as one of them; it says so when it does.")
      : h("p", { class: "hint" }, `Anything that a sentence in English says${offered.reads ? `, in up to ${offered.reads} words and signs` : ""}.`),
    all && h("dl", { class: "words" }, known.map(([slot, title]) => h("div", {}, h("dt", {}, title), h("dd", {}, offered.draws[slot].join(", "))))));
}

// What the form says, without what was left empty: as JSON, or as a form when a file goes with it.
export function bodyOf(form) {
  const filled = [...new FormData(form)].filter(([, value]) => (value instanceof File ? value.name : value) !== "");
  const { others, stages } = parted(filled);
  const body = new FormData();
  for (const [name, value] of others) body.append(name, value);
  if (!body.has("input_video")) body.delete("enter");
  if (body.has("candidates")) body.append("pause_after", "t2i");
  if ([...body.values()].some((value) => value instanceof File)) {
    if (stages) body.append("stages", JSON.stringify(stages));
    return body;
  }
  const plain = Object.fromEntries(body);
  for (const name of ["steps", "guidance", "factor", "candidates"]) {
    if (name in plain) plain[name] = Number(plain[name]);
  }
  return { prompt: "", ...plain, ...(stages && { stages }) };
}

// As text, because an input of numbers rounds large ones.
export function seed(placeholder) {
  return h("input", { name: "seed", type: "text", inputmode: "numeric", autocomplete: "off", placeholder });
}

// What a field shows and its value lacks, since it is no number, would be lost without a word.
export function refuseUnread(form) {
  const unread = [...form.elements].find((control) => control.validity?.badInput);
  if (unread) throw new ApiError(0, `${unread.closest("label").innerText.trim()}: this is no number.`, unread.name, "invalid_field");
}

export function number(name, min, max, placeholder) {
  return h("input", { name, type: "number", inputmode: "numeric", min, max, step: 1, placeholder });
}

function range(first, last) {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}
