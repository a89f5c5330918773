// What can be taken along of a video: its address, its seed, and the command or the program that makes it again.

import { written } from "./api.js";
import { button, h, say } from "./dom.js";

export function copyMenu(video, signal) {
  const item = (text, what) => button(text, async () => {
    menu.open = false;
    say(await copied(what()) ? `Copied: ${text.toLowerCase()}.` : "The browser does not let this page copy.");
    menu.querySelector("summary").focus();
  });
  const menu = h("details", { class: "menu", onkeydown: (event) => { if (event.key === "Escape") menu.open = false; } },
    h("summary", { class: "button" }, "Copy"),
    h("div", { class: "items" },
      item("Link", () => location.href),
      item("Seed", () => video.seed),
      item("curl", () => curlOf(video)),
      item("Python", () => pythonOf(video))));
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; }, { signal });
  return menu;
}

function base() { return new URL(".", location.href).href.replace(/\/$/, ""); }
function hasKey() { return localStorage.getItem("signed-in") === "yes"; }

// What began with a file or another video, or was chosen among pictures, is made again of what the server keeps of it.
const isRemix = (video) => "from_stage" in video.asked;

export function curlOf(video) {
  const body = isRemix(video) ? video.asked : { prompt: video.prompt, seed: video.seed, ...video.asked };
  const quoted = written(body).replaceAll("'", "'\\''");
  const key = hasKey() ? ' -H "Authorization: Bearer $MAGICVIDEO_API_KEY"' : "";
  return `curl -s ${base()}/v1/videos${isRemix(video) ? `/${video.id}/remix` : ""} -H 'content-type: application/json'${key} -d '${quoted}'`;
}

export function pythonOf(video) {
  const named = Object.entries(video.asked).map(([name, value]) => `, ${name}=${JSON.stringify(value)}`).join("");
  const made = isRemix(video) ? `remix(${JSON.stringify(video.id)}${named})` : `create(${JSON.stringify(video.prompt)}, seed=${video.seed}${named})`;
  return ["from magicvideo_client import Client", "",
    `with Client(${JSON.stringify(base())}) as client:${hasKey() ? "  # the key is read from MAGICVIDEO_API_KEY" : ""}`,
    `    video = client.videos.wait(client.videos.${made}.id)`,
    `    client.videos.download(video.id, "video.${video.until === "t2i" ? "png" : "mp4"}")`, ""].join("\n");
}

export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // not a secure context, as on a machine of the local network: by a selection
    const area = h("textarea", { class: "aside", value: text, "aria-hidden": "true" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
