// A picture or a video to begin with: chosen, dropped anywhere on the page, or pasted.

import { button, fill, h, bytes, say } from "./dom.js";

const PICTURES = "image/png,image/jpeg,image/webp";
const VIDEOS = "video/mp4,video/webm,.mov,.mkv";

export class Given {
  constructor(signal) {
    this.signal = signal;
    this.picture = h("input", { name: "input_reference", type: "file", accept: PICTURES, onchange: () => this.changed(this.picture) });
    this.video = h("input", { name: "input_video", type: "file", accept: VIDEOS, onchange: () => this.changed(this.video) });
    const any = h("input", { type: "file", accept: `${PICTURES},${VIDEOS}`, hidden: true, tabindex: -1, onchange: () => {
      if (any.files[0]) this.take(any.files[0]);
      any.value = "";
    } });
    this.button = h("span", {}, button("Begin with a picture or video", () => any.click(), { class: "quiet" }), any);
    this.element = h("div", { class: "given", hidden: true });
    signal.addEventListener("abort", () => URL.revokeObjectURL(this.url));
  }

  // `place` is shown while there is a video.
  enter(place) {
    this.entering = place;
    place.hidden = true;
    return place;
  }

  watch(form) {
    const { signal } = this;
    const files = (data) => [...(data?.files ?? [])].filter((file) => /^(image|video)\//.test(file.type));
    document.addEventListener("paste", (event) => {
      const [file] = files(event.clipboardData);
      if (file) { event.preventDefault(); this.take(file); }
    }, { signal });
    document.addEventListener("dragover", (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      form.classList.add("dropping");
    }, { signal });
    for (const name of ["dragleave", "dragend"]) {
      document.addEventListener(name, (event) => { if (!event.relatedTarget) form.classList.remove("dropping"); }, { signal });
    }
    document.addEventListener("drop", (event) => {
      form.classList.remove("dropping");
      if (!event.dataTransfer.files.length) return;
      event.preventDefault(); // else the browser would open it
      const [file] = files(event.dataTransfer);
      if (file) this.take(file);
      else say("Only pictures and videos can be begun with.");
    }, { signal });
  }

  take(file) {
    const control = file.type.startsWith("image/") ? this.picture : this.video;
    const carrier = new DataTransfer();
    carrier.items.add(file);
    control.files = carrier.files;
    this.changed(control);
  }

  changed(control) {
    const other = control === this.picture ? this.video : this.picture;
    if (control.files.length) other.value = ""; // a job begins with one thing
    const file = this.picture.files[0] ?? this.video.files[0];
    const isVideo = this.video.files.length > 0;
    this.entering.hidden = !isVideo;
    this.element.hidden = !file;
    URL.revokeObjectURL(this.url);
    if (!file) return;
    this.url = URL.createObjectURL(file);
    const look = isVideo ? h("video", { src: this.url, muted: true, loop: true, autoplay: true, playsinline: true, "aria-hidden": "true" })
      : h("img", { src: this.url, alt: "" });
    look.addEventListener("error", () => look.remove());
    fill(this.element, look,
      h("span", {}, `Begins with ${file.name}`, h("small", {}, ` ${bytes(file.size)}`)),
      button("Take it out", () => { this.picture.value = ""; this.video.value = ""; this.changed(control); }, { class: "quiet" }));
  }
}
