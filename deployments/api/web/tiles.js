// One video in the gallery: its picture, which moves while it is looked at, its prompt, its state, its age.

import { fill, h, setText, when } from "./dom.js";
import { lengthOf } from "./words.js";

const LOOK_MS = 150; // a pointer that only passes loads nothing

export function tileOf(video, gallery) {
  const path = `v1/videos/${encodeURIComponent(video.id)}/content`;
  const done = video.status === "completed";
  const cancelled = video.error?.code === "cancelled";
  const state = cancelled ? "cancelled" : video.paused_after ? "waits for you" : { queued: "queued", in_progress: `${video.progress} %`, failed: "failed" }[video.status];
  const picture = h("span", { class: "picture" }, done
    ? h("img", { src: `${path}?variant=thumbnail`, alt: "", loading: "lazy", onerror: () => fill(picture, h("span", { class: "blank" }, "no longer kept")) })
    : h("span", { class: "blank" }, video.status === "in_progress" ? h("progress", { max: 100, value: video.progress, "aria-label": "Progress" })
      : cancelled ? "Stopped" : video.paused_after ? "Your choice" : video.status === "queued" ? "Waits for its turn" : "Could not be made"));
  const age = h("time", { datetime: new Date(video.created_at * 1000).toISOString(), title: new Date(video.created_at * 1000).toLocaleString() });
  const link = h("a", { class: "tile", href: `#/video/${encodeURIComponent(video.id)}`, "data-status": cancelled ? "cancelled" : video.status },
    picture,
    h("span", { class: "caption" }, video.prompt || "(no prompt)"),
    h("span", { class: "meta" }, h("span", {}, done ? lengthOf(video) : state), age));
  const box = h("input", { type: "checkbox", "aria-label": `Select: ${video.prompt}`, onchange: () => gallery.chooses(video.id, box.checked) });
  const tile = h("li", {}, link, h("span", { class: "choice" }, box));
  link.addEventListener("click", (event) => {
    if (!gallery.list.classList.contains("choosing")) return;
    event.preventDefault();
    tile.choose(!box.checked);
  });
  tile.choose = (on) => { box.checked = on; gallery.chooses(video.id, on); };
  tile.ages = () => setText(age, when(video.created_at));
  tile.ages();
  if (done && video.until !== "t2i") plays(link, picture, path);
  return tile;
}

function plays(link, picture, path) {
  let timer = null;
  const start = () => {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    clearTimeout(timer);
    timer = setTimeout(() => {
      const media = h("video", { class: "coming", src: path, autoplay: true, muted: true, loop: true, playsinline: true, "aria-hidden": "true", tabindex: -1 });
      media.addEventListener("playing", () => media.classList.remove("coming"), { once: true });
      media.addEventListener("error", () => media.remove());
      picture.append(media);
    }, LOOK_MS);
  };
  const stop = () => {
    clearTimeout(timer);
    for (const media of picture.querySelectorAll("video")) { media.removeAttribute("src"); media.remove(); }
  };
  for (const [on, off] of [["pointerenter", "pointerleave"], ["focus", "blur"]]) {
    link.addEventListener(on, start);
    link.addEventListener(off, stop);
  }
}
