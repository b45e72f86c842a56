// The page: what is sent, and how the answer is shown.

import { Marks } from "/points.js";

const find = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const form = find("#pair");
const status = find("#status");
const result = find("#result");
const hint = find("#hint");
const compare = find(".compare");
const limit = Number(document.body.dataset.maxBytes);

let sent = null; // the form of the pair whose result is shown, without points
let pictures = {}; // of this result: name -> URL
let links = []; // to its files

const marks = new Marks(hint, (complete, say) => {
  find("#use-points").disabled = !complete;
  hint.querySelector(".task").textContent = say;
});

// ---- what is sent --------------------------------------------------------------------------------

for (const drop of all(".drop")) {
  const input = drop.querySelector("input");
  const picture = drop.querySelector("img");
  const name = drop.querySelector(".name");
  const empty = name.textContent;
  // Dropped beside the label, a file would take the place of the page.
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, () => drop.classList.add("over"));
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  input.addEventListener("change", () => {
    const [file] = input.files;
    URL.revokeObjectURL(picture.src);
    picture.hidden = !file;
    if (file) picture.src = URL.createObjectURL(file);
    name.textContent = file ? file.name : empty;
    drop.classList.toggle("filled", Boolean(file));
  });
  // Thermal TIFFs and the like are none of a browser's formats: their name must do.
  picture.addEventListener("error", () => (picture.hidden = true));
}
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => event.target.closest?.(".drop") || event.preventDefault());
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const files = new FormData(form);
  for (const name of ["infrared", "visible"]) if (!files.get(name).size) files.delete(name);
  if (!files.has("infrared")) return fail("Choose an infrared image first, or a FLIR R-JPEG.");
  const bytes = [...files.values()].reduce((sum, file) => sum + file.size, 0);
  if (bytes > limit) {
    const [has, most] = [bytes, limit].map((count) => Math.round(count / 2 ** 20));
    return fail(`The images have ${has} MB together, and ${most} MB is the most here: make them smaller.`);
  }
  send(files);
});

for (const button of all("[data-example]")) {
  button.addEventListener("click", () => {
    const example = new FormData();
    example.set("example", button.dataset.example);
    send(example);
  });
}

find("#use-points").addEventListener("click", () => {
  const again = new FormData();
  for (const [name, value] of sent.entries()) again.set(name, value);
  again.set("points", JSON.stringify(marks.pairs()));
  send(again);
});
find("#clear-points").addEventListener("click", () => marks.clear());

async function send(body) {
  const began = Date.now();
  const tick = () => say(`Working, or waiting for others ... ${Math.round((Date.now() - began) / 1000)} s`);
  const timer = setInterval(tick, 1000);
  tick();
  busy(true);
  const [error, answer] = await ask(body);
  clearInterval(timer);
  busy(false);
  if (error) return fail(error);
  const withPoints = body.has("points");
  body.delete("points");
  sent = body;
  show(answer, withPoints);
  say(`Done in ${((Date.now() - began) / 1000).toFixed(1)} s.`);
}

/** What went wrong, or null and the answer. */
async function ask(body) {
  try {
    const response = await fetch("/fuse", { method: "POST", body });
    const answer = await response.json();
    return response.ok ? [null, answer] : [answer.error, null];
  } catch {
    return ["The server does not answer; is it still running?", null];
  }
}

function busy(yes) {
  result.inert = yes;
  for (const button of form.querySelectorAll("button")) button.disabled = yes;
}

function say(text) {
  status.className = "";
  status.textContent = text;
}

function fail(text) {
  say(text);
  status.className = "error";
}

// ---- how the answer is shown ---------------------------------------------------------------------

function show(answer, withPoints) {
  result.hidden = false;
  find("#verdict").className = answer.level;
  find("#verdict h2").textContent = answer.title;
  find("#verdict .meaning").textContent = answer.meaning;
  find("#verdict .advice").textContent = answer.advice;
  const notes = answer.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note }));
  find("#verdict .notes").replaceChildren(...notes);

  links.forEach((link) => URL.revokeObjectURL(link));
  links = [];
  pictures = {};
  for (const [name, text] of Object.entries(answer.pictures)) pictures[name] = url(text, "image/jpeg");
  find("#save-image").href = url(answer.files["fused.png"], "image/png");
  find("#save-registration").href = url(answer.files["registration.npz"], "application/octet-stream");
  choose(find(".views [aria-pressed=true]") ?? find(".views button"));
  if (!withPoints) {
    marks.show(pictures.infrared, pictures.visible);
    hint.open = answer.level !== "good";
  }
  find("#verdict").scrollIntoView({ block: "start" });
}

function url(text, type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const link = URL.createObjectURL(new Blob([bytes], { type }));
  links.push(link);
  return link;
}

for (const view of all(".views button")) view.addEventListener("click", () => choose(view));

function choose(view) {
  for (const one of all(".views button")) one.setAttribute("aria-pressed", one === view);
  const { left, right, text } = view.dataset;
  compare.classList.toggle("single", !left);
  if (left) compare.querySelector(".left").src = pictures[left];
  const picture = compare.querySelector(".right");
  picture.src = pictures[right];
  picture.alt = text;
  find("#view figcaption").textContent = text;
}

compare.querySelector("input").addEventListener("input", (event) => {
  compare.style.setProperty("--at", `${event.target.value}%`);
});
