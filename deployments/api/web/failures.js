// Why a job failed, in words of the page; what the server said stands in a fold.

import { h } from "./dom.js";
import { nameOf } from "./stages.js";

const WORDS = {
  stage_failed: (stage) => `Making the ${stage} stopped with an error. Trying again often helps; if not, try another seed.`,
  stage_timeout: (stage) => `Making the ${stage} took longer than this server allows. Fewer steps or a shorter video may do.`,
  input_gone: () => "A file that it begins with is no longer kept. Make it anew, with the file.",
  replica_lost: (stage) => `The machine that made the ${stage} went away again and again. Trying again often helps.`,
  too_many_recoveries: () => "The server went down under it again and again. Try again when it runs calmly.",
  pause_expired: () => "Nobody chose in time, so it was given up. Try again to choose anew.",
  deadline_exceeded: () => "It still waited when its deadline passed. Try again without one, or later.",
  server_error: () => "The server had trouble that has nothing to do with your video. Try again.",
};

export function failure(video) {
  const broken = video.stages.find((stage) => stage.status === "failed") ?? video.stages.find((stage) => stage.status === "running");
  const stage = broken ? nameOf(broken.name) : "video";
  const words = WORDS[video.error.code] ?? (() => "It could not be made. Trying again may help.");
  return [h("p", { class: "error", role: "alert" }, words(stage)),
    h("details", {}, h("summary", {}, "What the server said"), h("p", { class: "hint" }, video.error.message, h("small", {}, ` (${video.error.code})`)))];
}
