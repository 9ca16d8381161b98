// What is asked for: the fields, their limits, and what is wrong with them.

import { $, element, showText } from "./elements.js";
import { onReferences, references, setReferences } from "./references.js";
import { server } from "./server.js";
import { shapes, sizeProblem } from "./sizes.js";
import { currentLanguage, onLanguage, t } from "./text.js";

const MAX_TEXT = 32_000;
const MAX_SEED = 2n ** 63n - 1n;
const AUTO = "auto";

// Where the server's names of fields are shown.
const PLACES = {
  prompt: "prompt",
  negative_prompt: "negative",
  size: "size",
  seed: "seed",
  n: "count",
  num_inference_steps: "steps",
  guidance_scale: "guidance",
  image: "references",
  "image[]": "references",
  mask: "references",
};

let known = null;
let lastSeed = null;

const isEdit = () => references().length > 0;
const hasMask = () => Boolean(references()[0]?.mask);
const chosenShape = () => document.querySelector('input[name="shape"]:checked')?.value;

/** Show a problem beside its field; false where there is no such field. */
export function showProblem(param, message) {
  const place = PLACES[String(param).split(".")[0].replace(/^images$/, "image")];
  if (!place) return false;
  showText($(`${place}-error`), message);
  const fields = { size: ["width", "height"], references: ["reference-files"] }[place] ?? [place];
  for (const each of fields) $(each).setAttribute("aria-invalid", "true");
  if (["steps", "guidance", "negative"].includes(place)) $("more").open = true;
  $(fields[0]).focus();
  return true;
}

function clearProblems() {
  for (const each of document.querySelectorAll("#form .error")) showText(each, "");
  for (const each of document.querySelectorAll("#form [aria-invalid]")) each.removeAttribute("aria-invalid");
}

/** The fields, or null where something is wrong, which is then shown. */
export function readForm() {
  clearProblems();
  const problems = [];
  const prompt = $("prompt").value.trim();
  const negative = $("negative").value.trim();
  if (!prompt) problems.push(["prompt", t("prompt-empty")]);
  for (const [name, text] of [["prompt", prompt], ["negative_prompt", negative]]) {
    if (text.length > MAX_TEXT) problems.push([name, t("too-long", { most: MAX_TEXT, count: text.length })]);
  }
  const limits = known ?? {};
  const fields = { prompt };
  if (negative) fields.negative_prompt = negative;
  if (chosenShape() !== AUTO || !isEdit()) {
    const [width, height] = ["width", "height"].map((each) => $(each).valueAsNumber);
    const problem = known && sizeProblem(width, height, limits);
    if (problem) problems.push(["size", t(...problem)]);
    fields.size = `${width}x${height}`;
  }
  const number = (id, name, least, most, isWhole = true) => {
    const value = $(id).valueAsNumber;
    const isGood = (isWhole ? Number.isInteger(value) : Number.isFinite(value)) && value >= least && value <= most;
    if (!isGood) problems.push([name, t("range", { least, most })]);
    return value;
  };
  fields.num_inference_steps = number("steps", "num_inference_steps", 1, limits.max_steps ?? 200);
  fields.guidance_scale = number("guidance", "guidance_scale", 0, limits.max_guidance ?? 20, false);
  const count = number("count", "n", 1, limits.max_n ?? 10);
  const seed = $("seed").value.trim();
  if (seed && !(/^\d{1,19}$/.test(seed) && BigInt(seed) + BigInt(count || 1) <= MAX_SEED + 1n)) {
    problems.push(["seed", t("seed-bad")]);
  }
  // The first is shown last, so that it has the focus.
  for (const each of problems.reverse()) showProblem(...each);
  if (problems.length) return null;
  const [first] = references();
  return {
    fields,
    count,
    seed: seed || null,
    references: references().map((each) => each.blob),
    mask: first?.mask ?? null,
  };
}

/** Fill in what an earlier image was made with; fields it does not name keep their defaults. */
export async function writeForm(settings, files = null) {
  clearProblems();
  resetForm();
  $("prompt").value = settings.prompt ?? "";
  $("negative").value = settings.negative_prompt ?? "";
  $("seed").value = settings.seed ?? "";
  if (settings.steps) $("steps").value = settings.steps;
  if (settings.guidance) $("guidance").value = settings.guidance;
  if (settings.negative_prompt || settings.steps || settings.guidance) $("more").open = true;
  if (files) await setReferences(files.sources, files.mask);
  const isAuto = settings.size === AUTO && isEdit();
  if (settings.width && settings.height && !isAuto) {
    $("width").value = settings.width;
    $("height").value = settings.height;
  }
  chooseShape(isAuto ? AUTO : undefined);
}

export function setPrompt(text) {
  $("prompt").value = text;
  $("prompt").focus();
}

/** Every field but prompt and images as the model has it. */
export function resetForm() {
  if (!known) return;
  $("width").value = known.width;
  $("height").value = known.height;
  $("steps").value = known.steps;
  $("guidance").value = known.guidance;
  $("negative").value = $("seed").value = "";
  $("count").value = 1;
  chooseShape(isEdit() ? AUTO : undefined);
}

/** Keep a seed for the button that puts it back. */
export function rememberSeed(seed) {
  lastSeed = String(seed);
  $("seed-last").disabled = false;
}

/** Without a value: the shape that the two sides have, if there is one. */
function chooseShape(value = `${$("width").value}x${$("height").value}`) {
  for (const each of document.querySelectorAll('input[name="shape"]')) each.checked = each.value === value;
  showSize();
}

function showSize() {
  const isAuto = chosenShape() === AUTO && isEdit();
  $("sides").hidden = isAuto;
  let note = "";
  if (hasMask()) note = t("size-masked");
  else if (!isAuto && known) {
    const ratio = ($("width").valueAsNumber * $("height").valueAsNumber) / (known.width * known.height);
    const usual = known.trained_size_ratio ?? 4;
    if (ratio > usual || ratio < 1 / usual) note = t("size-other");
  }
  showText($("size-note"), note);
}

function showShapes() {
  if (!known) return;
  const chosen = chosenShape() ?? `${$("width").value}x${$("height").value}`;
  // With a mask, the result is as large as the image that the mask fits.
  const possible = hasMask() ? [] : shapes(known);
  const made = possible.map(({ value, width, height, name }) => shape(value, name, width / height));
  if (isEdit()) made.unshift(shape(AUTO, t("size-auto"), null));
  $("shapes").replaceChildren(...made);
  if (hasMask()) chooseShape(AUTO);
  else chooseShape(chosen === AUTO && !isEdit() ? undefined : chosen);
}

function shape(value, name, ratio) {
  const box = element("span", { className: ratio ? "shape-box" : "shape-box auto", "aria-hidden": "true" });
  if (ratio) {
    box.style.setProperty("--across", Math.min(1, ratio));
    box.style.setProperty("--up", Math.min(1, 1 / ratio));
  }
  const input = element("input", { type: "radio", name: "shape", value, className: "visually-hidden" });
  return element("label", { className: "shape" }, input, box, element("span", { textContent: name }));
}

function showTexts() {
  $("prompt-label").textContent = t(isEdit() ? "prompt-edit" : "prompt");
  $("prompt").placeholder = t(isEdit() ? "prompt-placeholder-edit" : "prompt-placeholder");
  $("run-text").textContent = t(isEdit() ? "edit" : "generate");
  $("negative").placeholder = (isEdit() && known?.edit_negative_prompt) || "";
  showExamples();
}

function showExamples() {
  const kind = isEdit() ? "edit" : "generate";
  let texts = (known?.examples?.[kind] ?? []).map((each) => each[currentLanguage()] ?? each.en);
  if (!texts.length && known) {
    const names = isEdit() ? ["example-edit-1", "example-edit-2"] : ["example-1", "example-2", "example-3"];
    texts = names.map((each) => t(each));
  }
  $("examples").replaceChildren(
    ...texts.map((text) => element("button", { type: "button", className: "example", textContent: text, onclick: () => setPrompt(text) })),
  );
}

/** Take over limits and defaults once they are known. */
export function fitForm() {
  const found = server.capabilities;
  const isFirst = !known && found;
  known = found;
  if (!known) return;
  for (const id of ["width", "height"]) {
    Object.assign($(id), { min: known.min_side, max: known.max_side, step: known.size_step });
  }
  $("steps").max = known.max_steps;
  $("guidance").max = known.max_guidance;
  $("count").max = known.max_n;
  if (isFirst) {
    resetForm();
    showShapes();
    showTexts();
  }
}

let wasEdit = false;

export function startForm() {
  $("shapes").addEventListener("change", ({ target }) => {
    const [width, height] = target.value.split("x");
    if (height) [$("width").value, $("height").value] = [width, height];
    showSize();
  });
  for (const id of ["width", "height"]) $(id).addEventListener("input", () => chooseShape());
  $("seed-last").onclick = () => ($("seed").value = lastSeed);
  $("reset").onclick = () => {
    clearProblems();
    resetForm();
  };
  onReferences(() => {
    showShapes();
    // The result of an edit is shaped like the image, unless one says otherwise.
    if (isEdit() && !wasEdit) chooseShape(AUTO);
    wasEdit = isEdit();
    showTexts();
  });
  onLanguage(() => {
    showShapes();
    showTexts();
  });
  showTexts();
}
