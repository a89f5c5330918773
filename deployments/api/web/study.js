// One study of an owner: what its votes say, how far its raters are, their links.

import { call } from "./api.js";
import { copied } from "./copying.js";
import { button, field, fill, h, say, setText, sure } from "./dom.js";
import { percent } from "./bars.js";
import { resultsOf } from "./results.js";
import { stateOf } from "./studies.js";

const POLL_MS = 5000;

export async function study(view, signal, id) {
  const path = `v1/studies/${encodeURIComponent(id)}`;
  const first = await call("GET", path);
  if (!signal.aborted) await new StudyView(view, signal, path).show(first);
}

class StudyView {
  constructor(view, signal, path) {
    Object.assign(this, { signal, path, quality: new Map(), links: [] });
    this.title = h("h1");
    this.status = h("p", { class: "status", role: "status" });
    this.facts = h("p", { class: "hint" });
    this.error = h("p", { class: "error", role: "alert" });
    this.results = h("section", { class: "card results", "aria-label": "Results" });
    this.raters = h("ul", { class: "raters" });
    this.more = h("div");
    this.card = h("section", { class: "card", "aria-label": "Raters" }, h("h2", {}, "Raters"), this.more, this.raters);
    view.append(h("section", { class: "card" }, this.title, this.status, this.facts, this.error), this.results, this.card,
      h("p", { class: "actions" }, sure("Delete the study", "Delete it with all votes", () => this.forget())));
    const timer = setInterval(() => { if (!document.hidden) this.look(); }, POLL_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
  }

  async look() {
    try {
      const study = await call("GET", this.path);
      if (!this.signal.aborted) await this.show(study);
      setText(this.error, study.error ?? "");
    } catch (error) {
      setText(this.error, error.message);
    }
  }

  async show(study) {
    const before = this.study;
    this.study = study;
    setText(this.title, study.title);
    document.title = `${study.title} - MagicVideo`;
    setText(this.status, `${study.systems.join(" against ")}: ${stateOf(study)}.`);
    setText(this.error, study.error ?? "");
    setText(this.facts, [`${study.pairs} pairs of ${study.prompts} prompts`, `each rater ${study.trials} and ${study.checks} checks, after ${study.training} for practice`,
      study.media && `${study.media.width} × ${study.media.height}, ${study.media.frames} frames at ${study.media.fps} a second`, study.note, `plan ${study.digest.slice(0, 12)}`]
      .filter(Boolean).join("; "));
    const ready = study.state === "ready";
    this.results.hidden = this.card.hidden = !ready;
    if (!ready || (before?.state === "ready" && before.votes === study.votes && before.links === study.links)) return;
    await Promise.all([this.said(), this.people()]);
  }

  // What the votes say. A server without the packages for it says so in a sentence.
  async said() {
    const saved = [["CSV", "export?format=csv"], ["JSONL", "export?format=jsonl"], this.study.votes && ["Bars as PNG", "plots/bars"],
      this.study.systems.length > 2 && ["Ranking as PNG", "plots/ranking"]].filter(Boolean);
    const save = h("p", { class: "actions" }, saved.map(([text, of]) => h("a", { class: "button", href: `${this.path}/${of}`, download: "" }, text)));
    try {
      const results = await call("GET", `${this.path}/results`);
      this.quality = new Map(results.quality.map((one) => [one.link, one]));
      fill(this.results, resultsOf(results, this.study, await this.measuring()), save);
    } catch (error) {
      fill(this.results, h("p", { class: "error" }, error.message), save);
    }
    this.list();
  }

  // More numbers take a model and some seconds a video.
  async measuring() {
    const { state } = await call("GET", `${this.path}/numbers`);
    if (state === "complete") return null;
    if (state === "measuring") {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.measured(), POLL_MS);
      return h("p", { class: "hint", role: "status" }, "Warp error, VMAF and distances are being measured.");
    }
    return button("Measure warp error, VMAF and distances", async () => {
      await this.done(() => call("POST", `${this.path}/numbers`), "It is being measured; that takes some seconds a video.");
      await this.said();
    });
  }

  // Looks until it is done, and leaves what is open as it is meanwhile.
  async measured() {
    const { state } = await call("GET", `${this.path}/numbers`).catch(() => ({ state: "measuring" }));
    if (this.signal.aborted) return;
    if (state === "measuring") this.timer = setTimeout(() => this.measured(), POLL_MS);
    else await this.said();
  }

  async people() {
    this.links = (await call("GET", `${this.path}/links`)).data;
    this.list();
  }

  list() {
    const working = this.links.filter((link) => !link.revoked && link.expires_at > Date.now() / 1000);
    if (!this.raters.contains(document.activeElement)) fill(this.raters, this.links.map((link) => this.rater(link)));
    const free = this.study.raters - working.length;
    if (this.more.contains(document.activeElement)) return; // somebody is writing there
    const count = h("input", { name: "count", type: "number", min: 1, max: free, value: free, required: true });
    const days = h("input", { name: "days", type: "number", min: 1, max: 365, value: 30, required: true });
    fill(this.more,
      h("p", { class: "hint" }, "A link is for one person, who needs no account. Whoever has it votes with it: send it to that person alone."),
      free > 0 && h("form", { class: "fields links", onsubmit: (event) => { event.preventDefault(); this.make(Number(count.value), Number(days.value)); } },
        field(`Links (of ${free} that are free)`, count), field("Days that they work", days), h("button", { class: "primary" }, "Make the links")),
      working.length > 1 && button(`Copy all ${working.length} links`, () => copy(working.map((link) => link.url).join("\n"), `${working.length} links`)));
  }

  rater(link) {
    const quality = this.quality.get(link.id);
    const over = link.expires_at <= Date.now() / 1000;
    const state = link.revoked ? "revoked" : over ? "expired" : `until ${new Date(1000 * link.expires_at).toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" })}`;
    return h("li", { "data-out": Boolean(quality?.excluded) },
      h("b", {}, `Rater ${link.rater}`),
      h("progress", { max: link.total, value: link.done, "aria-label": `Rater ${link.rater}` }),
      h("span", {}, `${link.done} of ${link.total}, ${state}`),
      h("span", { class: "tools" }, !link.revoked && !over && link.url && button("Copy the link", () => copy(link.url, `the link of rater ${link.rater}`), { class: "chip", "aria-label": `Copy the link of rater ${link.rater}` }),
        !link.revoked && sure("Revoke", `Revoke the link of rater ${link.rater}`, () => this.revoke(link))),
      quality && h("small", {}, [quality.identical > 0 && `told ${quality.told_apart} of ${quality.identical} identical pairs apart`,
        quality.repeated > 0 && `contradicted themselves in ${quality.contradicted} of ${quality.repeated} repeats`, quality.spoiled > 0 && `missed what was spoiled in ${quality.missed} of ${quality.spoiled} answers`, quality.agreement !== null && `votes as most do in ${percent(quality.agreement)}`,
        quality.median_watched_s !== null && `watches ${quality.median_watched_s.toFixed(1)} s`, quality.excluded && `left out: ${quality.excluded}`].filter(Boolean).join("; ")));
  }

  async make(count, days) {
    await this.done(() => call("POST", `${this.path}/links`, { count, days }), `Made: ${count} ${count === 1 ? "link" : "links"}.`);
  }

  async revoke(link) {
    await this.done(() => call("DELETE", `${this.path}/links/${encodeURIComponent(link.id)}`), `Revoked: the link of rater ${link.rater}. Its votes stay.`);
  }

  async done(act, told) {
    try {
      await act();
      document.activeElement?.blur();
      say(told);
    } catch (error) {
      say(error.message);
    }
    await this.look();
    await this.people().catch((error) => setText(this.error, error.message));
  }

  async forget() {
    try {
      await call("DELETE", this.path);
      location.hash = "#/studies";
    } catch (error) {
      setText(this.error, error.message);
    }
  }
}

async function copy(text, what) {
  say(await copied(text) ? `Copied: ${what}.` : "The browser does not let this page copy.");
}
