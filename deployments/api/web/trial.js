// One pair after the other: both videos, how far a rater is, the questions. The element stays while pairs come and go,
// and so does full screen.

import { Ballot } from "./ballot.js";
import { button, fill, h, setText } from "./dom.js";
import { Pair, place, stacked } from "./pair.js";

const NO_KEYS = "no-single-keys";

export class Trial {
  // `onVote` is told what a rater answers, `onBreak` that the rater wants one; `say` speaks to screen readers.
  constructor(rating, { onVote, onBreak, say }, signal) {
    Object.assign(this, { least: rating.min_watch_s, onVote, say, signal });
    this.pair = new Pair(rating.media, (watched) => this.watched(watched), (plays) => this.plays(plays));
    this.ballot = new Ballot(rating.criteria, (choices) => this.voted(choices), () => this.early(), say);
    this.title = h("h1", { tabindex: -1 });
    this.bar = h("progress", { class: "all", "aria-label": "Pairs that are rated" });
    this.prompt = h("p", { class: "hint" });
    this.playing = button("Pause", () => this.pair.toggle(), { "aria-keyshortcuts": "P" });
    this.keys = button("", () => this.setKeys(!this.hasKeys), { class: "keys", title: "Answer with 1 2 3 or G S B; P pause, R replay, F full screen" });
    this.wait = h("progress", { max: 1, "aria-label": "Watched of what is needed" });
    this.waitText = h("span");
    this.away = h("p", { class: "away", role: "alert" });
    this.told = h("div", { class: "feedback", hidden: true });
    this.element = h("section", { class: "trial", "aria-label": "A pair of videos" },
      h("div", { class: "top" }, this.title, this.bar, button("Take a break", onBreak, { class: "quiet" })),
      this.prompt, this.pair.element,
      h("div", { class: "handles" }, this.playing, button(["Replay", cap("R")], () => this.replay(), { "aria-keyshortcuts": "R" }),
        document.fullscreenEnabled && button(["Full screen", cap("F")], () => this.full(), { "aria-keyshortcuts": "F" }), this.keys),
      this.ballot.element, this.told);
    this.setKeys(readFlag() !== "yes");
    document.addEventListener("keydown", (event) => this.key(event), { signal });
    signal.addEventListener("abort", () => { this.pair.close(); if (document.fullscreenElement) document.exitFullscreen(); });
  }

  // What stands there while the videos of `trial` are on their way.
  coming(trial, progress) {
    this.trial = trial;
    this.replays = 0;
    this.pair.element.classList.add("loading");
    this.ballot.begin();
    const name = `${trial.training ? "Practice pair" : "Pair"} ${trial.number} of ${progress.total}`;
    setText(this.title, name);
    document.title = `${name} - Which is better?`;
    Object.assign(this.bar, { max: progress.total, value: progress.done });
    this.prompt.hidden = !trial.prompt;
    setText(this.prompt, trial.prompt ? `Asked for: ${trial.prompt}` : "");
    fill(this.ballot.note, "The videos are coming …");
  }

  async show(files) {
    await this.pair.load(files, this.signal);
    this.pair.element.classList.remove("loading");
    fill(this.ballot.note, this.wait, this.waitText);
    this.watched(0);
    this.say(`${this.title.textContent}. ${this.trial.prompt ? `Asked for: ${this.trial.prompt}. ` : ""}${place(0)} and ${place(1).toLowerCase()} video. `
      + `${this.ballot.question.textContent} ${this.least ? `You can answer after ${this.least} seconds.` : ""}`);
    this.pair.begin();
  }

  watched(seconds) {
    if (this.ballot.allowed || this.sent) return;
    this.wait.value = this.least ? Math.min(1, seconds / this.least) : 1;
    setText(this.waitText, this.left(seconds));
    if (seconds < this.least) return;
    this.ballot.allow(true);
    fill(this.ballot.note);
    if (this.least) this.say("You can answer now.");
  }

  left(seconds) { return `Watch both for ${Math.max(1, Math.ceil(this.least - seconds))} s more`; }

  early() {
    if (!this.sent) this.say(this.pair.ready ? `${this.left(this.pair.watched)} before you answer.` : "The videos are still coming.");
  }

  plays(plays) {
    fill(this.playing, plays ? "Pause" : "Play", cap("P"));
  }

  replay() {
    if (!this.pair.ready) return;
    this.replays += 1;
    this.pair.replay();
  }

  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.element.requestFullscreen().catch(() => {});
  }

  async voted(choices) {
    this.sent = true;
    fill(this.ballot.note, "Saving your answer …");
    try {
      await this.onVote({ trial: this.trial.id, choices, watched_s: this.pair.watched, replays: this.replays, layout: stacked() ? "stacked" : "beside" });
    } finally {
      this.sent = false;
    }
  }

  // What there is to read of a practice pair. Resolves when the rater goes on.
  async feedback(lines) {
    this.ballot.element.hidden = true;
    this.told.hidden = false;
    await new Promise((resolve) => {
      const next = button("Next pair", resolve, { class: "primary" });
      fill(this.told, lines.map((text) => h("p", {}, text)), next);
      this.say(lines.join(" "));
      next.focus();
    });
    this.told.hidden = true;
    this.ballot.element.hidden = false;
    this.title.focus({ preventScroll: true });
  }

  // Why nothing goes on, or null when it does.
  waits(text) {
    if (text) fill(this.ballot.note, this.away);
    else if (this.sent) fill(this.ballot.note);
    setText(this.away, text ?? "");
  }

  setKeys(on) {
    this.hasKeys = on;
    this.element.classList.toggle("without-keys", !on);
    setText(this.keys, on ? "Keys on" : "Keys off");
    writeFlag(on ? "no" : "yes");
  }

  key(event) {
    const name = event.key.toLowerCase();
    if (event.repeat && name === "enter" && this.ballot.element.contains(event.target)) event.preventDefault();
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !this.hasKeys || !this.element.isConnected) return;
    if (name === "p" || (name === " " && event.target.tagName !== "BUTTON")) this.pair.toggle();
    else if (name === "r") this.replay();
    else if (name === "f") this.full();
    else if (this.ballot.element.hidden || !this.ballot.key(name)) return;
    event.preventDefault();
  }
}

function cap(key) { return h("kbd", { class: "keys", "aria-hidden": "true" }, key); }
function readFlag() { try { return localStorage.getItem(NO_KEYS); } catch { return null; } }
function writeFlag(value) { try { localStorage.setItem(NO_KEYS, value); } catch { /* for this page alone */ } }
