// Images that were made, with a search; they outlast the page.

import { $, announce, confirmed, element, save, showText } from "./elements.js";
import * as store from "./store.js";
import { onLanguage, t } from "./text.js";
import { zip } from "./zip.js";

const THUMBNAIL = 320;

let entries = [];
let isLasting = true;
const urls = new Map();

/** Called with an entry to show, and with one that was deleted. */
export const hooks = { show: () => {}, removed: () => {} };

export async function startHistory() {
  isLasting = await store.open();
  entries = await store.list();
  $("search").addEventListener("input", render);
  $("export").onclick = exportFound;
  $("delete-all").onclick = removeAll;
  onLanguage(render);
  render();
}

/** Keep an image; its entry then has a number. */
export async function keep(entry, files) {
  const made = { ...entry, thumbnail: await thumbnail(files.image) };
  try {
    const [id, ...gone] = await store.add(made, files);
    entries = [{ ...made, id }, ...entries.filter((each) => !gone.includes(each.id))];
    render();
    return entries[0];
  } catch {
    // The disk is full, or the browser allows no more: it is shown, not kept.
    isLasting = false;
    render();
    return made;
  }
}

async function thumbnail(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = THUMBNAIL / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return blob;
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return (await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85))) ?? blob;
}

export const filesOf = (entry) => store.filesOf(entry.id);
export const allEntries = () => entries;

/** The next newer (-1) or older (1) of those found by the search. */
export function neighbour(entry, by) {
  const found = matching();
  const at = found.findIndex((each) => each.id === entry?.id);
  return at < 0 ? found[0] : found[at + by];
}

export async function removeOne(entry) {
  await store.remove([entry.id]);
  forget([entry]);
  announce(t("deleted"));
}

async function removeAll() {
  if (!entries.length || !(await confirmed(t("sure-all", { count: entries.length })))) return;
  const all = entries;
  await store.remove(all.map((each) => each.id));
  forget(all);
  announce(t("deleted"));
  $("search").focus();
}

function forget(gone) {
  const ids = new Set(gone.map((each) => each.id));
  entries = entries.filter((each) => !ids.has(each.id));
  for (const id of ids) {
    if (urls.has(id)) URL.revokeObjectURL(urls.get(id));
    urls.delete(id);
  }
  render();
  for (const each of gone) hooks.removed(each);
}

/** One archive of the images found, as the server sent them, and what they were made with. */
async function exportFound() {
  const files = [];
  const records = [];
  for (const entry of matching()) {
    const stored = await store.filesOf(entry.id);
    if (!stored) continue;
    const { thumbnail: _, bytes: __, ...record } = entry;
    // Two images may have one name: the same seed, the same file.
    const name = `${String(entry.id).padStart(5, "0")}-${entry.name}`;
    records.push({ file: name, ...record });
    files.push({ name, bytes: new Uint8Array(await stored.image.arrayBuffer()), time: new Date(entry.created) });
  }
  if (!files.length) return;
  const text = new TextEncoder().encode(JSON.stringify(records, null, 1));
  files.push({ name: "history.json", bytes: text, time: new Date() });
  save(zip(files), "deepgen-history.zip");
}

function matching() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return entries.filter((entry) => {
    const { prompt, negative_prompt: negative, seed, model, width, height } = entry;
    const text = [prompt, negative, seed, model, `${width}x${height}`].join(" ").toLowerCase();
    return words.every((each) => text.includes(each));
  });
}

function urlOf(entry) {
  if (!urls.has(entry.id)) urls.set(entry.id, URL.createObjectURL(entry.thumbnail));
  return urls.get(entry.id);
}

let current = null;

/** Mark the entry that is shown large. */
export function mark(entry) {
  current = entry?.id ?? null;
  for (const each of $("grid").children) {
    const button = each.firstElementChild;
    if (Number(each.dataset.id) === current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

function render() {
  const found = matching();
  const isSearch = found.length !== entries.length;
  const counts = { count: found.length, all: entries.length };
  $("history-count").textContent = entries.length ? t(isSearch ? "history-found" : "history-count", counts) : "";
  const note = entries.length ? "" : t("history-empty");
  showText($("history-note"), isLasting ? note : t("history-memory"));
  for (const id of ["search", "export", "delete-all"]) $(id).hidden = !entries.length;
  $("grid").replaceChildren(...found.map(tile));
  mark({ id: current });
}

function tile(entry) {
  const name = entry.prompt.slice(0, 120);
  return element(
    "li",
    { "data-id": entry.id },
    element(
      "button",
      { type: "button", className: "thumbnail", "aria-label": t("show-one", { name }), title: name, onclick: () => hooks.show(entry) },
      element("img", { src: urlOf(entry), alt: "", loading: "lazy" }),
    ),
    element("button", { type: "button", className: "remove", textContent: "×", "aria-label": t("delete-one", { name }), title: t("delete"), onclick: () => removeTile(entry) }),
  );
}

async function removeTile(entry) {
  const at = matching().findIndex((each) => each.id === entry.id);
  await removeOne(entry);
  const left = $("grid").children;
  (left[Math.min(at, left.length - 1)]?.lastElementChild ?? $("prompt")).focus();
}
