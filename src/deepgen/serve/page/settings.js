// How an image was made, read from its file.

import { inspect } from "./api.js";

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const MAX_TEXT = 1 << 20;

/**
 * The settings in an image's file, or null.
 * PNG is read here; of other formats the server tells what they say.
 */
export async function readSettings(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (!PNG.every((each, index) => bytes[index] === each)) {
    return settingsOf((await inspect(file)).record);
  }
  const texts = await pngTexts(bytes);
  return settingsOf(parsed(texts.deepgen)) ?? fromParameters(texts.parameters);
}

/** A record's values by the names of our form; null where it is none. */
function settingsOf(record) {
  if (record === null || typeof record !== "object" || Array.isArray(record)) return null;
  const found = {};
  for (const name of ["prompt", "negative_prompt", "model"]) {
    if (typeof record[name] === "string") found[name] = record[name];
  }
  for (const name of ["seed", "steps", "guidance", "width", "height"]) {
    if (["number", "string"].includes(typeof record[name])) found[name] = String(record[name]);
  }
  return Object.keys(found).length ? found : null;
}

function parsed(text) {
  if (!text) return null;
  try {
    // Seeds can be larger than what JavaScript's numbers hold exactly.
    return JSON.parse(text.replace(/("seed":\s*)(\d{16,})/, '$1"$2"'));
  } catch {
    return null;
  }
}

/** The text that many programs write: prompt, negative prompt, a last line of pairs. */
function fromParameters(text) {
  if (!text) return null;
  const lines = text.trim().split("\n");
  const pairs = {};
  for (const [, name, quoted, plain] of lines
    .at(-1)
    .matchAll(/\s*([\w ]+):\s*(?:"((?:\\.|[^"\\])*)"|([^,]*))(?:,|$)/g)) {
    pairs[name.trim()] = (quoted ?? plain).trim();
  }
  if (Object.keys(pairs).length < 3) return null;
  const rest = lines.slice(0, -1).join("\n");
  const [prompt, negative] = rest.split(/(?:^|\n)Negative prompt: ?/);
  const [width, height] = (pairs.Size ?? "").split("x");
  return settingsOf({
    prompt: prompt.trim(),
    negative_prompt: negative?.trim(),
    steps: pairs.Steps,
    guidance: pairs["CFG scale"],
    seed: pairs.Seed,
    width: width || undefined,
    height,
    model: pairs.Model,
  });
}

/** Texts of a PNG by their keywords. */
async function pngTexts(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = {};
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = latin(bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "IEND") break;
    if (length <= MAX_TEXT && ["tEXt", "zTXt", "iTXt"].includes(kind)) {
      const end = data.indexOf(0);
      try {
        if (end > 0) found[latin(data.subarray(0, end))] = await textOf(kind, data.subarray(end + 1));
      } catch {
        // A damaged text is none.
      }
    }
    at += 12 + length;
  }
  return found;
}

async function textOf(kind, data) {
  if (kind === "tEXt") return latin(data);
  if (kind === "zTXt") return latin(await inflated(data.subarray(1)));
  const isCompressed = data[0] === 1;
  const language = data.indexOf(0, 2);
  const keyword = data.indexOf(0, language + 1);
  const text = data.subarray(keyword + 1);
  return new TextDecoder().decode(isCompressed ? await inflated(text) : text);
}

async function inflated(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  const parts = [];
  let length = 0;
  while (true) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    length += value.length;
    if (length > MAX_TEXT) throw new RangeError("text too long");
    parts.push(value);
  }
}

const latin = (bytes) => {
  let text = "";
  for (const each of bytes) text += String.fromCharCode(each);
  return text;
};
