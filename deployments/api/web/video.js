// One video: what there is of it to see, above all else; how far it is, while it is made; what can be done with it.

import { LAST, call, follow } from "./api.js";
import { Actions } from "./actions.js";
import { Approval } from "./approval.js";
import { fill, h, seconds, setText, when } from "./dom.js";
import { failure } from "./failures.js";
import { offers } from "./offers.js";
import { Hero, PICTURE, PREVIEW, STREAM, WHOLE, canStream, film, stream } from "./player.js";
import { Strip, inOneLine, nameOf, titled } from "./stages.js";
import { isFinal, isWhole, lengthOf } from "./words.js";

const REFETCH_MS = 250;
const GLIMPSES = { t2i: [PICTURE, "The picture while it is drawn"], i2v: [PREVIEW, "The motion while it is worked out"] };

export async function video(view, signal, id) {
  const [first, offered] = await Promise.all([call("GET", `v1/videos/${encodeURIComponent(id)}`), offers()]);
  if (!signal.aborted) new VideoView(view, signal, first, offered);
}

class VideoView {
  constructor(view, signal, first, offered) {
    Object.assign(this, { id: first.id, signal, path: `v1/videos/${encodeURIComponent(first.id)}` });
    this.strip = new Strip(first.candidates > 1);
    this.hero = new Hero(first.size);
    this.approval = new Approval(this);
    this.actions = new Actions(this, first, offered);
    this.status = h("p", { class: "status", role: "status" });
    this.left = h("p", { class: "left" });
    this.all = h("progress", { class: "all", max: 100, value: 0, "aria-label": "Progress of all" });
    this.error = h("p", { class: "error", role: "alert" });
    this.failed = h("div", { class: "failed" });
    this.note = h("p", { class: "hint note", hidden: true });
    this.facts = h("p", { class: "hint" });
    this.made = h("div", { class: "made" });
    this.stills = h("div", { class: "stills" });
    this.prompt = first.prompt || "(no prompt)";
    this.line = h("div", { class: "line" }, this.status, this.left);
    view.append(
      h("section", { class: "card video" },
        h("h1", { class: "prompt-text" }, this.prompt), this.note,
        this.approval.element, this.hero.element, this.line, this.all, this.error, this.failed,
        this.actions.element, this.actions.said, this.facts, this.made, this.stills),
      this.actions.further);
    this.show(first);
    if (!isFinal(first)) {
      const stop = follow(this.id, (event) => this.told(event), () => { this.blind = true; this.refetch(); });
      const timer = setInterval(() => { this.strip.tickAll(); this.tick(); this.glimpse(); }, 1000);
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
    const kept = event.kind === "stage_restored" || event.kind === "stage_kept";
    const chosen = event.kind === "continued" || this.video.candidates === 1; // of several, none is it before
    if ((kept || event.kind === "continued") && stage === "t2i" && chosen) this.keyframe();
    if (kept && stage === "i2v") this.preview();
    if (stage === "vfi" || event.kind === "chunk_ready") this.stream(); // its first frames are about to come
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
    const before = this.video?.status;
    this.video = video;
    const over = isFinal(video);
    this.strip.show(video.stages, over);
    const state = video.error?.code === "cancelled" ? "cancelled" : video.paused_after ? "paused" : video.status;
    this.line.dataset.status = state;
    setText(this.status, sentence(video));
    this.endsAt = !over && video.eta_s ? Date.now() + 1000 * video.eta_s : null;
    this.tick();
    this.all.hidden = over || Boolean(video.paused_after);
    this.all.value = video.progress;
    this.note.hidden = !video.note && !video.waits_for;
    setText(this.note, [video.note, video.waits_for].filter(Boolean).join(" "));
    setText(this.facts, [`seed ${video.seed}`, video.size.replace("x", " × "), lengthOf(video), video.model,
      video.fps && `${video.frames} frames at ${video.fps} a second`, over && when(video.created_at)].filter(Boolean).join(", "));
    this.hero.says(waitsFor(video));
    document.title = titleOf(video, this.prompt);
    if (over) this.ended(video, before);
    else fill(this.made, this.strip.element);
    if (this.blind || (over && !isWhole(video))) this.partly(video);
    this.hero.element.hidden = Boolean(video.paused_after) || (over && !isWhole(video) && !this.hero.asked.size);
    this.approval.show(video);
    this.actions.show(video);
  }

  // Every second: what is left of the estimate.
  tick() {
    const left = this.endsAt === null ? null : (this.endsAt - Date.now()) / 1000;
    setText(this.left, left === null ? "" : left < 3 ? "any moment now" : `about ${left < 10 ? `${Math.ceil(left)} s` : seconds(left)} left`);
  }

  ended(video, before) {
    fill(this.made, video.status === "completed" && inOneLine(video.stages),
      h("details", { class: "how" }, h("summary", {}, "How it was made"), this.strip.element, h("p", { class: "hint" }, this.id)));
    if (isWhole(video)) this.whole(video);
    if (video.status === "failed" && video.error?.code !== "cancelled") fill(this.failed, failure(video));
    this.keepStills(video);
    if (before && !isFinal({ status: before })) this.actions.notify(video);
  }

  whole(video) {
    if (video.until === "t2i") {
      this.hero.put(WHOLE, h("img", { src: `${this.path}/content`, alt: "The picture" }), "");
      return;
    }
    // A file that somebody sent may bring its sound, which the stream has not.
    const heard = video.stages.some((stage) => stage.name !== "t2i" && stage.origin === "uploaded");
    if (this.streamed && this.streamed !== "failed" && !heard) return; // it is all there, and plays on
    this.content();
  }

  content() {
    this.hero.put(WHOLE, film({ src: `${this.path}/content`, "data-kind": "content", "aria-label": "The video" }), "",
      () => this.hero.says("The video is no longer kept."));
  }

  // What there is of it, where no event has told.
  partly(video) {
    if (past(video, "t2i") && (video.candidates === 1 || past(video, "i2v"))) this.keyframe();
    if (past(video, "i2v")) this.preview();
    if (video.stages.some((stage) => stage.name === "vfi" && stage.status === "running")) this.stream();
  }

  keyframe() {
    this.hero.put(PICTURE, h("img", { src: `${this.path}/content?variant=keyframe`, alt: "The reference picture" }),
      "The picture it begins with");
  }

  // A denoising step of what is being drawn, where the server shows any.
  async glimpse() {
    const stage = this.video.stages.find(({ name, status }) => status === "running" && GLIMPSES[name]);
    if (!stage || this.looks || document.hidden || this.video.candidates > 1) return;
    this.looks = true;
    try {
      const answer = await fetch(`${this.path}/glimpse`, { signal: this.signal });
      if (answer.status === 200) await this.hero.glimpse(await answer.blob(), ...GLIMPSES[stage.name]);
    } catch { // the next second asks again
    } finally {
      this.looks = false;
    }
  }

  preview() {
    this.hero.put(PREVIEW, film({ src: `${this.path}/content?variant=preview`, "aria-label": "Preview in low resolution" }),
      "The motion, in low resolution; the detail comes next");
  }

  // The video while it is made. Where it cannot be played so, the whole is shown when it is there.
  async stream() {
    if (!canStream || (this.streamed && this.streamed !== "failed") || isFinal(this.video)) return;
    this.streamed = "coming";
    const { frames, fps } = this.video;
    const all = fps ? frames / fps : null;
    const media = film({ "data-kind": "stream", "aria-label": "The video while it is made" });
    this.hero.put(STREAM, media, "Its first frames; it goes on while the rest is made", () => this.lost());
    try {
      await stream(media, `${this.path}/stream`, this.signal, all, (there) => {
        const first = `The first ${seconds(there)}${all ? ` of ${seconds(all)}` : ""}; it goes on while the rest is made`;
        this.hero.tells(STREAM, first);
      });
      this.streamed = "whole";
      media.setAttribute("aria-label", "The video");
      this.hero.tells(STREAM, "");
    } catch (error) {
      if (this.signal.aborted) return;
      this.hero.lose(STREAM, media, () => this.lost());
    }
  }

  lost() {
    this.streamed = "failed";
    if (this.video && isWhole(this.video)) this.content();
    else if (this.video) this.show(this.video);
  }

  // Of a finished video, what it was made of.
  keepStills(video) {
    const done = new Set(video.stages.filter((stage) => stage.status === "completed").map((stage) => stage.name));
    const parts = [];
    if (done.has("t2i") && video.until !== "t2i") parts.push(["The picture it begins with",
      h("img", { src: `${this.path}/content?variant=keyframe`, alt: "The picture it begins with", loading: "lazy" })]);
    if (done.has("i2v") && !["t2i", "i2v"].includes(video.until)) parts.push(["The motion, before it was redrawn",
      film({ src: `${this.path}/content?variant=preview`, autoplay: false, preload: "metadata", "aria-label": "The motion, before it was redrawn" })]);
    fill(this.stills, parts.map(([text, media]) => {
      const figure = h("figure", {}, media, h("figcaption", {}, text));
      media.addEventListener("error", () => figure.remove()); // no longer kept
      return figure;
    }));
  }
}

function past(video, name) {
  return video.stages.some((stage) => stage.name === name && stage.status === "completed");
}

function titleOf(video, prompt) {
  const short = prompt.length > 40 ? `${prompt.slice(0, 40)}…` : prompt;
  const state = { queued: "Queued", in_progress: `${video.progress} %`, completed: "✓", failed: "✗" }[video.status];
  return `${video.paused_after ? "Your choice" : state} · ${short} - MagicVideo`;
}

function waitsFor(video) {
  if (isFinal(video)) return isWhole(video) ? "" : "There is nothing to see of it.";
  if (video.status === "queued") return "Waiting for its turn";
  return "The picture comes first";
}

function sentence(video) {
  const running = video.stages.find((stage) => ["running", "queued"].includes(stage.status));
  if (video.paused_after) return "Waits for your decision.";
  if (video.status === "queued") {
    const jobs = video.queue_position;
    return jobs ? `Queued: ${jobs} ${jobs === 1 ? "job goes" : "jobs go"} first.` : "Queued: it is next.";
  }
  if (video.status === "in_progress") {
    return running ? `${titled(nameOf(running.name))}, ${video.progress} % of all.` : `${video.progress} % of all.`;
  }
  if (video.error?.code === "cancelled") return "Cancelled.";
  if (video.status === "failed") return "It failed.";
  return "Done.";
}
