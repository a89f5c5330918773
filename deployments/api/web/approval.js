// A job that waits for its user: the pictures to choose from, large and above all else, or whether it shall go on.

import { call } from "./api.js";
import { button, fill, h, say } from "./dom.js";
import { film } from "./player.js";
import { nameOf } from "./stages.js";

export class Approval {
  constructor(view) {
    this.view = view;
    this.element = h("section", { class: "approval", hidden: true, "aria-labelledby": "approve-title" });
    this.stage = "";
    document.addEventListener("keydown", (event) => this.pressed(event), { signal: view.signal });
  }

  show(video) {
    const wanted = video.paused_after ?? "";
    if (this.stage === wanted) return;
    this.stage = wanted;
    this.element.hidden = !wanted;
    this.choices = [];
    if (!wanted) { fill(this.element); return; }
    const { path } = this.view;
    const pictures = wanted === "t2i" ? Array.from({ length: video.candidates }, (_, index) => index) : [];
    const several = pictures.length > 1;
    this.choices = pictures.length
      ? pictures.map((index) => button([
        h("img", { src: `${path}/content?variant=keyframe&candidate=${index}`, alt: `Picture ${index + 1}` }),
        h("span", {}, several ? [h("kbd", {}, String(index + 1)), ` Go on with picture ${index + 1}`] : "Go on with picture 1"),
      ], () => this.go(index)))
      : [button("Go on", () => this.go(0), { class: "primary" })];
    const title = several ? "Which picture shall it be?" : pictures.length ? "Shall it go on with this picture?" : `Shall it go on after the ${nameOf(wanted)}?`;
    fill(this.element,
      h("h2", { id: "approve-title" }, title),
      h("p", { class: "hint" }, "The job waits for you and uses no device.", several && ` Press 1 to ${pictures.length}, or click.`),
      !pictures.length && this.look(),
      h("div", { class: pictures.length ? `candidates of-${Math.min(pictures.length, 3)}` : "actions" }, this.choices));
  }

  look() {
    const media = film({ class: "look", src: `${this.view.path}/content?variant=preview`, "aria-label": "Preview in low resolution" });
    media.addEventListener("error", () => media.remove());
    return media;
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const choice = /^[1-9]$/.test(event.key) && this.stage === "t2i" ? this.choices[Number(event.key) - 1] : null;
    if (choice && !choice.disabled) choice.click();
  }

  async go(candidate) {
    for (const choice of this.choices) choice.disabled = true; // one choice is made once
    this.choices[candidate]?.classList.add("chosen");
    try {
      await call("POST", `${this.view.path}/continue`, { candidate });
      say("It goes on.");
      this.view.refetch(true);
    } catch (error) {
      for (const choice of this.choices) choice.disabled = false;
      this.view.actions.fail(error);
    }
  }
}
