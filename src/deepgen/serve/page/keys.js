// Keys for what is done often, and the list of them.

import { $, element } from "./elements.js";
import { onLanguage, remember, remembered, t } from "./text.js";

const MODIFIER = /Mac|iP(hone|ad)/.test(navigator.platform) ? "⌘" : "Ctrl";

const LISTED = [
  [[MODIFIER, "Enter"], "keys-run"],
  [["Esc"], "keys-cancel"],
  [["Alt", "R"], "keys-repeat"],
  [["Alt", "M"], "keys-mask"],
  [["←", "→"], "keys-move"],
  [["[", "]"], "keys-brush"],
  [[MODIFIER, "Z"], "keys-undo"],
  [["?"], "keys-list"],
];

/** Whether keys without Ctrl or Alt do something; speech input users turn them off. */
export const singleKeys = () => $("single-keys").checked;

export const runKey = `${MODIFIER} ↵`;

/** @param {object} actions run, cancel, repeat, mask, move(by) */
export function startKeys(actions) {
  $("single-keys").checked = remembered("deepgen-single-keys") !== "off";
  $("single-keys").onchange = () => remember("deepgen-single-keys", singleKeys() ? "on" : "off");
  $("keys-open").onclick = () => $("keys-dialog").showModal();
  $("keys-close").onclick = () => $("keys-dialog").close();
  const list = () => {
    $("keys-list").replaceChildren(
      ...LISTED.map(([names, text]) =>
        element(
          "div",
          {},
          element("dt", {}, ...names.map((each) => element("kbd", { textContent: each }))),
          element("dd", { textContent: t(text) }),
        ),
      ),
    );
  };
  list();
  onLanguage(list);
  document.addEventListener("keydown", (event) => onKey(event, actions));
}

function onKey(event, actions) {
  // Enter and Escape belong to the input method while it composes a text.
  if (event.isComposing || event.keyCode === 229) return;
  if (document.querySelector("dialog[open]")) return;
  const isTyping = event.target.matches?.("input, textarea, select");
  let action = null;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) action = actions.run;
  else if (event.key === "Escape") action = actions.cancel;
  // By place on the keyboard: with Alt the letters of some are others.
  else if (event.altKey && event.code === "KeyR") action = actions.repeat;
  else if (event.altKey && event.code === "KeyM") action = actions.mask;
  else if (singleKeys() && !isTyping && !event.ctrlKey && !event.altKey && !event.metaKey) {
    if (event.key === "?") action = () => $("keys-dialog").showModal();
    if (event.key === "ArrowLeft") action = () => actions.move(-1);
    if (event.key === "ArrowRight") action = () => actions.move(1);
  }
  if (!action) return;
  if (event.key !== "Escape") event.preventDefault();
  action();
}
