// The `openai` package for Node against a server: `node openai_node.mjs URL PICTURE`. Verbs that it has not are left out.

import { readFileSync } from "node:fs";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const prompt = "a fox in a snowy forest at dusk";
const picture = readFileSync(process.argv[3]);
let video;

async function attempt(operation, act) {
  let error = null;
  try {
    const made = await act();
    if (made === false) error = "unexpected answer";
  } catch (failure) {
    error = `${failure.name}: ${failure.message}`;
  }
  console.log(JSON.stringify({ operation, error }));
}

async function polled(made) {
  const end = Date.now() + 120_000;
  for (;;) {
    const now = await client.videos.retrieve(made.id);
    if (now.status === "completed") return now;
    if (now.status === "failed" || Date.now() > end) throw new Error(JSON.stringify(now));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function downloaded(variant) {
  const answer = await client.videos.downloadContent(video.id, variant ? { variant } : {});
  return Buffer.from(await answer.arrayBuffer());
}

await attempt("create", async () => {
  video = await polled(await client.videos.create({ prompt, model: "tiny", seconds: "2", size: "256x256" }));
});
await attempt("picture", async () => {
  const file = await toFile(picture, "first.png", { type: "image/png" });
  await polled(await client.videos.create({ prompt, input_reference: file }));
});
await attempt("picture URL", async () => {
  const image_url = `data:image/png;base64,${picture.toString("base64")}`;
  await polled(await client.videos.create({ prompt, input_reference: { image_url } }));
});
await attempt("retrieve", async () => (await client.videos.retrieve(video.id)).prompt === prompt);
await attempt("list", async () => {
  for await (const one of client.videos.list({ limit: 50 })) if (one.id === video.id) return true;
  return false;
});
await attempt("download", async () => (await downloaded()).subarray(4, 8).toString() === "ftyp");
await attempt("thumbnail", async () => (await downloaded("thumbnail")).length > 40);
await attempt("spritesheet", async () => (await downloaded("spritesheet")).length > 40);
await attempt("remix", async () => { await polled(await client.videos.remix(video.id, { prompt: "a red fox" })); });
if (client.videos.edit) {
  await attempt("edit", async () => {
    await polled(await client.videos.edit({ prompt: "a blue fox", video: { id: video.id } }));
  });
}
if (client.videos.extend) {
  await attempt("extend", async () => {
    await polled(await client.videos.extend({ prompt: "it runs away", seconds: "2", video: { id: video.id } }));
  });
}
await attempt("models", async () => {
  for await (const one of client.models.list()) if (one.id === "tiny") return true;
  return false;
});
await attempt("model", async () => (await client.models.retrieve("tiny")).id === "tiny");
await attempt("delete", async () => (await client.videos.delete(video.id)).deleted);
