// What can be done with a video: download, remix, extend, the same again, copy, compare, be told, stop, delete.

import { call } from "./api.js";
import { Compare } from "./compare.js";
import { copyMenu } from "./copying.js";
import { button, fill, h, say, setText, sure } from "./dom.js";
import { remixForm } from "./remix.js";
import { isFinal, isWhole } from "./words.js";

export class Actions {
  constructor(view, first, offered) {
    this.view = view;
    this.element = h("div", { class: "actions" });
    this.said = h("p", { class: "error", role: "alert" });
    this.remix = remixForm(view.path, first, offered);
    this.compare = h("section", { class: "card", hidden: true, "aria-label": "Side by side" });
    this.further = h("div", {}, this.compare, this.remix);
  }

  show(video) {
    if (this.state === video.status) return;
    this.state = video.status;
    const parts = [];
    if (!isFinal(video)) {
      parts.push(this.bell(), sure("Cancel", "Stop it", () => this.act(() => call("POST", `${this.view.path}/cancel`), "It is stopped.")));
    } else {
      if (isWhole(video)) parts.push(...this.ofWhole(video));
      else if (video.error?.code !== "cancelled") parts.push(button("Try again", () => this.retry(video), { class: "primary" }));
      parts.push(button("Remix", () => this.open(this.remix)));
      if (isWhole(video)) parts.push(button("Same again", () => this.again(), { title: "The same, with another seed" }));
      parts.push(copyMenu(video, this.view.signal));
      if (isWhole(video) && video.remixed_from_video_id) parts.push(button("Side by side", () => this.beside(video), { title: "Beside the video it was made from" }));
      parts.push(sure("Delete", "Delete it", () => this.act(async () => {
        await call("DELETE", this.view.path);
        location.hash = "#/";
      }, "The video is deleted.")));
    }
    fill(this.element, parts);
  }

  ofWhole(video) {
    const ending = video.until === "t2i" ? "png" : "mp4";
    const parts = [h("a", { class: "button primary", href: `${this.view.path}/content`, download: `${video.id}.${ending}` }, "Download")];
    if (!video.until || video.until === "vfi") {
      parts.push(button("Extend", () => this.made(() => call("POST", `${this.view.path}/extend`, {}), "The continuation is queued."), { title: "A video that goes on from its end" }));
    }
    return parts;
  }

  again() {
    const seed = String(crypto.getRandomValues(new Uint32Array(1))[0]);
    return this.made(() => call("POST", `${this.view.path}/remix`, { seed }), "It is queued with another seed.");
  }

  // From the stage that broke, while what it had before is kept; else from the beginning.
  retry(video) {
    const broken = video.stages.find((stage) => ["failed", "running"].includes(stage.status)) ?? video.stages.find((stage) => stage.status !== "skipped");
    const from = (stage) => call("POST", `${this.view.path}/remix`, { from_stage: stage });
    return this.made(() => from(broken?.name ?? "t2i").catch((error) => {
      if (error.code === "outputs_gone") return from("t2i");
      throw error;
    }), "It is tried again.");
  }

  made(ask, done) {
    return this.act(async () => { location.hash = `#/video/${(await ask()).id}`; }, done);
  }

  open(place) {
    place.hidden = false;
    place.scrollIntoView({ block: "nearest" });
    place.querySelector("textarea, button, video")?.focus();
  }

  beside(video) {
    if (!this.compare.childElementCount) new Compare(this.compare, video);
    this.open(this.compare);
  }

  bell() {
    if (!("Notification" in window) || Notification.permission === "denied") return null;
    const on = () => localStorage.getItem("notify") === "yes" && Notification.permission === "granted";
    const bell = button("", async () => {
      const wanted = !on() && await Notification.requestPermission() === "granted";
      localStorage.setItem("notify", wanted ? "yes" : "no");
      tell();
    });
    const tell = () => { setText(bell, on() ? "You will be told" : "Tell me when it is done"); bell.setAttribute("aria-pressed", String(on())); };
    tell();
    return bell;
  }

  notify(video) {
    if (!document.hidden || localStorage.getItem("notify") !== "yes") return;
    const title = isWhole(video) ? "Your video is done" : "Your video could not be made";
    try {
      const told = new Notification(title, { body: video.prompt, tag: video.id, icon: "assets/icon.svg" });
      told.onclick = () => { window.focus(); told.close(); };
    } catch { // where only a service worker may, the title says it
    }
  }

  async act(what, done) {
    setText(this.said, "");
    try {
      await what();
      say(done);
      this.view.refetch(true);
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    setText(this.said, error.message);
    this.said.scrollIntoView({ block: "nearest" });
  }
}
