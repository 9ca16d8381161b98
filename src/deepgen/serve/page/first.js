// Runs before the first paint, so that neither colours nor direction of reading change after it.
(() => {
  const root = document.documentElement;
  let theme = null;
  let language = null;
  try {
    theme = localStorage.getItem("deepgen-theme");
    language = localStorage.getItem("deepgen-language");
  } catch {
    // Storage may be forbidden; then the system decides.
  }
  root.dataset.theme = ["light", "dark"].includes(theme) ? theme : "auto";
  const wanted = ["en", "zh"].includes(language) ? [language] : navigator.languages;
  const found = wanted.map((each) => each.slice(0, 2)).find((each) => ["en", "zh"].includes(each));
  root.lang = found === "zh" ? "zh" : "en";
})();
