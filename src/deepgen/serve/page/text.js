// Texts in the chosen language, and numbers as it writes them.

import en from "./en.js";
import zh from "./zh.js";

const LANGUAGES = { en, zh };
const listeners = [];
let language = document.documentElement.lang === "zh" ? "zh" : "en";

export const currentLanguage = () => language;

/** The text of a key, with {names} replaced; numbers are formatted, texts are taken as they are. */
export function t(key, values = {}) {
  let text = LANGUAGES[language][key] ?? key;
  if (typeof text === "object") {
    text = text[new Intl.PluralRules(language).select(values.count)] ?? text.other;
  }
  return text.replace(/\{(\w+)\}/g, (_, name) => formatted(values[name]));
}

export const has = (key) => key in LANGUAGES[language];

const formatted = (value) =>
  typeof value === "number"
    ? new Intl.NumberFormat(language, { maximumFractionDigits: 1 }).format(value)
    : String(value ?? "");

export function dateText(time) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(time);
}

/** Fill in the texts of all elements that name one. */
export function applyTexts(root = document) {
  for (const each of root.querySelectorAll("[data-text]")) each.textContent = t(each.dataset.text);
  for (const each of root.querySelectorAll("[data-placeholder]")) {
    each.placeholder = t(each.dataset.placeholder);
  }
  for (const each of root.querySelectorAll("[data-label]")) {
    each.setAttribute("aria-label", t(each.dataset.label));
    if (each.localName === "button") each.title = t(each.dataset.label);
  }
}

export function setLanguage(chosen) {
  language = chosen in LANGUAGES ? chosen : "en";
  document.documentElement.lang = language;
  remember("deepgen-language", language);
  applyTexts();
  for (const each of listeners) each();
}

/** Called after every change of the language. */
export const onLanguage = (listener) => listeners.push(listener);

/** Keep a choice where the browser allows it. */
export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Then it lasts as long as the page.
  }
}

export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
