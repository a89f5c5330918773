// The pools: replicas, queues, seconds and memory of each stage now, and the last hour, which the server remembers.

import { call } from "./api.js";
import { Chart } from "./chart.js";
import { bytes, fill, h, seconds, setText } from "./dom.js";
import { nameOf, STAGES, titled } from "./stages.js";

const POLL_MS = 2000;
const HISTORY_EVERY = 15; // polls

export async function pools(view, signal) {
  const rows = new Map();
  const jobs = h("p", { class: "sums" });
  const made = new Chart("Videos completed", "a minute", [["made", "completed a minute"]]);
  const table = h("div", { class: "pools" });
  const trouble = h("p", { class: "error", role: "alert" });
  view.append(h("section", { class: "card" }, h("h1", {}, "Pools"),
    h("p", { class: "hint" }, "Each stage has replicas of its own. The one whose backlog takes longest is the bottleneck."),
    trouble, jobs, made.element), table);

  let finished = [];

  async function ask(history) {
    const state = await call("GET", `v1/pools${history ? "?history=true" : ""}`);
    if (signal.aborted) return;
    setText(trouble, "");
    const slowest = Math.max(...state.stages.map((stage) => stage.backlog_s ?? 0));
    for (const [index, stage] of state.stages.entries()) {
      if (!rows.has(stage.stage)) {
        rows.set(stage.stage, new Pool(stage));
        table.append(rows.get(stage.stage).element);
      }
      rows.get(stage.stage).show(stage, slowest > 0 && stage.backlog_s === slowest);
      if (history) rows.get(stage.stage).past(state.history, index);
      rows.get(stage.stage).draw();
    }
    if (history) made.show(state.finished.map((count, index) => [60 * (state.finished.length - index), count]), true);
    if (history) finished = state.finished;
    fill(jobs, sums(state, slowest, finished));
  }

  await ask(true);
  let asking = false, turn = 0;
  const timer = setInterval(async () => {
    if (document.hidden || asking) return;
    asking = true;
    turn += 1;
    await ask(turn % HISTORY_EVERY === 0).catch((error) => setText(trouble, error.message));
    asking = false;
  }, POLL_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function sums(state, slowest, finished) {
  const count = (name) => state.jobs[name] ?? 0;
  const hour = finished.reduce((sum, one) => sum + one, 0);
  const good = count("succeeded"), ended = good + count("failed");
  return [["being made", count("running")], ["queued", count("queued")], count("paused") && ["waiting for their users", count("paused")],
    ["completed in the last hour", hour],
    ended && ["of all that ended are whole", `${Math.floor((100 * good) / ended)} %`], (slowest || count("queued")) && ["until all that waits is done", slowest ? `about ${seconds(slowest)}` : "unknown"]]
    .filter(Boolean).map(([text, value]) => h("span", {}, h("b", {}, String(value)), ` ${text}`));
}

class Pool {
  constructor({ stage, pool }) {
    const [title, does] = STAGES[stage] ?? [stage, ""];
    this.meter = h("meter", { min: 0, max: 1, value: 0, "aria-label": `${titled(title)}: share of replicas that compute` });
    this.figures = Object.fromEntries(["replicas", "calls", "median", "backlog", "memory", "wanted"].map((name) => [name, h("dd")]));
    this.chart = new Chart(titled(nameOf(stage)), "calls and replicas", [["queued", "waiting calls"], ["running", "computing calls"], ["replicas", "replicas"]]);
    this.samples = []; // [epoch, queued, running, replicas]
    const pair = (text, name) => h("div", {}, h("dt", {}, text), this.figures[name]);
    this.element = h("article", { class: `card pool ${stage}`, "data-stage": stage },
      h("h2", {}, titled(title), h("small", {}, pool ? `${does}; pool ${pool}` : does)),
      this.meter,
      h("dl", {}, pair("Replicas", "replicas"), pair("Calls", "calls"), pair("A job takes", "median"),
        pair("Backlog", "backlog"), pair("Memory", "memory"), pair("Asked for", "wanted")),
      this.chart.element);
  }

  show(stage, slowest) {
    const { figures } = this;
    this.meter.value = stage.utilisation;
    setText(figures.replicas, `${stage.busy} busy, ${stage.free} free`);
    setText(figures.wanted, `${stage.wanted} ${stage.wanted === 1 ? "replica" : "replicas"}`);
    setText(figures.calls, `${stage.running} computing, ${stage.queued} waiting`);
    setText(figures.median, stage.median_run_s === null ? "not measured" : seconds(stage.median_run_s));
    setText(figures.backlog, stage.backlog_s === null ? "not measured" : stage.backlog_s ? `about ${seconds(stage.backlog_s)}` : "none");
    setText(figures.memory, bytes(stage.memory_bytes) || "not measured");
    this.element.toggleAttribute("data-slowest", slowest);
    this.samples.push([Date.now() / 1000, stage.queued, stage.running, stage.replicas]);
  }

  past(history, index) {
    const known = history.map((one) => [one.at, one.queued[index], one.running[index], one.replicas[index]]);
    this.samples = [...known, ...this.samples.filter(([at]) => at > (known.at(-1)?.[0] ?? 0))];
  }

  draw() {
    const now = Date.now() / 1000;
    this.samples = this.samples.filter(([at]) => now - at <= 3600);
    this.chart.show(this.samples.map(([at, ...values]) => [Math.max(0, now - at), ...values]));
  }
}
