// The place where a video is looked at: always the best that there is, from the picture to the whole video; and a video
// that plays while it is made.

import { fill, h } from "./dom.js";

// In the order in which one takes the place of the other.
export const PICTURE = 1, PREVIEW = 2, STREAM = 3, WHOLE = 4;

export class Hero {
  constructor(size) {
    const [width, height] = size.split("x").map(Number);
    this.waits = h("div", { class: "waits" });
    this.frame = h("div", { class: "frame" }, this.waits);
    this.frame.style.setProperty("--ratio", String(width / height));
    this.frame.style.setProperty("--widest", `${2 * width}px`);
    this.caption = h("figcaption");
    this.element = h("figure", { class: "hero" }, this.frame, this.caption);
    this.rank = 0; // of what is shown
    this.asked = new Map(); // rank -> media that are shown or on their way
    this.captions = new Map();
  }

  // What is not there yet.
  says(text) { fill(this.waits, text); }

  // `media` takes the place of what has a lower rank as soon as there is something of it to see.
  put(rank, media, caption, onLost = () => {}) {
    if (rank <= this.rank || this.asked.has(rank)) return;
    this.asked.set(rank, media);
    this.captions.set(rank, caption);
    media.classList.add("coming");
    const ready = media.tagName === "VIDEO" ? "loadeddata" : "load";
    media.addEventListener(ready, () => {
      if (this.asked.get(rank) !== media) return;
      if (rank < this.rank) { media.remove(); return; }
      this.rank = rank;
      media.classList.remove("coming");
      for (const other of [...this.frame.children]) if (other !== media && !this.comes(other, rank)) other.remove();
      fill(this.caption, this.captions.get(rank));
    }, { once: true });
    media.addEventListener("error", () => this.lose(rank, media, onLost));
    this.frame.append(media);
  }

  // A step of what `rank` will be, in its place until it is there.
  async glimpse(blob, rank, caption) {
    const url = URL.createObjectURL(blob);
    const image = h("img", { src: url, alt: caption, class: "glimpse" });
    await image.decode().catch(() => {});
    URL.revokeObjectURL(url);
    if (this.rank >= rank) return;
    this.frame.querySelector(".glimpse")?.remove();
    this.frame.append(image);
    fill(this.caption, caption);
  }

  tells(rank, caption) {
    this.captions.set(rank, caption);
    if (rank === this.rank) fill(this.caption, caption);
  }

  lose(rank, media, onLost) {
    if (this.asked.get(rank) !== media) return;
    this.asked.delete(rank);
    if (this.rank === rank) {
      this.rank = 0;
      this.frame.append(this.waits);
      fill(this.caption);
    }
    media.remove();
    onLost();
  }

  comes(media, rank) {
    return [...this.asked].some(([other, its]) => its === media && other > rank);
  }
}

export function film(properties) {
  return h("video", { controls: true, autoplay: true, muted: true, playsinline: true, loop: true, ...properties });
}

const Source = window.ManagedMediaSource ?? window.MediaSource;
export const canStream = Boolean(Source);
const TURN_S = 0.5; // so near to the end of what is there, it begins again

// Play what `path` gives into `media` while it comes: its first frames when they are there, round and round until there
// are more, and at its end the whole, without loading any of it again. `onMore` is told how many seconds there are.
export async function stream(media, path, signal, seconds, onMore) {
  const response = await fetch(path, { signal });
  if (!response.ok) throw new Error(`The stream answered ${response.status}.`);
  const type = response.headers.get("Content-Type");
  if (!Source?.isTypeSupported(type)) {
    await response.body?.cancel();
    throw new Error(`This browser does not play ${type} while it comes.`);
  }
  const source = new Source();
  media.disableRemotePlayback = true; // without which a ManagedMediaSource is not opened
  media.loop = false;
  media.src = URL.createObjectURL(source);
  await event(source, "sourceopen", signal);
  URL.revokeObjectURL(media.src);
  const buffer = source.addSourceBuffer(type);
  if (seconds) source.duration = seconds;
  let whole = false;
  const there = () => (buffer.buffered.length ? buffer.buffered.end(buffer.buffered.length - 1) : 0);
  media.addEventListener("waiting", () => {
    if (!whole && media.currentTime > TURN_S / 2 && media.currentTime > there() - TURN_S) media.currentTime = 0;
  });
  const reader = response.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const before = there();
    const appended = event(buffer, "updateend", signal);
    buffer.appendBuffer(value);
    await appended;
    if (there() === before) continue;
    if (before === 0 && media.autoplay) media.play().catch(() => {}); // it may have been paused meanwhile
    onMore(there());
  }
  whole = true;
  source.endOfStream();
  media.loop = true;
}

function event(target, name, signal) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("The browser cannot play this.")), { once: true });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
