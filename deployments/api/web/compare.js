// A remix beside the video it was made of: both play together, whichever of the two is touched.

import { call } from "./api.js";
import { fill, h } from "./dom.js";
import { film } from "./player.js";

const APART_S = 0.15; // more than that, and they are brought together again

export class Compare {
  constructor(place, video) {
    fill(place, h("p", { class: "hint" }, "Looking for the other video …"));
    this.open(place, video).catch((error) => fill(place, h("p", { class: "error", role: "alert" },
      error.status === 404 ? "The video it was made from is deleted." : error.message)));
  }

  async open(place, video) {
    const parent = await call("GET", `v1/videos/${encodeURIComponent(video.remixed_from_video_id)}`);
    const sides = [[parent, "Before"], [video, "After"]].map(([one, text]) => {
      const path = `v1/videos/${encodeURIComponent(one.id)}/content`;
      const media = one.until === "t2i" ? h("img", { src: path, alt: text }) : film({ src: path, "aria-label": text });
      const lost = h("p", { class: "hint" }, one.status === "completed" ? "It is no longer kept." : "It was not completed.");
      media.addEventListener("error", () => media.replaceWith(lost));
      return { media, figure: h("figure", {}, media, h("figcaption", {},
        h("b", {}, text), ` seed ${one.seed}`, parent.prompt !== video.prompt && `: ${one.prompt}`, " ",
        one !== video && h("a", { href: `#/video/${encodeURIComponent(one.id)}` }, "Open"))) };
    });
    fill(place, h("h2", {}, "Side by side"), h("div", { class: "sides" }, sides.map((side) => side.figure)));
    const [left, right] = sides.map((side) => side.media);
    if (left.tagName === "VIDEO" && right.tagName === "VIDEO") { together(left, right); together(right, left); }
  }
}

function together(one, other) {
  one.addEventListener("play", () => other.play().catch(() => {}));
  one.addEventListener("pause", () => { if (!one.seeking && !one.ended) other.pause(); });
  one.addEventListener("seeked", () => { if (Math.abs(one.currentTime - other.currentTime) > APART_S) other.currentTime = Math.min(one.currentTime, other.duration || 0); });
}
