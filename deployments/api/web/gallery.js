// The videos there are, newest first: search, filter, several to delete; what others make appears by itself.

import { call } from "./api.js";
import { button, fill, h, say, setText, sure } from "./dom.js";
import { tileOf } from "./tiles.js";
import { isFinal } from "./words.js";

const PAGE = 24;
const BUSY_MS = 3000, CALM_MS = 6000;
const TYPED_MS = 250; // after the last key, before the server is asked

const KINDS = {
  "": ["All", []],
  completed: ["Done", ["completed"]],
  running: ["Being made", ["queued", "in_progress"]],
  paused: ["Waiting for you", ["paused"]],
  failed: ["Failed", ["failed"]],
};

export class Gallery {
  constructor(signal) {
    this.tiles = new Map(); // by id
    this.chosen = new Set();
    this.signal = signal;
    this.list = h("ul", { class: "gallery" });
    this.empty = h("p", { class: "hint", role: "status", hidden: true });
    this.more = button("Older videos", () => this.load(true).catch((error) => say(error.message)), { hidden: true });
    this.search = h("input", { type: "search", placeholder: "Search the prompts", "aria-label": "Search the prompts", maxlength: 200, oninput: () => this.filter(TYPED_MS) });
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
    const asked = this.asked();
    const page = await call("GET", `v1/videos?limit=${PAGE}${after}${asked}`);
    if (asked !== this.asked()) return; // other words since
    if (!older) {
      this.choosing(false);
      this.tiles.clear();
      this.list.replaceChildren();
    }
    for (const video of page.data) this.put(video, true);
    this.last = page.last_id;
    this.further = page.has_more;
    this.shown();
  }

  // What the server is to look for.
  asked() {
    const words = this.search.value.trim();
    return [words && `&q=${encodeURIComponent(words)}`, ...KINDS[this.kind.value][1].map((status) => `&status=${status}`)].join("");
  }

  // What is new or has changed among the newest; what of them is gone.
  async refresh() {
    if (document.hidden || this.chosen.size) return;
    try {
      const asked = this.asked();
      const page = await call("GET", `v1/videos?limit=${PAGE}${asked}`);
      if (asked !== this.asked() || this.typing) return;
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

  filter(wait = 0) {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      this.typing = null;
      if (!this.signal.aborted) this.load().catch((error) => say(error.message));
    }, wait);
  }

  shown() {
    const count = this.tiles.size;
    const filtered = this.asked() !== "";
    this.more.hidden = !this.further;
    this.tools.hidden = count === 0 && !filtered;
    this.empty.hidden = count > 0;
    setText(this.empty, !filtered ? "Nothing yet. The first video will stand here."
      : this.further ? "None of the newest fits; look among the older ones." : "No video fits.");
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
