// What the served preset offers: sizes, lengths, defaults, ranges, prompts that it can draw.

import { call } from "./api.js";

let found = null;

export function offers() {
  found ??= call("GET", "assets/preset.json").catch((error) => { found = null; throw error; });
  return found;
}
