// The first view: a prompt with its options, and the videos there are, newest first.

import { ApiError, call } from "./api.js";
import { choices } from "./choices.js";
import { h, say } from "./dom.js";
import { STAGES } from "./stages.js";

const PAGE = 12;
const POLL_MS = 3000;
const EXAMPLE = "A fat rabbit walking through a snowy forest at dusk, oil painting style.";

export async function home(view, signal) {
  const gallery = new Gallery(signal);
  view.append(await promptForm(), gallery.element);
  await gallery.load();
}

async function promptForm() {
  const offers = await choices();
  const error = h("p", { class: "error", role: "alert" });
  const prompt = h("textarea", {
    id: "prompt", name: "prompt", rows: 3, required: true, maxlength: offers.promptChars, placeholder: EXAMPLE,
    "aria-describedby": "prompt-help",
    onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); },
  });
  const button = h("button", { class: "primary", type: "submit" }, "Make the video");
  const enter = select("enter", [["v2v", "redraw it in high resolution"], ["vfi", "only add frames between its frames"]]);
  const candidates = select("candidates", [["", "No"], ["1", "Yes, one"],
    ...range(2, offers.candidates).map((n) => [String(n), `Yes, the best of ${n}`])]);
  const form = h("form", { class: "card prompt", novalidate: true, onsubmit: submit },
    h("h1", {}, h("label", { for: "prompt" }, "What should happen in the video?")),
    prompt,
    h("p", { id: "prompt-help", class: "hint" }, "One sentence: who, what they do, where, and in which style. Ctrl+Enter sends it."),
    h("details", {},
      h("summary", {}, "Options"),
      h("div", { class: "fields" },
        field("Size", select("size", offers.sizes.map((size) => [size, size.replace("x", " × ")]))),
        field("Length", select("seconds", offers.seconds.map((text) => [text, `${text} s`]))),
        field("Seed", seed("drawn for you")),
        field("Steps", number("steps", 1, offers.steps, "the preset's")),
        field("Guidance", h("input", { name: "guidance", type: "number", min: 1, max: 30, step: "any", placeholder: "the preset's" })),
        field("Frames per keyframe", number("factor", 2, offers.factor, "the preset's")),
        field("Approve the picture first", candidates),
        field("Stop after", select("until", [["", "the last stage"], ...Object.entries(STAGES).slice(0, 3).map(([name, [, long]]) => [name, long])])),
        field("Not in the video", h("input", { name: "negative_prompt", type: "text", maxlength: offers.promptChars }), "wide"),
        field("Begin with this picture", h("input", { name: "input_reference", type: "file", accept: "image/png,image/jpeg,image/webp" }), "wide"),
        field("Begin with this video", h("input", { name: "input_video", type: "file", accept: "video/mp4,video/webm,.mov,.mkv" }), "wide"),
        field("and", enter))),
    error,
    h("p", { class: "actions" }, button));

  async function submit(event) {
    event.preventDefault();
    error.textContent = "";
    for (const marked of form.querySelectorAll("[aria-invalid]")) marked.removeAttribute("aria-invalid");
    button.disabled = true;
    try {
      refuseUnread(form);
      const made = await call("POST", "v1/videos", bodyOf(form), { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) });
      location.hash = `#/video/${made.id}`;
    } catch (refused) {
      error.textContent = refused.message;
      const culprit = form.elements.namedItem(refused.param ?? "") ?? prompt;
      culprit.closest("details")?.setAttribute("open", "");
      culprit.setAttribute("aria-invalid", "true");
      culprit.focus();
    } finally {
      button.disabled = false;
    }
  }
  return form;
}

// What the form says, without what was left empty: as JSON, or as a form when a file goes with it.
export function bodyOf(form) {
  const filled = [...new FormData(form)].filter(([, value]) => (value instanceof File ? value.name : value) !== "");
  const body = new FormData();
  for (const [name, value] of filled) body.append(name, value);
  if (!body.has("input_video")) body.delete("enter");
  if (body.has("candidates")) body.append("pause_after", "t2i");
  if ([...body.values()].some((value) => value instanceof File)) return body;
  const plain = Object.fromEntries(body);
  for (const name of ["steps", "guidance", "factor", "candidates"]) {
    if (name in plain) plain[name] = Number(plain[name]);
  }
  return { prompt: "", ...plain };
}

class Gallery {
  constructor(signal) {
    this.cards = new Map();
    this.list = h("ul", { class: "gallery" });
    this.empty = h("p", { class: "hint", hidden: true }, "Nothing yet. The first video will stand here.");
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.load(this.last).catch((error) => say(error.message)) }, "Older videos");
    this.element = h("section", { "aria-labelledby": "videos" }, h("h2", { id: "videos" }, "Videos"), this.empty, this.list, h("p", {}, this.more));
    const timer = setInterval(() => this.refresh(), POLL_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
  }

  async load(after) {
    const page = await call("GET", `v1/videos?limit=${PAGE}${after ? `&after=${encodeURIComponent(after)}` : ""}`);
    for (const video of page.data) this.put(video, true);
    this.last = page.last_id;
    this.more.hidden = !page.has_more;
    this.empty.hidden = this.cards.size > 0;
  }

  async refresh() {
    const unfinished = [...this.cards.values()].some(({ video }) => !["completed", "failed"].includes(video.status));
    if (document.hidden || !unfinished || this.asking) return;
    this.asking = true;
    try {
      const page = await call("GET", `v1/videos?limit=${PAGE}`);
      for (const video of page.data.reverse()) this.put(video, false);
    } catch {
      // the health line says that the server is away; the next round asks again
    } finally {
      this.asking = false;
    }
  }

  put(video, older) {
    const state = `${video.status} ${video.progress} ${video.paused_after ?? ""}`;
    const known = this.cards.get(video.id);
    if (known?.state === state) return;
    const card = cardOf(video);
    if (known) known.card.replaceWith(card);
    else if (older) this.list.append(card);
    else this.list.prepend(card);
    this.cards.set(video.id, { card, state, video });
  }
}

function cardOf(video) {
  const done = video.status === "completed";
  const state = video.error?.code === "cancelled" ? "cancelled" : video.paused_after ? "waits for you" : video.status.replace("_", " ");
  const picture = done
    ? h("img", { src: `v1/videos/${encodeURIComponent(video.id)}/content?variant=thumbnail`, alt: "", loading: "lazy",
        onerror: (event) => event.target.replaceWith(h("span", { class: "blank" }, "no longer kept")) })
    : h("span", { class: "blank" }, video.status === "failed" ? "" : h("progress", { max: 100, value: video.progress, "aria-label": "Progress" }));
  return h("li", {},
    h("a", { class: "tile", href: `#/video/${encodeURIComponent(video.id)}`, "data-status": video.status },
      picture,
      h("span", { class: "caption" }, video.prompt || "(no prompt)"),
      h("span", { class: "meta" }, done ? `${video.size.replace("x", " × ")}, ${lengthOf(video)}` : state)));
}

export function field(text, control, kind = "") {
  return h("label", { class: `field ${kind}` }, h("span", {}, text), control);
}

export function select(name, options) {
  return h("select", { name }, options.map(([value, text]) => h("option", { value }, text)));
}

export function lengthOf(video) { return video.until === "t2i" ? "one picture" : `${video.seconds} s`; }

// As text, because an input of numbers rounds large ones.
export function seed(placeholder) {
  return h("input", { name: "seed", type: "text", inputmode: "numeric", autocomplete: "off", placeholder });
}

// What a field shows and its value lacks, since it is no number, would be lost without a word.
export function refuseUnread(form) {
  const unread = [...form.elements].find((control) => control.validity?.badInput);
  if (unread) throw new ApiError(0, `${unread.closest("label").innerText.trim()}: this is no number.`, unread.name, "invalid_field");
}

function number(name, min, max, placeholder) {
  return h("input", { name, type: "number", inputmode: "numeric", min, max, step: 1, placeholder });
}

function range(first, last) {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}
