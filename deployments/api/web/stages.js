// The four stages as one strip: what each does, how far it is, how long it waited and ran.

import { bytes, h, seconds, setText } from "./dom.js";

export const STAGES = {
  t2i: ["Picture", "Text to image"],
  i2v: ["Motion", "Image to video"],
  v2v: ["Detail", "Video to video"],
  vfi: ["Smoothness", "Frame interpolation"],
};
const ORIGINS = { restored: "restored after a restart", reused: "reused", uploaded: "given by you" };
const DONE = new Set(["completed", "skipped"]);

export class Strip {
  constructor() {
    this.rows = new Map();
    this.element = h("ol", { class: "strip", "aria-label": "Stages" });
    for (const [name, [title, long]] of Object.entries(STAGES)) {
      const row = {
        bar: h("progress", { max: 100, value: 0, "aria-label": `${long}: progress` }),
        state: h("span", { class: "state" }),
        times: h("span", { class: "times" }),
      };
      row.item = h("li", { class: `stage ${name}`, "data-stage": name },
        h("span", { class: "title" }, title, h("small", {}, long)), row.bar, row.state, row.times);
      this.rows.set(name, row);
      this.element.append(row.item);
    }
    this.begun = new Map(); // when a running stage began, in seconds since the epoch
  }

  show(stages) {
    for (const stage of stages) {
      const row = this.rows.get(stage.name);
      if (!row) continue;
      row.stage = stage;
      row.item.dataset.status = stage.status;
      row.bar.value = DONE.has(stage.status) ? 100 : stage.progress;
      setText(row.state, says(stage));
      this.tick(stage.name);
    }
  }

  progress(name, percent) {
    const row = this.rows.get(name);
    if (!row?.stage || row.stage.status !== "running") return;
    row.stage.progress = Math.max(row.stage.progress, percent);
    row.bar.value = row.stage.progress;
    setText(row.state, says(row.stage));
  }

  tick(name) {
    const { stage, times } = this.rows.get(name);
    if (!stage) return;
    const parts = [];
    if (stage.run_s !== null && stage.status !== "running") parts.push(`ran ${seconds(stage.run_s)}`);
    else if (stage.status === "running" && this.begun.has(name)) {
      parts.push(`running ${seconds(Math.max(0, Date.now() / 1000 - this.begun.get(name)))}`);
    }
    if (stage.queued_s) parts.push(`waited ${seconds(stage.queued_s)}`);
    if (stage.bytes_out) parts.push(bytes(stage.bytes_out));
    setText(times, parts.join(", "));
  }

  tickAll() {
    for (const [name, row] of this.rows) if (row.stage?.status === "running") this.tick(name);
  }
}

function says(stage) {
  if (stage.status === "skipped") return "not needed";
  if (stage.origin && stage.status === "completed") return ORIGINS[stage.origin];
  return { waiting: "to come", queued: "waits for a device", running: `${stage.progress} %`, completed: "done",
    failed: "failed", cancelled: "stopped" }[stage.status];
}
