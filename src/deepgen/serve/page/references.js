// The images to edit: chosen, dropped, pasted; in order, each removable, the first with a mask.

import { $, announce, element, showText } from "./elements.js";
import { server } from "./server.js";
import { onLanguage, t } from "./text.js";

const KINDS = ["image/png", "image/jpeg", "image/webp"];

const listeners = [];
let items = [];
let numbers = 0;

export const references = () => items;
export const onReferences = (listener) => listeners.push(listener);

/** Add files; what cannot be read, or is one too many, is said. */
export async function addReferences(files) {
  const notes = [];
  for (const file of files) {
    const most = server.capabilities?.max_references ?? 16;
    if (items.length >= most) {
      notes.push(t("too-many-references", { most }));
      break;
    }
    const item = await prepared(file, notes);
    if (item) items = [...items, item];
    else notes.push(t("bad-file", { name: file.name || "?" }));
  }
  changed(notes);
}

/** Replace all; what an earlier image was made from. */
export async function setReferences(blobs, mask = null) {
  items = [];
  await addReferences(blobs.map((each, index) => new File([each], `${index + 1}`, { type: each.type })));
  if (mask && items.length) setMask(items[0], mask);
}

export function setMask(item, mask, strokes = []) {
  if (item.maskUrl) URL.revokeObjectURL(item.maskUrl);
  Object.assign(item, { mask, strokes, maskUrl: mask ? URL.createObjectURL(mask) : null });
  changed([]);
}

/** As the server takes it: other formats become PNG, larger ones are reduced. */
async function prepared(file, notes) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const limits = server.capabilities ?? { max_upload_bytes: 20 << 20, max_upload_pixels: 25e6 };
  let { width, height } = bitmap;
  let blob = file;
  const isOver = (pixels, bytes) =>
    pixels > limits.max_upload_pixels || bytes > limits.max_upload_bytes;
  if (!KINDS.includes(file.type) || isOver(width * height, file.size)) {
    const kind = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
    let scale = Math.min(1, Math.sqrt(limits.max_upload_pixels / (width * height)));
    do {
      [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.floor(side * scale)));
      const canvas = element("canvas", { width, height });
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, 0, 0, width, height);
      blob = await new Promise((resolve) => canvas.toBlob(resolve, kind, 0.95));
      scale *= 0.8;
    } while (blob && isOver(width * height, blob.size));
    if (!blob) return null;
    const name = file.name || t("references");
    const isReduced = width < bitmap.width;
    notes.push(isReduced ? t("reduced", { name, width, height }) : t("converted", { name }));
  }
  bitmap.close();
  const url = URL.createObjectURL(blob);
  return { id: ++numbers, name: file.name || "", blob, url, width, height, mask: null, strokes: [], maskUrl: null };
}

function changed(notes) {
  showText($("references-note"), notes.join(" "));
  render();
  for (const each of listeners) each();
}

function move(index, by) {
  const moved = [...items];
  const [item] = moved.splice(index, 1);
  moved.splice(index + by, 0, item);
  items = moved;
  changed(items.slice(1).some((each) => each.mask) ? [t("mask-unused")] : []);
  const place = $("references").children[index + by];
  const buttons = [...place.querySelectorAll("button:not(:disabled)")];
  (buttons.find((each) => each.dataset.by === String(by)) ?? buttons[0])?.focus();
}

function removeAt(index) {
  URL.revokeObjectURL(items[index].url);
  items = items.filter((_, each) => each !== index);
  changed([]);
  const next = $("references").children[Math.min(index, items.length - 1)];
  (next?.querySelector(".remove") ?? $("reference-files")).focus();
}

/** Called to open the mask of an image. */
export const hooks = { openMask: () => {} };

function render() {
  const list = $("references");
  list.hidden = !items.length;
  list.replaceChildren(
    ...items.map((item, index) => {
      const number = index + 1;
      const name = t("reference-name", { number, name: item.name });
      const button = (text, label, action, extra = {}) =>
        element("button", { type: "button", textContent: text, "aria-label": label, title: label, onclick: action, ...extra });
      const isMaskable = index === 0;
      return element(
        "li",
        { className: item.mask && isMaskable ? "reference masked" : "reference" },
        element(
          "div",
          { className: "reference-images" },
          element("img", { src: item.url, alt: name }),
          item.mask && isMaskable ? element("img", { src: item.maskUrl, alt: "", className: "mask-shown" }) : null,
        ),
        element(
          "div",
          { className: "reference-tools" },
          items.length > 1 ? button("←", t("earlier", { number }), () => move(index, -1), { disabled: index === 0, "data-by": "-1" }) : null,
          items.length > 1 ? button("→", t("later", { number }), () => move(index, 1), { disabled: number === items.length, "data-by": "1" }) : null,
          isMaskable ? button(t("mask"), t("mask-edit"), () => hooks.openMask(item), { id: "mask-open", "aria-pressed": String(Boolean(item.mask)) }) : null,
          button("×", t("remove-reference", { number }), () => removeAt(index), { className: "remove" }),
        ),
      );
    }),
  );
}

/** Files of a drop or a paste that are images. */
export const imageFiles = (transfer) =>
  [...(transfer?.files ?? [])].filter((each) => each.type.startsWith("image/") || each.type === "");

export function startReferences() {
  $("reference-files").addEventListener("change", async (event) => {
    await addReferences([...event.target.files]);
    event.target.value = "";
    announce(`${t("references")}: ${items.length}`);
  });
  document.addEventListener("paste", (event) => {
    const files = imageFiles(event.clipboardData);
    if (!files.length || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    addReferences(files);
  });
  onLanguage(render);
}
