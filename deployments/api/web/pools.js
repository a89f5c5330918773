// The pools: replicas, queues and how busy each stage is, twice a second fresh enough for an operator's eye.

import { call } from "./api.js";
import { h, seconds, setText } from "./dom.js";
import { STAGES } from "./stages.js";

const POLL_MS = 2000;
const KEPT = 60; // samples of the little history, two minutes

export async function pools(view, signal) {
  const rows = new Map();
  const jobs = h("p", { class: "hint" });
  const table = h("div", { class: "pools" });
  view.append(h("section", { class: "card" }, h("h1", {}, "Pools"),
    h("p", { class: "hint" }, "Each stage has replicas of its own. The stage whose calls wait is the bottleneck."), table, jobs));

  async function ask() {
    const state = await call("GET", "v1/pools");
    if (signal.aborted) return;
    for (const stage of state.stages) {
      if (!rows.has(stage.stage)) {
        rows.set(stage.stage, new Pool(stage));
        table.append(rows.get(stage.stage).element);
      }
      rows.get(stage.stage).show(stage);
    }
    const counted = Object.entries(state.jobs).map(([name, count]) => `${count} ${name}`);
    setText(jobs, counted.length ? `Jobs: ${counted.join(", ")}.` : "No jobs yet.");
  }

  await ask();
  let asking = false;
  const timer = setInterval(async () => {
    if (document.hidden || asking) return;
    asking = true;
    await ask().catch((error) => setText(jobs, error.message));
    asking = false;
  }, POLL_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

class Pool {
  constructor({ stage, pool }) {
    this.meter = h("meter", { min: 0, max: 1, value: 0, "aria-label": `${stage}: share of replicas that compute` });
    this.figures = Object.fromEntries(["replicas", "queued", "running", "median"].map((name) => [name, h("dd")]));
    this.history = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.history.setAttribute("viewBox", `0 0 ${KEPT} 20`);
    this.history.setAttribute("preserveAspectRatio", "none");
    this.history.setAttribute("aria-hidden", "true");
    this.line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    this.history.append(this.line);
    this.samples = [];
    const [title, long] = STAGES[stage] ?? [stage, ""];
    const pair = (text, name) => h("div", {}, h("dt", {}, text), this.figures[name]);
    this.element = h("article", { class: `pool ${stage}`, "data-stage": stage },
      h("h2", {}, title, h("small", {}, pool ? `${long}, pool ${pool}` : long)),
      this.meter, this.history,
      h("dl", {}, pair("Replicas", "replicas"), pair("Computing", "running"), pair("Waiting", "queued"), pair("Median run", "median")));
  }

  show(stage) {
    this.meter.value = stage.utilisation;
    setText(this.figures.replicas, stage.wanted > stage.replicas ? `${stage.replicas} of ${stage.wanted}` : String(stage.replicas));
    setText(this.figures.running, String(stage.running));
    setText(this.figures.queued, String(stage.queued));
    setText(this.figures.median, stage.median_run_s === null ? "-" : seconds(stage.median_run_s));
    this.samples = [...this.samples, stage.queued].slice(-KEPT);
    const top = Math.max(4, ...this.samples);
    this.line.setAttribute("points", this.samples.map((value, index) => `${index},${19 - (18 * value) / top}`).join(" "));
  }
}
