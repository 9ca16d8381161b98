// The large image: while it forms, when it is done, or one of the history; and two beside each other.

import { $, element, save, showText } from "./elements.js";
import { allEntries, filesOf, mark } from "./history.js";
import { batch, isEnded, isRunning } from "./jobs.js";
import { dateText, onLanguage, t } from "./text.js";

// Small images are shown larger, so that there is something to see.
const LEAST_SHOWN = 512;

const shown = { job: null, entry: null, files: null, url: null };

export const shownEntry = () => shown.entry;
export const shownFiles = () => shown.files;

/** Show a job of the present batch. */
export function showJob(job) {
  if (job.kept) {
    showEntry(job.kept, job.files);
    shown.job = job;
    renderStrip();
    return;
  }
  leaveCompare();
  Object.assign(shown, { job, entry: null, files: null });
  mark(null);
  render();
}

let turns = 0;

/** Show an image of the history. */
export async function showEntry(entry, known = null) {
  leaveCompare();
  const turn = ++turns;
  const files = known ?? (await filesOf(entry));
  // Another was chosen meanwhile.
  if (!files || turn !== turns) return;
  if (shown.url) URL.revokeObjectURL(shown.url);
  Object.assign(shown, { job: null, entry, files, url: URL.createObjectURL(files.image) });
  mark(entry);
  render();
}

export function showNothing() {
  leaveCompare();
  Object.assign(shown, { job: null, entry: null, files: null });
  render();
}

/** A job changed: draw it if it is the one to see. */
export function update(job) {
  if (shown.job === job) {
    if (job.kept && shown.entry !== job.kept) showJob(job);
    else render();
  } else {
    renderStrip();
  }
}

function render() {
  const { job, entry } = shown;
  const source = entry ? shown.url : (job?.preview ?? null);
  $("welcome").hidden = Boolean(source || job);
  $("frame").classList.toggle("empty", !source && !job);
  $("frame").classList.toggle("forming", Boolean(job && !entry && !isEnded(job)));
  const image = $("image");
  image.hidden = !source;
  if (source && image.src !== source) image.src = source;
  image.alt = entry?.prompt ?? batch.request?.fields.prompt ?? "";
  fitFrame();
  renderProgress();
  renderFailure();
  renderStrip();
  renderAbout();
}

function fitFrame() {
  const { job, entry } = shown;
  let size = null;
  if (entry) size = [entry.width, entry.height];
  else if (job) size = sizeOf(batch.request);
  const style = $("frame").style;
  for (const each of ["--ratio", "--cap"]) if (!size) style.removeProperty(each);
  if (!size) return;
  const [width, height] = size;
  style.setProperty("--ratio", width / height);
  const longest = Math.max(width, height);
  style.setProperty("--cap", `${Math.round((width / longest) * Math.max(longest, LEAST_SHOWN))}px`);
}

function sizeOf(request) {
  const sides = request?.fields.size?.split("x").map(Number);
  return sides ?? request?.shape ?? [1, 1];
}

/** What a job is doing, in words. */
export function jobText(job) {
  if (job.state === "queued") return t("state-queued", { position: Math.max(1, job.position ?? 1) });
  if (job.state !== "running") return job.state === "failed" || job.state === "done" ? "" : t(`state-${job.state}`);
  if (job.step >= job.steps) return t("state-finishing");
  const step = t("state-step", { step: job.step, steps: job.steps });
  const left = job.eta === null ? "" : t("state-left", { seconds: Math.max(1, Math.round(job.eta)) });
  return [step, left].filter(Boolean).join(" · ");
}

function renderProgress() {
  const { job, entry } = shown;
  const isShown = Boolean(job && !entry && job.state !== "failed");
  $("progress").hidden = !isShown;
  if (!isShown) return;
  $("progress-text").textContent = jobText(job);
  const bar = $("bar");
  bar.hidden = job.state === "cancelled";
  bar.max = job.steps;
  if (job.state === "running") bar.value = job.step;
  else bar.removeAttribute("value");
}

let timer = null;

function renderFailure() {
  const failed = shown.job?.state === "failed" ? shown.job : batch.jobs.find((job) => job.state === "failed" && !shown.entry);
  $("failure").hidden = !failed;
  clearInterval(timer);
  if (!failed) return;
  showText($("failure-text"), errorText(failed.error));
  const tick = () => {
    const left = failed.retryAt ? Math.ceil((failed.retryAt - Date.now()) / 1000) : 0;
    $("retry").textContent = left > 0 ? t("retry-in", { seconds: left }) : t("retry");
    $("retry").disabled = left > 0 || isRunning();
    if (left <= 0) clearInterval(timer);
  };
  if (failed.error.retryAfter && !failed.retryAt) failed.retryAt = Date.now() + 1000 * failed.error.retryAfter;
  tick();
  timer = setInterval(tick, 500);
}

/** An error in the page's language, and what the server says of it. */
export function errorText(error) {
  const known = ["unreachable", "queue_full", "rate_limit_exceeded", "deadline_exceeded", "out_of_memory", "draining"];
  if (known.includes(error.code)) return t(`error-${error.code}`);
  return error.message || t("error-unknown", { status: error.status ?? 0 });
}

function renderStrip() {
  const isShown = batch.jobs.length > 1 && Boolean(shown.job);
  $("strip").hidden = !isShown;
  if (!isShown) return;
  $("strip").replaceChildren(...batch.jobs.map(stripItem));
}

function stripItem(job) {
  const state = job.state === "failed" ? t("live-failed", { message: errorText(job.error) }) : jobText(job);
  const label = [`${t("fact-seed")} ${job.seed}`, state].filter(Boolean).join(", ");
  job.url ??= job.image && URL.createObjectURL(job.image);
  const source = job.url ?? job.preview;
  const button = element(
    "button",
    { type: "button", className: `thumbnail ${job.state}`, "aria-label": label, title: label, onclick: () => showJob(job) },
    source ? element("img", { src: source, alt: "" }) : null,
  );
  if (job === shown.job) button.setAttribute("aria-current", "true");
  return element("li", {}, button);
}

function renderAbout() {
  const { entry } = shown;
  $("about").hidden = !entry;
  if (!entry) return;
  showText($("shown-prompt"), entry.prompt);
  const facts = [
    ["fact-negative", entry.negative_prompt],
    ["fact-seed", entry.seed],
    ["fact-size", `${entry.width} × ${entry.height}`],
    ["fact-steps", String(entry.steps)],
    ["fact-guidance", String(entry.guidance)],
    ["fact-model", entry.model],
    ["fact-seconds", t("seconds", { count: entry.seconds })],
    ["fact-made", dateText(entry.created)],
  ];
  $("facts").replaceChildren(
    ...facts
      .filter(([, value]) => value)
      .map(([name, value]) =>
        element("div", {}, element("dt", { textContent: t(name) }), element("dd", { textContent: value })),
      ),
  );
  $("compare-open").disabled = !choices().length;
}

// -- comparison ------------------------------------------------------------------------------------

let beforeUrl = null;

const isComparing = () => !$("compare").hidden;

/** What the shown image can be compared with: what it was made from, and the history. */
function choices() {
  const { entry, files } = shown;
  const found = (files?.sources ?? []).map((blob, index) => ({
    value: `source-${index}`,
    text: files.sources.length > 1 ? `${t("compare-source")} ${index + 1}` : t("compare-source"),
    blob,
  }));
  for (const each of allEntries()) {
    if (each.id === entry?.id || found.length > 60) continue;
    found.push({ value: String(each.id), text: `${each.prompt.slice(0, 40)} · ${each.seed}`, entry: each });
  }
  return found;
}

function leaveCompare() {
  $("compare").hidden = true;
  $("compare-with-field").hidden = true;
  $("compare-open").setAttribute("aria-pressed", "false");
}

async function toggleCompare() {
  if (isComparing()) {
    leaveCompare();
    $("image").hidden = false;
    return;
  }
  showChoices();
  $("compare-with-field").hidden = false;
  $("compare-open").setAttribute("aria-pressed", "true");
  await chooseBefore();
  $("compare-at").focus();
}

function showChoices() {
  const { value: chosen } = $("compare-with");
  const options = choices().map(({ value, text }) => element("option", { value, textContent: text }));
  $("compare-with").replaceChildren(...options);
  if (options.some((each) => each.value === chosen)) $("compare-with").value = chosen;
}

async function chooseBefore() {
  const chosen = choices().find((each) => each.value === $("compare-with").value);
  const blob = chosen?.blob ?? (await filesOf(chosen.entry))?.image;
  if (!blob) return;
  if (beforeUrl) URL.revokeObjectURL(beforeUrl);
  beforeUrl = URL.createObjectURL(blob);
  Object.assign($("compare-before"), { src: beforeUrl, alt: `${t("before")}: ${chosen.text}` });
  Object.assign($("compare-after"), { src: shown.url, alt: `${t("after")}: ${shown.entry.prompt}` });
  $("image").hidden = true;
  $("compare").hidden = false;
}

export function startStage() {
  $("compare-open").onclick = toggleCompare;
  $("compare-with").onchange = chooseBefore;
  $("compare-at").oninput = ({ target }) => $("compare").style.setProperty("--at", `${target.value}%`);
  $("download").onclick = () => save(shown.files.image, shown.entry.name);
  onLanguage(() => {
    render();
    if (isComparing()) {
      $("image").hidden = true;
      showChoices();
    }
  });
  render();
}
