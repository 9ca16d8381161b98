// Where an image may change: painted, or given as a rectangle in numbers.
//
// Strokes are kept, not pixels: they are drawn on the screen at a size that suits it, and for the
// file at the image's own. Undo forgets the last one.

import { $, announce, element } from "./elements.js";
import { setMask } from "./references.js";
import { singleKeys } from "./keys.js";
import { t } from "./text.js";

// Longest side on the screen's canvas.
const SHOWN = 1024;

let item = null;
let strokes = [];
let current = null;

const canvas = () => $("mask-canvas");
const tool = () => document.querySelector('input[name="tool"]:checked').value;

/** The brush's radius in pixels of the image: a part of its longer side. */
const radius = () => (Number($("brush-size").value) / 400) * Math.max(item.width, item.height);

export async function openMask(chosen) {
  item = chosen;
  strokes = [...item.strokes];
  if (!strokes.length && item.mask) {
    // Of settings from the history; it cannot be undone stroke by stroke.
    const image = element("img", { src: item.maskUrl });
    await image.decode();
    strokes = [{ kind: "file", image }];
  }
  const { width, height } = item;
  const scale = SHOWN / Math.max(width, height);
  canvas().width = Math.max(1, Math.round(width * scale));
  canvas().height = Math.max(1, Math.round(height * scale));
  $("mask-image").src = item.url;
  const box = $("canvas-box");
  box.style.setProperty("--ratio", width / height);
  for (const [name, side, value] of [["x", width, 0], ["y", height, 0], ["w", width, width >> 1], ["h", height, height >> 1]]) {
    Object.assign($(`rect-${name}`), { max: side, value: Math.max(value, "wh".includes(name) ? 1 : 0) });
  }
  $("mask-remove").hidden = !item.mask;
  $("mask-note").textContent = "";
  $("mask-dialog").showModal();
  show();
}

/** Draw strokes on a context, in pixels of the image. */
function draw(context, list, scale) {
  const { width, height } = item;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.lineCap = context.lineJoin = "round";
  for (const each of list) {
    context.fillStyle = context.strokeStyle = "#8a5cff";
    context.globalCompositeOperation = each.erases ? "destination-out" : "source-over";
    if (each.kind === "file") {
      drawFile(context, each.image, width, height);
    } else if (each.kind === "invert") {
      context.globalCompositeOperation = "source-out";
      context.fillRect(0, 0, width, height);
    } else if (each.kind === "clear") {
      context.clearRect(0, 0, width, height);
    } else if (each.kind === "rectangle") {
      context.fillRect(each.x, each.y, each.width, each.height);
    } else {
      context.lineWidth = 2 * each.radius;
      context.beginPath();
      const [first, ...more] = each.points;
      context.moveTo(...first);
      for (const point of more) context.lineTo(...point);
      // A dot is a line that ends where it begins.
      if (!more.length) context.lineTo(...first);
      context.stroke();
    }
  }
}

/** A mask that came as a file: transparent there is painted here. */
function drawFile(context, image, width, height) {
  context.globalCompositeOperation = "source-over";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(image, 0, 0, width, height);
}

function show() {
  const all = current ? [...strokes, current] : strokes;
  draw(canvas().getContext("2d"), all, canvas().width / item.width);
  $("mask-undo").disabled = !strokes.length;
}

function add(stroke) {
  strokes.push(stroke);
  show();
}

function undo() {
  strokes.pop();
  show();
}

/** The mask as a file: as large as the image, transparent where it is painted; null for none. */
function exported() {
  const made = element("canvas", { width: item.width, height: item.height });
  const context = made.getContext("2d", { willReadFrequently: true });
  draw(context, strokes, 1);
  const pixels = context.getImageData(0, 0, item.width, item.height);
  let isEmpty = true;
  for (let at = 0; at < pixels.data.length; at += 4) {
    // Half painted is painted: what the server takes is fully transparent or not.
    const isPainted = pixels.data[at + 3] > 127;
    isEmpty &&= !isPainted;
    pixels.data.set([0, 0, 0, isPainted ? 0 : 255], at);
  }
  if (isEmpty) return Promise.resolve(null);
  context.putImageData(pixels, 0, 0);
  return new Promise((resolve) => made.toBlob(resolve, "image/png"));
}

function pointOf(event) {
  const box = canvas().getBoundingClientRect();
  const across = ((event.clientX - box.left) / box.width) * item.width;
  const down = ((event.clientY - box.top) / box.height) * item.height;
  return [across, down];
}

function begin(event) {
  if (event.button) return;
  event.preventDefault();
  canvas().setPointerCapture(event.pointerId);
  const [x, y] = pointOf(event);
  current =
    tool() === "rectangle"
      ? { kind: "rectangle", from: [x, y], x, y, width: 0, height: 0 }
      : { kind: "brush", erases: tool() === "eraser", radius: radius(), points: [[x, y]] };
  show();
}

function moved(event) {
  moveBrush(event);
  if (!current) return;
  if (current.kind === "rectangle") {
    Object.assign(current, spanned(current.from, pointOf(event)));
  } else {
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) current.points.push(pointOf(each));
  }
  show();
}

function end() {
  if (current && (current.kind !== "rectangle" || (current.width && current.height))) {
    strokes.push(current);
  }
  current = null;
  show();
}

/** The whole pixels between two corners, within the image. */
function spanned(one, other) {
  const low = one.map((each, axis) => Math.max(0, Math.floor(Math.min(each, other[axis]))));
  const ends = [item.width, item.height];
  const high = ends.map((side, axis) => Math.min(side, Math.ceil(Math.max(one[axis], other[axis]))));
  return { x: low[0], y: low[1], width: Math.max(0, high[0] - low[0]), height: Math.max(0, high[1] - low[1]) };
}

/** The ring that shows the brush's size. */
function moveBrush(event) {
  const ring = $("brush");
  ring.hidden = tool() === "rectangle" || event.pointerType === "touch";
  const box = canvas().getBoundingClientRect();
  const width = (2 * radius() * box.width) / item.width;
  ring.style.setProperty("--x", `${event.clientX - box.left}px`);
  ring.style.setProperty("--y", `${event.clientY - box.top}px`);
  ring.style.setProperty("--size", `${width}px`);
}

function addRectangle() {
  const [x, y, width, height] = ["x", "y", "w", "h"].map((each) => Math.round(Number($(`rect-${each}`).value)) || 0);
  const found = spanned([x, y], [x + width, y + height]);
  if (!found.width || !found.height) return;
  add({ kind: "rectangle", ...found });
  $("mask-note").textContent = t("rectangle-added", found);
}

async function finish() {
  const mask = await exported();
  if (!mask) {
    $("mask-note").textContent = t("mask-empty");
    return;
  }
  close(mask, strokes.some((each) => each.kind === "file") ? [] : [...strokes]);
}

function close(mask, kept) {
  $("mask-dialog").close();
  setMask(item, mask, kept);
  $("mask-open")?.focus();
  announce(t("mask"));
}

function onKey(event) {
  const isTyping = event.target.matches('input[type="number"]');
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !isTyping) {
    event.preventDefault();
    undo();
  } else if (singleKeys() && "[]".includes(event.key) && !isTyping) {
    const size = $("brush-size");
    size.value = Number(size.value) + (event.key === "]" ? 5 : -5);
  }
}

export function startMask() {
  const area = canvas();
  area.addEventListener("pointerdown", begin);
  area.addEventListener("pointermove", moved);
  area.addEventListener("pointerup", end);
  area.addEventListener("pointercancel", () => {
    current = null;
    show();
  });
  area.addEventListener("pointerleave", () => ($("brush").hidden = true));
  $("mask-undo").onclick = undo;
  $("mask-invert").onclick = () => add({ kind: "invert" });
  $("mask-clear").onclick = () => add({ kind: "clear" });
  $("rect-add").onclick = addRectangle;
  $("mask-done").onclick = finish;
  $("mask-cancel").onclick = () => $("mask-dialog").close();
  $("mask-remove").onclick = () => close(null, []);
  $("mask-dialog").addEventListener("keydown", onKey);
}
