// What the page asks of the server.

const KEY = "deepgen-key";

/** An answer that is not what was asked for; `code` is the server's, or "unreachable". */
export class ApiError extends Error {
  constructor({ status = 0, code = "unreachable", param = null, message = "", retryAfter = null }) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

let key = "";
try {
  key = sessionStorage.getItem(KEY) ?? "";
} catch {
  // Then a key lasts until the page is left.
}

export const hasKey = () => key !== "";

export function setKey(value) {
  key = value.trim();
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // As above.
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({});
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

async function errorOf(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // A proxy may answer with anything.
  }
  const after = Number(response.headers.get("retry-after"));
  return new ApiError({
    status: response.status,
    code: error.code ?? "unknown",
    param: error.param ?? null,
    message: error.message ?? "",
    retryAfter: after > 0 ? after : null,
  });
}

export const capabilities = async (signal) =>
  (await ask("/v1/capabilities", { signal, cache: "no-store" })).json();

/** What an image's file says of how it was made, read by the server. */
export async function inspect(file) {
  const form = new FormData();
  form.append("image", file);
  return (await ask("/v1/images/inspect", { method: "POST", body: form })).json();
}

/**
 * Ask for one image.
 * @param {object} fields of the request, without images
 * @param {Blob[]} references images to edit; none is a generation
 * @param {Blob|null} mask a PNG, transparent where the first image may change
 * @yields {object} the events of the stream
 */
export async function* requestImage(fields, references, mask, signal) {
  const wanted = { ...fields, stream: true, progress: true, preview_interval: 1 };
  const options = { method: "POST", signal };
  if (references.length) {
    options.body = new FormData();
    for (const [name, value] of Object.entries(wanted)) options.body.append(name, String(value));
    const name = references.length > 1 ? "image[]" : "image";
    for (const each of references) options.body.append(name, each, "image");
    if (mask) options.body.append("mask", mask, "mask.png");
  } else {
    options.body = JSON.stringify(wanted);
    options.headers = { "content-type": "application/json" };
  }
  const response = await ask(references.length ? "/v1/images/edits" : "/v1/images/generations", options);
  let isComplete = false;
  for await (const event of events(response.body)) {
    if (event.type === "error") {
      throw new ApiError({ status: 200, ...event.error, retryAfter: null });
    }
    isComplete ||= event.type.endsWith(".completed");
    yield event;
  }
  if (!isComplete) throw new ApiError({});
}

/** Events of a stream; comment lines only keep it open. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data:"));
        if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({});
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The bytes of base64 as a file. */
export async function blobOf(base64, kind) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  return new Blob([bytes], { type: `image/${kind}` });
}
