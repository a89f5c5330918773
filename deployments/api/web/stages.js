// The four stages as one strip: what each does, how far it is, how long it ran; afterwards one line.

import { bytes, h, seconds, setText } from "./dom.js";

// The words of client/schema.py; a test holds that they are the same.
export const STAGES = {
  t2i: ["picture", "draws the reference picture"],
  i2v: ["motion", "animates it into low-resolution keyframes"],
  v2v: ["detail", "redraws them at high resolution"],
  vfi: ["smoothness", "fills in the frames between them"],
};
const ORIGINS = { restored: "kept from before", reused: "reused", uploaded: "given by you" };
const DONE = new Set(["completed", "skipped"]);

export function titled(text) { return text && text[0].toUpperCase() + text.slice(1); }
export function nameOf(stage) { return STAGES[stage]?.[0] ?? stage; }
export function stageOptions(names = Object.keys(STAGES)) {
  return names.map((name) => [name, `${titled(nameOf(name))}: ${STAGES[name][1]}`]);
}

export class Strip {
  constructor(chosen = false) {
    this.chosen = chosen; // whether its user chooses among pictures
    this.rows = new Map();
    this.element = h("ol", { class: "strip", "aria-label": "Stages" });
    for (const [name, [title, does]] of Object.entries(STAGES)) {
      const row = {
        bar: h("progress", { max: 100, value: 0, "aria-label": `${titled(title)}: progress` }),
        state: h("span", { class: "state" }),
        times: h("span", { class: "times" }),
      };
      row.item = h("li", { class: `stage ${name}`, "data-stage": name },
        h("span", { class: "title" }, titled(title), h("small", {}, does)), row.bar, row.state, row.times);
      this.rows.set(name, row);
      this.element.append(row.item);
    }
    this.begun = new Map(); // when a running stage began, in seconds since the epoch
  }

  show(stages, ended) {
    this.ended = ended;
    for (const stage of stages) {
      const row = this.rows.get(stage.name);
      if (!row) continue;
      row.stage = stage;
      row.item.dataset.status = stage.status;
      row.bar.value = DONE.has(stage.status) ? 100 : stage.progress;
      setText(row.state, this.says(stage));
      this.tick(stage.name);
    }
  }

  progress(name, percent) {
    const row = this.rows.get(name);
    if (!row?.stage || row.stage.status !== "running") return;
    row.stage.progress = Math.max(row.stage.progress, percent);
    row.bar.value = row.stage.progress;
    setText(row.state, this.says(row.stage));
  }

  tick(name) {
    const { stage, times } = this.rows.get(name);
    if (!stage) return;
    const parts = [];
    if (stage.run_s !== null && stage.status !== "running") parts.push(`ran ${seconds(stage.run_s)}`);
    else if (stage.status === "running" && this.begun.has(name)) {
      parts.push(seconds(Math.max(0, Date.now() / 1000 - this.begun.get(name))));
    }
    if (this.ended) { // for who operates it, in a fold
      if (stage.queued_s) parts.push(`waited ${seconds(stage.queued_s)}`);
      if (stage.bytes_out) parts.push(bytes(stage.bytes_out));
      if (stage.peak_memory_mb) parts.push(`${bytes(stage.peak_memory_mb * 2 ** 20)} of memory`);
    }
    setText(times, parts.join(", "));
  }

  tickAll() {
    for (const [name, row] of this.rows) if (row.stage?.status === "running") this.tick(name);
  }

  says(stage) {
    if (stage.status === "skipped") return "not needed";
    if (stage.origin && stage.status === "completed") {
      return this.chosen && stage.name === "t2i" && stage.origin === "restored" ? "chosen by you" : ORIGINS[stage.origin];
    }
    return { waiting: "to come", queued: "waits for its turn", running: `${stage.progress} %`, completed: "done",
      failed: "failed", cancelled: "stopped" }[stage.status];
  }
}

// A finished job in one line: "picture 1.2 s, motion 3.1 s (reused), ...".
export function inOneLine(stages) {
  const parts = [];
  let total = 0;
  for (const stage of stages) {
    if (stage.status === "skipped" || !DONE.has(stage.status)) continue;
    total += stage.run_s ?? 0;
    const origin = stage.origin && stage.origin !== "restored" ? ORIGINS[stage.origin] : null;
    parts.push([nameOf(stage.name), origin ?? (stage.run_s === null ? "done" : seconds(stage.run_s)), stage.name]);
  }
  return h("p", { class: "in-line" }, parts.map(([name, text, stage]) =>
    h("span", { class: stage }, h("b", {}, titled(name)), ` ${text}`)),
  total > 0 && h("span", {}, `${seconds(total)} of computing`));
}
