// The videos there are, newest first: search, filter, several to delete; what others make appears by itself.

import { call } from "./api.js";
import { button, fill, h, say, setText, sure } from "./dom.js";
import { tileOf } from "./tiles.js";
import { isFinal } from "./words.js";

const PAGE = 24;
const BUSY_MS = 3000, CALM_MS = 6000;
const SEARCHED = 500; // videos that a search looks at

const KINDS = {
  "": ["All", () => true],
  completed: ["Done", (video) => video.status === "completed"],
  running: ["Being made", (video) => ["queued", "in_progress"].includes(video.status) && !video.paused_after],
  paused: ["Waiting for you", (video) => Boolean(video.paused_after)],
  failed: ["Failed", (video) => video.status === "failed"],
};

export class Gallery {
  constructor(signal) {
    this.tiles = new Map(); // by id
    this.chosen = new Set();
    this.signal = signal;
    this.list = h("ul", { class: "gallery" });
    this.empty = h("p", { class: "hint", role: "status", hidden: true });
    this.more = button("Older videos", () => this.load(true).catch((error) => say(error.message)), { hidden: true });
    this.search = h("input", { type: "search", placeholder: "Search the prompts", "aria-label": "Search the prompts", oninput: () => this.filter() });
    this.kind = h("select", { "aria-label": "Which videos", onchange: () => this.filter() },
      Object.entries(KINDS).map(([value, [text]]) => h("option", { value }, text)));
    this.choose = button("Select", () => this.choosing(!this.list.classList.contains("choosing")), { class: "quiet", "aria-pressed": "false" });
    this.bulk = h("p", { class: "actions bulk", hidden: true });
    this.tools = h("div", { class: "tools", role: "search" }, this.search, this.kind, this.choose);
    this.element = h("section", { "aria-labelledby": "videos" },
      h("div", { class: "head" }, h("h2", { id: "videos" }, "Videos"), this.tools), this.bulk, this.empty, this.list, h("p", { class: "actions" }, this.more));
    this.timer();
  }

  timer() {
    const again = () => {
      const busy = [...this.tiles.values()].some(({ video }) => !isFinal(video));
      const timer = setTimeout(async () => { await this.refresh(); if (!this.signal.aborted) again(); }, busy ? BUSY_MS : CALM_MS);
      this.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    };
    again();
    document.addEventListener("visibilitychange", () => this.refresh(), { signal: this.signal });
  }

  async load(older = false) {
    const after = older && this.last ? `&after=${encodeURIComponent(this.last)}` : "";
    const page = await call("GET", `v1/videos?limit=${after && this.filters() ? 100 : PAGE}${after}`);
    for (const video of page.data) this.put(video, true);
    this.last = page.last_id;
    this.further = page.has_more;
    this.shown();
  }

  // What is new or has changed among the newest; what of them is gone.
  async refresh() {
    if (document.hidden || this.chosen.size) return;
    try {
      const page = await call("GET", `v1/videos?limit=${PAGE}`);
      for (const video of [...page.data].reverse()) this.put(video, false);
      const oldest = page.data.at(-1);
      const known = new Set(page.data.map((video) => video.id));
      for (const [id, { tile, video }] of [...this.tiles]) {
        const listed = !page.has_more || (oldest && video.created_at > oldest.created_at);
        if (listed && !known.has(id)) { tile.remove(); this.tiles.delete(id); }
      }
      if (this.last === undefined) { this.last = page.last_id; this.further = page.has_more; }
      this.shown();
    } catch {
      // the health line says that the server is away; the next round asks again
    }
  }

  put(video, older) {
    const state = JSON.stringify([video.status, video.progress, video.paused_after]);
    const known = this.tiles.get(video.id);
    if (known?.state === state) { known.tile.ages(); return; }
    const tile = tileOf(video, this);
    if (known) known.tile.replaceWith(tile);
    else if (older) this.list.append(tile);
    else this.list.prepend(tile);
    this.tiles.set(video.id, { tile, state, video });
  }

  filters() { return this.search.value.trim() !== "" || this.kind.value !== ""; }

  // A search looks through more than is shown, up to a bound, which it says.
  async filter() {
    this.shown();
    if (this.filling) return;
    this.filling = true;
    try {
      while (this.filters() && this.further && this.tiles.size < SEARCHED && !this.signal.aborted) await this.load(true);
    } catch (error) {
      say(error.message);
    } finally {
      this.filling = false;
    }
  }

  shown() {
    const words = this.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const [, fits] = KINDS[this.kind.value];
    let count = 0;
    for (const { tile, video } of this.tiles.values()) {
      const prompt = video.prompt.toLowerCase();
      tile.hidden = !(fits(video) && words.every((word) => prompt.includes(word)));
      count += !tile.hidden;
    }
    this.more.hidden = !this.further;
    this.tools.hidden = this.tiles.size === 0;
    this.empty.hidden = count > 0 && !(this.filters() && this.further);
    setText(this.empty, this.tiles.size === 0 ? "Nothing yet. The first video will stand here."
      : `${count} of the newest ${this.tiles.size} ${count === 1 ? "fits" : "fit"}.`);
  }

  choosing(on) {
    this.list.classList.toggle("choosing", on);
    this.choose.setAttribute("aria-pressed", String(on));
    setText(this.choose, on ? "Select none" : "Select");
    if (!on) for (const { tile } of this.tiles.values()) tile.choose(false);
    this.counted();
  }

  chooses(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this.counted();
  }

  counted() {
    const on = this.list.classList.contains("choosing");
    const count = this.chosen.size;
    this.bulk.hidden = !on;
    if (!on) return;
    const many = `${count} ${count === 1 ? "video" : "videos"}`;
    fill(this.bulk, count === 0 ? "Choose the videos to delete." : [`${many} chosen.`, sure(`Delete ${many}`, "Delete them", () => this.remove())]);
  }

  async remove() {
    const gone = { deleted: 0, stopped: 0 }; // what is not finished is stopped, and stays
    for (const id of [...this.chosen]) {
      const { tile, video } = this.tiles.get(id);
      try {
        await call("DELETE", `v1/videos/${encodeURIComponent(id)}`);
        const final = isFinal(video);
        gone[final ? "deleted" : "stopped"] += 1;
        if (final) { tile.remove(); this.tiles.delete(id); }
      } catch (error) {
        say(error.message);
        break;
      }
      this.chosen.delete(id);
    }
    const said = Object.entries(gone).filter(([, count]) => count).map(([what, count]) => `${count} ${what}`);
    if (said.length) say(`Videos: ${said.join(", ")}.`);
    this.choosing(false);
    this.refresh();
  }
}
