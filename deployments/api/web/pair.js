// Two videos that begin together, go round together and stand still together, in boxes of one size. Both are there as
// a whole before either begins, and whatever happens to one of them happens to the other: a pause, a jump, a new round.

import { h } from "./dom.js";

const APART_S = 0.1; // more than that, and both jump to where the later of them is
const TICK_MS = 100;
const SUSPENDED_MS = 500; // after which a browser that has the file will read no more of it before it is played
const CALM = window.matchMedia("(prefers-reduced-motion: reduce)");
const STACKED = window.matchMedia("(max-aspect-ratio: 1/1)"); // as in rate.css

// Where a side is on this screen, in words: elements of which one is shown, and a text of now.
export const SIDES = [["Left", "Top"], ["Right", "Bottom"]];
export function placed(side, after = "") {
  return SIDES[side].map((word, stacked) => h("span", { class: stacked ? "if-stacked" : "if-beside" }, `${word}${after}`));
}
export function stacked() { return STACKED.matches; }
export function place(side) { return SIDES[side][Number(stacked())]; }

export class CannotPlay extends Error {
  constructor() { super("This browser cannot play one of the videos (H.264 in an mp4 file)."); }
}

export class Pair {
  // `onWatched` is told the seconds for which both have played; `onPlays` whether they play. All are of one size.
  constructor({ width, height }, onWatched, onPlays) {
    Object.assign(this, { onWatched, onPlays, wanted: false, urls: [] });
    this.media = SIDES.map(() => h("video", { muted: true, playsinline: true, preload: "auto", disablepictureinpicture: true, tabindex: -1 }));
    this.element = h("div", { class: "theatre loading" }, h("div", { class: "fits" }, h("div", { class: "pair" }, this.media.map((media, side) =>
      h("figure", { class: "side" }, h("div", { class: "box" }, media), h("figcaption", {}, placed(side)))))));
    this.element.style.setProperty("--ratio", (width / height).toFixed(4));
    for (const media of this.media) media.addEventListener("ended", () => this.round());
  }

  // Rejects where one of them cannot be fetched or played.
  async load(files, signal) {
    this.close();
    this.stop = new AbortController();
    signal.addEventListener("abort", () => this.close(), { once: true });
    this.urls = files.map((file) => URL.createObjectURL(file));
    this.watched = 0;
    this.jumping = false;
    await Promise.all(this.media.map((media, side) => new Promise((resolve, reject) => {
      const { signal: over } = this.stop;
      media.addEventListener("canplaythrough", resolve, { once: true, signal: over });
      media.addEventListener("suspend", () => setTimeout(() => { if (media.readyState > 0) resolve(); }, SUSPENDED_MS), { signal: over });
      media.addEventListener("error", () => reject(new CannotPlay()), { once: true, signal: over });
      over.addEventListener("abort", () => reject(over.reason), { once: true });
      media.src = this.urls[side];
      media.load();
    })));
    this.name();
    STACKED.addEventListener("change", () => this.name(), { signal: this.stop.signal });
    this.ready = true;
    this.timer = setInterval(() => this.tick(), TICK_MS);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.media.forEach((media) => media.pause());
      else if (this.wanted) this.both();
    }, { signal: this.stop.signal });
  }

  name() { this.media.forEach((media, side) => media.setAttribute("aria-label", `${place(side)} video`)); }

  close() {
    this.ready = false;
    this.stop?.abort(new DOMException("another pair", "AbortError"));
    clearInterval(this.timer);
    for (const media of this.media) { media.removeAttribute("src"); media.load(); }
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
  }

  // By itself only where the browser's user did not ask for less motion.
  begin() {
    if (CALM.matches) this.tells(false);
    else this.play();
  }

  play() {
    this.tells(true);
    return this.both();
  }

  pause() {
    this.tells(false);
    this.media.forEach((media) => media.pause());
  }

  toggle() {
    if (!this.ready) return;
    if (this.wanted) this.pause();
    else this.play();
  }

  async replay() {
    await this.jump(0);
    return this.play();
  }

  tells(plays) {
    this.wanted = plays;
    this.onPlays(plays);
  }

  async both() {
    this.last = this.media.map((media) => media.currentTime);
    try {
      await Promise.all(this.media.map((media) => media.play()));
    } catch (error) {
      if (error.name === "NotAllowedError") this.pause(); // the browser wants a touch first
    }
  }

  async jump(time) {
    this.media.forEach((media) => media.pause());
    await Promise.all(this.media.map((media) => new Promise((resolve) => {
      media.addEventListener("seeked", resolve, { once: true, signal: this.stop.signal });
      media.currentTime = time;
    })));
    this.last = [time, time];
  }

  // The one that is through waits for the other.
  async round() {
    if (!this.media.every((media) => media.ended)) return;
    this.tick();
    await this.jump(0);
    if (this.wanted && !document.hidden) this.both();
  }

  tick() {
    const now = this.media.map((media) => media.currentTime);
    const steps = now.map((time, side) => time - this.last[side]);
    this.last = now;
    if (!this.wanted || document.hidden) return;
    this.watched += Math.max(0, Math.min(...steps));
    this.onWatched(this.watched);
    const apart = Math.abs(now[0] - now[1]);
    if (apart > APART_S && !this.jumping && this.media.every((media) => !media.paused && !media.ended && !media.seeking)) this.rejoin(Math.min(...now));
  }

  async rejoin(time) {
    this.jumping = true;
    await this.jump(time);
    this.jumping = false;
    if (this.wanted && !document.hidden) this.both();
  }
}
