// Whether the server is there, and what it can do.

import { ApiError, capabilities } from "./api.js";

// Milliseconds until it is asked again, by its state.
const PAUSES = { ready: 20_000, loading: 1_000, gone: 1_500, locked: 60_000 };

const listeners = [];
let waiting = [];
let timer = null;

/** `state`: connecting, loading, ready, gone (no answer) or locked (a key is needed). */
export const server = { state: "connecting", capabilities: null, rejected: false };

export const onServer = (listener) => listeners.push(listener);

/** Ask now; also called where a request failed in a way that makes one doubt. */
export async function check() {
  clearTimeout(timer);
  const before = server.state;
  try {
    server.capabilities = await capabilities(AbortSignal.timeout(10_000));
    server.state = server.capabilities.ready ? "ready" : "loading";
  } catch (error) {
    const status = error instanceof ApiError ? error.status : 0;
    server.state = status === 401 || status === 429 ? "locked" : "gone";
  }
  clearTimeout(timer);
  timer = setTimeout(check, PAUSES[server.state]);
  for (const each of listeners) each(before);
  if (server.state === "ready") {
    for (const resume of waiting) resume();
    waiting = [];
  }
}

/** Resolves once the server can make images. */
export function untilReady(signal) {
  if (server.state === "ready") return Promise.resolve();
  return new Promise((resolve, reject) => {
    waiting.push(resolve);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && server.state !== "connecting") check();
});
