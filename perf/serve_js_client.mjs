// The JavaScript openai client against a server: `node serve_js_client.mjs URL`, see serve_js_client.py.

import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [url] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 });
const results = {};

async function check(name, run) {
  try {
    await run();
    results[name] = "works";
  } catch (error) {
    results[name] = `failed: ${error.message}`;
  }
}

const bytesOf = (image) => Buffer.from(image.b64_json, "base64");

function checkPng(image, width, height) {
  const bytes = bytesOf(image);
  assert.equal(bytes.subarray(1, 4).toString(), "PNG");
  assert.deepEqual([bytes.readUInt32BE(16), bytes.readUInt32BE(20)], [width, height]);
}

async function refused(call, kind, status, code, param) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof kind, error.constructor.name);
    assert.deepEqual([error.status, error.code, error.param], [status, code, param]);
    assert.match(error.requestID ?? error.headers.get("x-request-id"), /^req_/);
    return true;
  });
}

const png = (image) => toFile(bytesOf(image), "image.png", { type: "image/png" });
const base = { prompt: "a red apple", size: "64x64" };
let apple;

await check("generate", async () => {
  const made = await client.images.generate({ ...base, model: "mini", seed: 7, steps: 8 });
  [apple] = made.data;
  checkPng(apple, 64, 64);
  assert.equal(apple.seed, 7);
  assert.ok(made.usage.total_tokens > 0);
});
await check("the same seed is the same image", async () => {
  const again = await client.images.generate({ ...base, seed: "7", steps: 8 });
  assert.equal(again.data[0].b64_json, apple.b64_json);
});
await check("several images", async () => {
  const made = await client.images.generate({ ...base, n: 3, seed: 1, steps: 4 });
  assert.deepEqual(made.data.map((each) => each.seed), [1, 2, 3]);
});
for (const [format, start] of [["jpeg", "ffd8ff"], ["webp", "52494646"]]) {
  await check(`output_format ${format}`, async () => {
    const made = await client.images.generate({ ...base, steps: 4, output_format: format });
    assert.ok(bytesOf(made.data[0]).toString("hex").startsWith(start));
  });
}
await check("quality, background, moderation, user", async () => {
  const options = { quality: "low", background: "opaque", moderation: "low", user: "ann" };
  const made = await client.images.generate({ ...base, ...options });
  assert.equal(made.quality, "low");
});
await check("edit", async () => {
  const image = await png(apple);
  const made = await client.images.edit({ image, prompt: "make the background yellow", steps: 8 });
  checkPng(made.data[0], 64, 64);
});
await check("edit of several images, several results", async () => {
  const image = [await png(apple), await png(apple)];
  const made = await client.images.edit({ image, prompt: "make the background yellow", n: 2, steps: 4 });
  assert.equal(made.data.length, 2);
});
await check("stream with partial images", async () => {
  const stream = await client.images.generate({ ...base, stream: true, partial_images: 2, steps: 9 });
  const types = [];
  for await (const event of stream) {
    types.push(event.type);
    checkPng(event, 64, 64);
  }
  const partial = "image_generation.partial_image";
  assert.deepEqual(types, [partial, partial, "image_generation.completed"]);
});
await check("stream of an edit", async () => {
  const options = { prompt: "make the background blue", stream: true, steps: 4 };
  const stream = await client.images.edit({ image: await png(apple), ...options });
  const types = [];
  for await (const event of stream) types.push(event.type);
  assert.deepEqual(types, ["image_edit.completed"]);
});
await check("a stream that is left", async () => {
  const stream = await client.images.generate({ ...base, stream: true, partial_images: 3, steps: 100 });
  for await (const event of stream) {
    assert.ok(event.b64_json);
    break;
  }
});
await check("models", async () => {
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  assert.deepEqual(names, ["mini"]);
  assert.equal((await client.models.retrieve("mini")).owned_by, "deepgen");
});
await check("errors", async () => {
  const bad = OpenAI.BadRequestError;
  const generate = (fields) => client.images.generate({ ...base, ...fields });
  await refused(generate({ size: "65x65" }), bad, 400, "invalid_value", "size");
  await refused(generate({ sise: "64x64" }), bad, 400, "unknown_parameter", "sise");
  await refused(generate({ background: "transparent" }), bad, 400, "unsupported_value", "background");
  await refused(generate({ style: "vivid" }), bad, 400, "unsupported_parameter", "style");
  await refused(generate({ steps: 0 }), bad, 400, "invalid_value", "steps");
  await refused(generate({ model: "other" }), OpenAI.NotFoundError, 404, "model_not_found", "model");
  const text = await toFile(Buffer.from("no image"), "a.png", { type: "image/png" });
  const edit = client.images.edit({ image: text, prompt: "make it blue" });
  await refused(edit, bad, 400, "unsupported_image_format", "image");
});

console.log(JSON.stringify(results));
