// Starts the page and connects its parts.

import { hasKey, setKey } from "./api.js";
import { $, announce, showText } from "./elements.js";
import { fitForm, readForm, rememberSeed, showProblem, startForm, writeForm } from "./form.js";
import * as history from "./history.js";
import { batch, cancel, isEnded, isRunning, onJobs, retry, start } from "./jobs.js";
import { runKey, startKeys } from "./keys.js";
import { openMask, startMask } from "./mask.js";
import { addReferences, hooks as referenceHooks, imageFiles, onReferences, references, startReferences } from "./references.js";
import { check, onServer, server } from "./server.js";
import { readSettings } from "./settings.js";
import { errorText, jobText, showEntry, showJob, shownEntry, shownFiles, showNothing, startStage, update } from "./stage.js";
import { applyTexts, currentLanguage, onLanguage, remember, setLanguage, t } from "./text.js";

const VARIATIONS = 4;

// -- making images ---------------------------------------------------------------------------------

/** @param {number[]} shape sides of the result, where no size is asked for */
async function begin(request, shape = sidesOfFirst()) {
  request.shape = shape;
  const work = start(request);
  showJob(batch.jobs[0]);
  announce(t("live-started"));
  $("frame").scrollIntoView({ block: "nearest" });
  await work;
}

const sidesOfFirst = () => references().slice(0, 1).map(({ width, height }) => [width, height])[0];

function run() {
  if (isRunning()) return;
  const request = readForm();
  if (request) begin(request);
}

/** The form again, with another seed. */
function repeat() {
  const request = readForm();
  if (!request) return;
  cancel();
  begin({ ...request, seed: null });
}

/** The shown image's settings with new seeds. */
function vary() {
  const entry = shownEntry();
  const { sources, mask } = shownFiles();
  const fields = { prompt: entry.prompt, num_inference_steps: entry.steps, guidance_scale: entry.guidance };
  if (entry.negative_prompt) fields.negative_prompt = entry.negative_prompt;
  if (entry.size !== "auto") fields.size = entry.size;
  cancel();
  const count = Math.min(VARIATIONS, server.capabilities?.max_n ?? VARIATIONS);
  begin({ fields, count, seed: null, references: sources, mask }, [entry.width, entry.height]);
}

let saidQuarter = 0;

async function onJob(job) {
  const isBusy = isRunning();
  const hadFocus = [$("run"), $("cancel")].includes(document.activeElement);
  $("run").hidden = isBusy;
  $("cancel").hidden = !isBusy;
  if (hadFocus) (isBusy ? $("cancel") : $("run")).focus();
  if (job.state === "sent") saidQuarter = 0;
  if (job.state === "running" && job === batch.jobs[0]) {
    const quarter = Math.floor((4 * job.step) / job.steps);
    if (quarter > saidQuarter && quarter < 4) announce(jobText(job));
    saidQuarter = quarter;
  }
  if (job.state === "failed") failed(job);
  if (job.state === "done" && !job.kept) {
    rememberSeed(job.seed);
    job.kept = await history.keep(job.entry, job.files);
  }
  if (batch.jobs.includes(job)) update(job);
  const done = batch.jobs.filter((each) => each.kept).length;
  if (job.kept && done === batch.jobs.length) announce(t("live-done", { count: done }));
  if (job.state === "cancelled" && batch.jobs.every(isEnded)) announce(t("state-cancelled"));
}

function failed(job) {
  const message = errorText(job.error);
  announce(t("live-failed", { message }));
  if (job.error.param) showProblem(job.error.param, message);
}

// -- server ----------------------------------------------------------------------------------------

let bannerTimer = null;

function onServerChange(before) {
  const { state, capabilities } = server;
  fitForm();
  showServer();
  clearTimeout(bannerTimer);
  const isBack = state === "ready" && before === "gone";
  if (state === "locked") lock();
  else if (capabilities) $("key-field").hidden = true;
  const text = { gone: t("banner-gone"), loading: t("banner-loading") }[state] ?? (isBack ? t("banner-back") : "");
  if ($("banner").textContent !== text) showText($("banner"), text);
  if (isBack) bannerTimer = setTimeout(() => showText($("banner"), ""), 4000);
}

function showServer() {
  const { state, capabilities } = server;
  $("status").dataset.state = state;
  $("status-text").textContent = t(state, { model: capabilities?.model, device: capabilities?.device ?? "" });
}

/** Ask for a key. */
function lock() {
  $("key-field").hidden = false;
  showText($("key-error"), hasKey() ? t("key-wrong") : "");
  $("key").focus();
}

async function useKey() {
  setKey($("key").value);
  await check();
  if (server.state !== "locked") {
    $("key").value = "";
    $("prompt").focus();
  }
}

// -- files -----------------------------------------------------------------------------------------

async function takeSettings(file) {
  if (!file) return;
  const note = $("settings-note");
  let found = null;
  try {
    found = await readSettings(file);
  } catch (error) {
    showText(note, errorText(error));
    return;
  }
  const { name } = file;
  if (!found) {
    showText(note, t("settings-none", { name }));
    return;
  }
  await writeForm(found);
  const notes = [t("settings-taken", { name })];
  const model = server.capabilities?.model;
  if (found.model && model && found.model !== model) notes.push(t("settings-model", { other: found.model, model }));
  // Values out of range stay as they are, with what is wrong beside them.
  readForm();
  showText(note, notes.join(" "));
}

function startDrops() {
  const body = document.body;
  let depth = 0;
  const isFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (isFiles(event)) body.classList.toggle("dragging", ++depth > 0);
    if (isFiles(event)) $("more").open = true;
  });
  addEventListener("dragleave", (event) => {
    if (isFiles(event)) body.classList.toggle("dragging", --depth > 0);
  });
  addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    depth = 0;
    body.classList.remove("dragging");
    if (document.querySelector("dialog[open]")) return;
    const files = imageFiles(event.dataTransfer);
    if (event.target.closest?.("#settings-drop")) takeSettings(files[0]);
    else addReferences(files);
  });
  $("settings-file").addEventListener("change", async ({ target }) => {
    await takeSettings(target.files[0]);
    target.value = "";
  });
}

// -- the shown image -------------------------------------------------------------------------------

async function reuse() {
  const entry = shownEntry();
  await writeForm(entry, shownFiles());
  showText($("settings-note"), t("settings-taken", { name: entry.name }));
  $("prompt").focus();
}

async function editThis() {
  const { image } = shownFiles();
  await addReferences([new File([image], shownEntry().name, { type: image.type })]);
  $("prompt").select();
  $("prompt").focus();
}

function move(by) {
  const found = history.neighbour(shownEntry(), by);
  if (found) showEntry(found);
}

async function removeShown() {
  const entry = shownEntry();
  const next = history.neighbour(entry, 1) ?? history.neighbour(entry, -1);
  if (entry.id === undefined) return;
  await history.removeOne(entry);
  if (next) await showEntry(next);
  $(next ? "delete" : "prompt").focus();
}

function startActions() {
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  $("cancel").onclick = cancel;
  $("retry").onclick = retry;
  $("variations").onclick = vary;
  $("reuse").onclick = reuse;
  $("edit-this").onclick = editThis;
  $("delete").onclick = removeShown;
  $("key-use").onclick = useKey;
  $("key").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    useKey();
  });
  history.hooks.show = (entry) => {
    showEntry(entry);
    $("frame").scrollIntoView({ block: "nearest" });
  };
  history.hooks.removed = (entry) => {
    if (shownEntry()?.id === entry.id) showNothing();
  };
  referenceHooks.openMask = openMask;
  onReferences(() => showText($("settings-note"), ""));
  const mask = () => references().length && openMask(references()[0]);
  startKeys({ run, cancel, repeat, mask, move });
  $("run-key").textContent = runKey;
}

function startChoices() {
  const [language, theme] = [$("language"), $("theme")];
  language.value = currentLanguage();
  language.onchange = () => setLanguage(language.value);
  theme.value = document.documentElement.dataset.theme;
  theme.onchange = () => {
    document.documentElement.dataset.theme = theme.value;
    remember("deepgen-theme", theme.value);
  };
  onLanguage(() => {
    showServer();
    onServerChange(server.state);
  });
}

applyTexts();
showServer();
startChoices();
startForm();
startReferences();
startMask();
startStage();
startActions();
startDrops();
onServer(onServerChange);
onJobs(onJob);
check();
history.startHistory();
