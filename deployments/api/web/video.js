// One video: its four stages while they run, what can be looked at already, and what can be done with it.

import { LAST, call, follow } from "./api.js";
import { h, say, seconds, setText } from "./dom.js";
import { field, lengthOf, refuseUnread, seed, select } from "./home.js";
import { STAGES, Strip } from "./stages.js";

const REFETCH_MS = 250;

export async function video(view, signal, id) {
  const first = await call("GET", `v1/videos/${encodeURIComponent(id)}`);
  if (!signal.aborted) new VideoView(view, signal, first);
}

class VideoView {
  constructor(view, signal, first) {
    this.id = first.id;
    this.path = `v1/videos/${encodeURIComponent(first.id)}`;
    this.signal = signal;
    this.strip = new Strip();
    this.status = h("p", { class: "status", role: "status" });
    this.error = h("p", { class: "error", role: "alert" });
    this.player = h("figure", { class: "player" });
    this.stills = h("div", { class: "stills" });
    this.approval = h("section", { class: "card approval", hidden: true, "aria-labelledby": "approve-title" });
    this.actions = h("div", { class: "actions" });
    this.facts = h("p", { class: "hint" });
    this.title = h("h1", {}, first.prompt || "(no prompt)");
    view.append(
      h("section", { class: "card video" }, this.title, this.facts, this.status, this.error, this.strip.element, this.player, this.stills, this.actions),
      this.approval, this.remixForm(first));
    this.show(first);
    if (!isFinal(first)) {
      const stop = follow(this.id, (event) => this.told(event), () => this.refetch());
      const timer = setInterval(() => this.strip.tickAll(), 1000);
      signal.addEventListener("abort", () => { stop(); clearInterval(timer); });
    }
  }

  told(event) {
    const { stage } = event.data;
    if (event.kind === "stage_progress") {
      this.strip.progress(stage, event.data.progress);
      return;
    }
    if (event.kind === "stage_started" && !this.strip.begun.has(stage)) this.strip.begun.set(stage, event.at);
    if (event.kind === "job_restarted") this.strip.begun.clear();
    if (event.kind === "keyframe_ready") this.keyframe(event.data.candidate);
    if (event.kind === "stage_restored" && stage === "t2i") this.keyframe(event.data.index);
    if (event.kind === "preview_ready" || (event.kind === "stage_restored" && stage === "i2v")) this.preview();
    if (event.kind === "chunk_ready" && event.data.total > 1) this.play("stream");
    this.refetch(LAST.has(event.kind));
  }

  refetch(now = false) {
    if (this.waiting && !now) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(async () => {
      this.waiting = null;
      if (this.signal.aborted) return;
      try {
        this.show(await call("GET", this.path));
      } catch (error) {
        if (error.status) setText(this.error, error.message);
      }
    }, now ? 0 : REFETCH_MS);
  }

  show(video) {
    if (this.video && isFinal(this.video)) return; // an answer that was late
    this.video = video;
    this.strip.show(video.stages);
    setText(this.status, sentence(video));
    this.status.dataset.status = video.error?.code === "cancelled" ? "cancelled" : video.status;
    setText(this.error, video.error && video.error.code !== "cancelled" ? video.error.message : "");
    setText(this.facts, [`seed ${video.seed}`, video.size.replace("x", " × "), lengthOf(video), video.model,
      video.fps && `${video.frames} frames at ${video.fps} a second`, video.note, video.waits_for].filter(Boolean).join(", "));
    if (isFinal(video)) {
      const done = new Set(video.stages.filter((stage) => stage.status === "completed").map((stage) => stage.name));
      if (done.has("t2i")) this.keyframe(0);
      if (done.has("i2v")) this.preview();
    }
    if (video.status === "completed") this.play("content");
    this.offerApproval(video);
    this.offerActions(video);
  }

  keyframe(candidate) {
    this.still(`keyframe-${candidate}`, "The picture it begins with", () =>
      h("img", { src: `${this.path}/content?variant=keyframe&candidate=${candidate}`, alt: "The reference picture" }));
  }

  preview() {
    this.still("preview", "The motion, before it was redrawn", () => h("video", {
      src: `${this.path}/content?variant=preview`, autoplay: true, loop: true, muted: true, playsinline: true, controls: true, "aria-label": "Preview in low resolution" }));
  }

  still(name, text, make) {
    if ([...this.stills.children].some((child) => child.dataset.name === name)) return;
    const media = make();
    const figure = h("figure", { "data-name": name }, media, h("figcaption", {}, text));
    media.addEventListener("error", () => figure.remove()); // not there yet, or no longer kept
    this.stills.append(figure);
  }

  // The stream plays to its end before the whole video takes its place; where the stream fails, at once.
  play(kind) {
    const old = this.player.querySelector("video");
    if (old?.dataset.kind === kind || old?.dataset.kind === "content") return;
    if (this.video?.until === "t2i" && kind === "content") {
      this.player.replaceChildren(h("img", { src: `${this.path}/content`, alt: "The picture" }));
      return;
    }
    if (old && !old.error && !old.ended) {
      this.awaited = kind;
      return;
    }
    const media = h("video", { src: `${this.path}/${kind}`, "data-kind": kind, controls: true, autoplay: true, loop: kind === "content",
      muted: true, playsinline: true, "aria-label": kind === "content" ? "The video" : "The video while it is made" });
    media.style.aspectRatio = (this.video?.size ?? "1x1").replace("x", " / "); // its place before its first frame
    this.player.replaceChildren(media);
    if (kind === "content") return;
    this.player.append(h("figcaption", {}, "It plays while the rest is made."));
    for (const end of ["ended", "error"]) media.addEventListener(end, () => { if (this.awaited) this.play(this.awaited); });
  }

  offerApproval(video) {
    const wanted = video.paused_after ?? "";
    if (this.approval.dataset.stage === wanted) return;
    this.approval.dataset.stage = wanted;
    this.approval.hidden = !wanted;
    if (!wanted) return;
    const pictures = wanted === "t2i" ? Array.from({ length: video.candidates }, (_, index) => index) : [];
    const go = (candidate) => this.act(() => call("POST", `${this.path}/continue`, { candidate }), "It goes on.");
    this.approval.replaceChildren(
      h("h2", { id: "approve-title" }, pictures.length > 1 ? "Which picture shall it be?" : "Shall it go on?"),
      h("p", { class: "hint" }, "The job waits for you and uses no device."),
      h("div", { class: "candidates" },
        pictures.map((index) => h("button", { type: "button", onclick: () => go(index) },
          h("img", { src: `${this.path}/content?variant=keyframe&candidate=${index}`, alt: `Picture ${index + 1}` }),
          h("span", {}, `Go on with picture ${index + 1}`)))),
      pictures.length ? null : h("p", {}, h("button", { class: "primary", type: "button", onclick: () => go(0) }, "Go on")));
  }

  offerActions(video) {
    const state = `${video.status}`;
    if (this.actions.dataset.state === state) return;
    this.actions.dataset.state = state;
    const button = (text, act, kind = "") => h("button", { type: "button", class: kind, onclick: act }, text);
    const parts = [];
    if (!isFinal(video)) {
      parts.push(this.sure("Cancel", "Stop it", () => this.act(() => call("POST", `${this.path}/cancel`), "It is stopped.")));
    } else {
      if (video.status === "completed") {
        const ending = video.until === "t2i" ? "png" : "mp4";
        parts.push(h("a", { class: "button primary", href: `${this.path}/content`, download: `${this.id}.${ending}` }, "Download"));
        if (!video.until || video.until === "vfi") parts.push(button("Extend", () => this.act(async () => {
          const made = await call("POST", `${this.path}/extend`, {});
          location.hash = `#/video/${made.id}`;
        }, "The continuation is queued.")));
      }
      parts.push(button("Remix", () => { this.remix.hidden = false; this.remix.querySelector("textarea").focus(); }));
      parts.push(this.sure("Delete", "Delete it", () => this.act(async () => {
        await call("DELETE", this.path);
        location.hash = "#/";
      }, "The video is deleted.")));
    }
    this.actions.replaceChildren(...parts);
  }

  // A button that asks before it acts, in its own place.
  sure(text, yes, act) {
    const place = h("span", { class: "sure" });
    const ask = h("button", { type: "button", class: "quiet", onclick: () => {
      place.replaceChildren(confirm, " ", keep);
      confirm.focus();
    } }, text);
    const confirm = h("button", { type: "button", class: "danger", onclick: act }, yes);
    const keep = h("button", { type: "button", onclick: () => { place.replaceChildren(ask); ask.focus(); } }, "No");
    place.append(ask);
    return place;
  }

  async act(what, done) {
    setText(this.error, "");
    try {
      await what();
      say(done);
      this.refetch(true);
    } catch (error) {
      setText(this.error, error.message);
      this.error.scrollIntoView({ block: "nearest" });
    }
  }

  remixForm(video) {
    const error = h("p", { class: "error", role: "alert" });
    const prompt = h("textarea", { name: "prompt", rows: 2, value: video.prompt });
    this.remix = h("form", { class: "card", hidden: true, novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      error.textContent = "";
      const said = Object.fromEntries(new FormData(this.remix));
      const body = {};
      if (said.prompt !== video.prompt) body.prompt = said.prompt;
      if (said.from_stage) body.from_stage = said.from_stage;
      if (said.seed !== "") body.seed = said.seed;
      for (const name of ["steps", "guidance"]) if (said[name] !== "") body[name] = Number(said[name]);
      try {
        refuseUnread(this.remix);
        const made = await call("POST", `${this.path}/remix`, body);
        location.hash = `#/video/${made.id}`;
      } catch (refused) {
        error.textContent = refused.message;
      }
    } },
      h("h2", {}, "Remix"),
      h("p", { class: "hint" }, "What comes before the first changed stage is taken over, and costs nothing."),
      h("label", { class: "field wide" }, h("span", {}, "Prompt"), prompt),
      h("div", { class: "fields" },
        field("Run again from", select("from_stage", [["", "where the changes begin"], ...Object.entries(STAGES).map(([name, [, long]]) => [name, long])])),
        field("Seed", seed(`as before: ${video.seed}`)),
        field("Steps", h("input", { name: "steps", type: "number", min: 1, step: 1, placeholder: "as before" })),
        field("Guidance", h("input", { name: "guidance", type: "number", min: 1, max: 30, step: "any", placeholder: "as before" }))),
      error,
      h("p", { class: "actions" }, h("button", { class: "primary", type: "submit" }, "Make the remix")));
    return this.remix;
  }
}

function isFinal(video) { return ["completed", "failed"].includes(video.status); }

function sentence(video) {
  const running = video.stages.find((stage) => ["running", "queued"].includes(stage.status));
  if (video.paused_after) return "Waits for your decision.";
  if (video.status === "queued") {
    const place = video.queue_position ? `${video.queue_position} ${video.queue_position === 1 ? "job goes" : "jobs go"} first` : "it is next";
    return `Queued: ${place}${video.eta_s ? `, done in about ${seconds(video.eta_s)}` : ""}.`;
  }
  if (video.status === "in_progress") {
    const now = running ? `${STAGES[running.name]?.[1] ?? running.name}` : "Between two stages";
    return `${now}, ${video.progress} % of all${video.eta_s ? `, done in about ${seconds(video.eta_s)}` : ""}.`;
  }
  if (video.error?.code === "cancelled") return "Cancelled.";
  if (video.status === "failed") return "It failed.";
  return "Done.";
}
