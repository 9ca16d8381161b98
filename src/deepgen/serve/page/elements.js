// Elements of the page, and small things done to them.

export const $ = (id) => document.getElementById(id);

/** A new element; properties that start with "aria" or "data" or have a dash are attributes. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

/** Show a text in an element, or hide it where there is none. */
export function showText(target, text) {
  target.textContent = text ?? "";
  target.hidden = !text;
}

let announced = "";

/** Say something to users of screen readers. */
export function announce(text) {
  // The same text twice would not be read again.
  announced = text === announced ? `${text}\u00a0` : text;
  $("live").textContent = announced;
}

/** Ask before something that cannot be undone. */
export function confirmed(text) {
  const dialog = $("sure-dialog");
  $("sure-text").textContent = text;
  return new Promise((resolve) => {
    const end = (answer) => {
      dialog.close();
      resolve(answer);
    };
    $("sure-yes").onclick = () => end(true);
    $("sure-no").onclick = () => end(false);
    dialog.oncancel = () => resolve(false);
    dialog.showModal();
  });
}

/** Offer a file for saving. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
