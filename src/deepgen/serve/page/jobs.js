// Requests on their way: one for each image, so that each has a live preview.

import { ApiError, blobOf, requestImage } from "./api.js";
import { crc32 } from "./crc.js";
import { check, server, untilReady } from "./server.js";

// Connections at once: browsers allow six to a server, and some must stay free.
const CONCURRENT = 4;

// How often an image is asked for again after the connection was lost. Its seed makes it the same.
const ATTEMPTS = 4;

// Errors of a server that will be back soon.
const PASSING = ["unreachable", "worker_unavailable", "draining"];

const ENDED = ["done", "failed", "cancelled"];

const listeners = [];

export const batch = { jobs: [], request: null, controller: null };

/** Called with the job that changed. */
export const onJobs = (listener) => listeners.push(listener);

const tell = (job) => {
  for (const each of listeners) each(job);
};

export const isEnded = (job) => ENDED.includes(job.state);
export const isRunning = () => batch.jobs.some((job) => !isEnded(job));

/** A seed that nobody chose. */
export const randomSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0] >>> 1);

/**
 * Ask for images with seeds that follow each other.
 * @param {object} request fields, count, seed, references and mask
 */
export async function start(request) {
  const controller = new AbortController();
  const first = BigInt(request.seed ?? randomSeed());
  const { num_inference_steps: steps } = request.fields;
  const jobs = Array.from({ length: request.count }, (_, index) => ({
    index,
    seed: String(first + BigInt(index)),
    state: "waiting",
    step: 0,
    steps,
    position: null,
    eta: null,
    preview: null,
    image: null,
    entry: null,
    error: null,
  }));
  for (const job of batch.jobs) if (job.url) URL.revokeObjectURL(job.url);
  Object.assign(batch, { jobs, request, controller });
  tell(jobs[0]);
  await work(jobs, request, controller.signal);
}

/** Repeat what failed. */
export async function retry() {
  const jobs = batch.jobs.filter((job) => job.state === "failed");
  batch.controller = new AbortController();
  for (const job of jobs) Object.assign(job, { state: "waiting", error: null, step: 0 });
  if (jobs.length) tell(jobs[0]);
  await work(jobs, batch.request, batch.controller.signal);
}

export function cancel() {
  if (isRunning()) batch.controller.abort();
}

async function work(jobs, request, signal) {
  const left = [...jobs];
  const lane = async () => {
    while (left.length) await make(left.shift(), request, signal);
  };
  await Promise.all(Array.from({ length: CONCURRENT }, lane));
}

async function make(job, request, signal) {
  for (let attempt = 1; ; attempt++) {
    try {
      if (server.state !== "ready") set(job, { state: "waiting" });
      await untilReady(signal);
      signal.throwIfAborted();
      set(job, { state: "sent", step: 0 });
      await follow(job, request, signal);
      return;
    } catch (error) {
      if (signal.aborted) {
        set(job, { state: "cancelled" });
        return;
      }
      const isPassing = error instanceof ApiError && PASSING.includes(error.code);
      if (isPassing || error.status === 401) await check();
      if (!isPassing || attempt === ATTEMPTS) {
        set(job, { state: "failed", error });
        return;
      }
    }
  }
}

async function follow(job, request, signal) {
  const fields = { ...request.fields, seed: job.seed };
  for await (const event of requestImage(fields, request.references, request.mask, signal)) {
    if (event.type === "deepgen.progress") {
      const { state, step, steps, position, eta_seconds: eta } = event;
      set(job, { state, step, steps, position, eta });
    } else if (event.type === "deepgen.preview") {
      set(job, { preview: `data:image/jpeg;base64,${event.b64_json}` });
    } else if (event.type.endsWith(".completed")) {
      const blob = await blobOf(event.b64_json, event.output_format);
      const bytes = new Uint8Array(await blob.arrayBuffer());
      const hash = crc32(bytes).toString(16).padStart(8, "0");
      const { width, height, steps, guidance, model, seconds } = event.deepgen;
      const entry = {
        created: Date.now(),
        task: request.references.length ? "edit" : "generate",
        prompt: request.fields.prompt,
        negative_prompt: request.fields.negative_prompt,
        size: request.fields.size ?? "auto",
        seed: job.seed,
        ...{ width, height, steps, guidance, model, seconds },
        name: `deepgen-${job.seed}-${hash}.${event.output_format}`,
      };
      const files = { image: blob, sources: request.references, mask: request.mask };
      set(job, { state: "done", image: blob, entry, files });
    }
  }
}

function set(job, values) {
  Object.assign(job, values);
  tell(job);
}
