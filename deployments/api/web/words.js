// Words that several views have for a video.

export function lengthOf(video) { return video.until === "t2i" ? "one picture" : `${video.seconds} s`; }
export function isFinal(video) { return ["completed", "failed"].includes(video.status); }
export function isWhole(video) { return video.status === "completed"; }
