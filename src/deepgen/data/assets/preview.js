"use strict";
const samples = JSON.parse(document.getElementById("samples").textContent);
const fields = ["source", "task", "size", "licence", "fault"];
const form = document.querySelector("form"), cards = document.getElementById("cards");
const NONE = "(none)", ANY = "(any)";

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

for (const field of fields) {
  const counts = new Map();
  for (const each of samples)
    for (const value of values(each, field)) counts.set(value, (counts.get(value) || 0) + 1);
  const select = form.elements[field];
  if (field === "fault") select.append(new Option("any fault", ANY));
  for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1]))
    select.append(new Option(`${value} (${count})`, value));
}

function values(sample, field) {
  if (field !== "fault") return [sample[field] || NONE];
  return sample.faults.length ? sample.faults : [NONE];
}

function wanted(sample) {
  for (const field of fields) {
    const value = form.elements[field].value;
    if (field === "fault" && value === ANY ? !sample.faults.length : value && !values(sample, field).includes(value))
      return false;
  }
  const text = [sample.id, ...sample.prompts.map((each) => each.text), ...sample.render_text, sample.message]
    .join("\n").toLowerCase();
  return form.elements.search.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function image(source, title) {
  const made = element("img");
  made.src = source; made.alt = title; made.loading = "lazy"; made.decoding = "async";
  return made;
}

function pair(sample) {
  const box = element("div", undefined, "image pair"), line = element("u"), slider = element("input");
  const after = image(sample.target, "target");
  slider.type = "range"; slider.min = 0; slider.max = 100; slider.value = 50;
  slider.setAttribute("aria-label", "From reference to target");
  const move = () => {
    after.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    line.style.left = `${slider.value}%`;
  };
  slider.addEventListener("input", move);
  box.append(image(sample.references[0], "reference"), after, line,
    element("span", "reference", "tag before"), element("span", "target", "tag after"), slider);
  move();
  return box;
}

function card(sample) {
  const made = element("article"), words = element("div", undefined, "words");
  if (sample.target && sample.references.length) made.append(pair(sample));
  else if (sample.target) {
    const box = element("div", undefined, "image");
    box.append(image(sample.target, "target"));
    made.append(box);
  }
  if (sample.references.length > 1) {
    const more = element("div", undefined, "more");
    for (const each of sample.references.slice(1)) more.append(image(each, "further reference"));
    made.append(more);
  }
  for (const fault of sample.faults) words.append(element("p", fault, "fault"));
  if (sample.message) words.append(element("p", sample.message));
  const [first, ...others] = sample.prompts;
  if (first) words.append(element("p", first.text));
  if (others.length) {
    const rest = element("details");
    rest.append(element("summary", `${others.length} more prompt${others.length > 1 ? "s" : ""}`));
    for (const each of others) rest.append(element("p", `${each.kind} ${each.lang}: ${each.text}`));
    words.append(rest);
  }
  if (sample.render_text.length) words.append(element("small", `text: ${sample.render_text.join(" / ")}`));
  for (const line of sample.facts) words.append(element("small", line));
  made.append(words);
  return made;
}

function show() {
  const found = samples.filter(wanted);
  cards.replaceChildren(...found.map(card));
  document.getElementById("shown").textContent = `${found.length} of the ${samples.length} rows in this page`;
}

form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(show));
show();
