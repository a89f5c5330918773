// The studies: what is asked of people about videos, newest first.

import { call } from "./api.js";
import { h, when } from "./dom.js";

const COMMAND = "magicvideo study create --a preset=tiny,steps=14 --b preset=tiny,steps=6 --prompts prompts.txt";

export async function studies(view) {
  const { data } = await call("GET", "v1/studies");
  view.append(h("section", { class: "card" }, h("h1", {}, "Studies"),
    h("p", { class: "hint" }, "People see two videos side by side, without knowing what made them, and say which is better."),
    data.length === 0 && h("p", {}, "There is none yet. One is made by a command:"),
    data.length === 0 && h("pre", { class: "command" }, COMMAND),
    h("ul", { class: "studies" }, data.map((study) => h("li", {},
      h("a", { href: `#/study/${encodeURIComponent(study.id)}` }, study.title),
      h("span", {}, study.systems.join(", ")),
      h("small", {}, `${stateOf(study)}, ${when(study.created_at)}`))))));
}

export function stateOf(study) {
  if (study.state === "preparing") return `its videos are being prepared: ${study.prepared} of ${study.videos}`;
  if (study.state === "failed") return "failed";
  return `${study.votes} ${study.votes === 1 ? "answer" : "answers"}, ${study.links} of ${study.raters} raters have a link`;
}
