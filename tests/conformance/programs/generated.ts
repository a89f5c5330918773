// A video made and downloaded with what openapi-typescript makes of /openapi.json: `node generated.js URL`.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Video = components["schemas"]["Video"];

const client = createClient<paths>({ baseUrl: process.argv[2] });

async function retrieved(video_id: string): Promise<Video> {
  const { data, error } = await client.GET("/v1/videos/{video_id}", { params: { path: { video_id } } });
  if (data === undefined) throw new Error(error.error.message);
  return data;
}

const made = await client.POST("/v1/videos", { body: { prompt: "a fox", seed: 7 } });
if (made.data === undefined) throw new Error(made.error.error.message);
let video: Video = made.data;
while (video.status !== "completed") {
  if (video.status === "failed") throw new Error(video.error?.message ?? "no reason");
  await new Promise((resolve) => setTimeout(resolve, 50));
  video = await retrieved(video.id);
}
const { data } = await client.GET("/v1/videos/{video_id}/content", {
  params: { path: { video_id: video.id } },
  parseAs: "arrayBuffer",
});
if (data === undefined) throw new Error("no content");
console.log(JSON.stringify({ id: video.id, seed: video.seed, bytes: (data as ArrayBuffer).byteLength }));
