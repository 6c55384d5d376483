"use strict";

const LARGEST = 1 << 30;
const ELEMENTS = Object.fromEntries(
  ["model", "drop", "files", "state", "answers", "card", "answer"].map((id) => [id, document.getElementById(id)]));
const METRICS = {
  accuracy: "Accuracy", balanced_accuracy: "Balanced accuracy", auroc_macro: "AUROC",
  expected_calibration_error: "Calibration error",
};
let models = [];
let queue = Promise.resolve();
let waiting = 0;

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

const chosen = () => models.find((model) => model.name === ELEMENTS.model.value);
const percent = (value) => (value > 0.9995 && value < 1 ? "> 99.9%" : value < 0.0005 && value > 0 ? "< 0.1%"
  : `${(100 * value).toFixed(1)}%`);
const say = (text) => { ELEMENTS.state.textContent = text; };

async function reply(response) {
  const text = await response.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error(`the server answered with status ${response.status}`);
  }
  if (!response.ok || value.error) throw new Error(value.error || `the server answered with status ${response.status}`);
  return value;
}

async function ask(file, frame) {
  if (file.size > LARGEST) throw new Error("files up to 1 GiB are read");
  const query = new URLSearchParams({ model: ELEMENTS.model.value });
  if (frame !== undefined) query.set("frame", frame);
  let response;
  try {
    response = await fetch(`/page/answer?${query}`, { method: "POST", body: file,
      headers: { "Content-Type": "application/octet-stream" } });
  } catch {
    throw new Error("the server cannot be reached");
  }
  return reply(response);
}

function bar(value) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  const filled = document.createElementNS(space, "rect");
  drawing.setAttribute("viewBox", "0 0 100 10");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  filled.setAttribute("width", Math.max(0.5, 100 * value));
  filled.setAttribute("height", 10);
  drawing.append(filled);
  return drawing;
}

function bars(answer) {
  const list = make("ul", undefined, "bars");
  const inside = new Set(answer.prediction_set || []);
  const sorted = [...answer.probabilities].sort((a, b) => b.value - a.value);
  for (const { name, value } of sorted) {
    const item = make("li");
    item.append(make("span", name, inside.has(name) ? "name inside" : "name"), bar(value),
      make("span", percent(value), "value"));
    list.append(item);
  }
  return list;
}

function told(answer) {
  const parts = [];
  const sentences = [...answer.sentences];
  if (answer.refused) parts.push(make("p", sentences.shift(), "refusal"));
  const called = make("p", undefined, "called");
  called.append(make("small", answer.refused ? "It would have said" : "The model says"),
    document.createTextNode(answer.called.join(", ") || "none of the classes"));
  parts.push(called, bars(answer));
  const facts = make("dl");
  const fact = (name, value) => facts.append(make("dt", name), make("dd", value));
  if (answer.prediction_set) {
    fact("Cannot be ruled out", answer.prediction_set.join(", ") || "nothing: no class is likely enough");
  }
  if (answer.familiarity !== null) {
    fact("Familiarity", `${answer.familiarity.toFixed(3)} (share of known cases that look stranger)`);
  }
  fact("Model", `${answer.model}, version ${answer.version}`);
  parts.push(facts, ...sentences.map((sentence) => make("p", sentence, "muted")));
  return parts;
}

function show(article, file, answer) {
  const find = (selector) => article.querySelector(selector);
  const picture = find(".picture");
  find(".image").src = answer.image;
  find(".image").alt = `${file.name} as the model was given it`;
  find(".image").onload = (event) => picture.classList.toggle("small", event.target.naturalWidth < 200);
  find(".heat").src = answer.heatmap;
  find(".heat").alt = "Where the evidence for the answer lies";
  const frames = find(".frame-row");
  frames.hidden = answer.frames < 2;
  frames.querySelector("input").max = answer.frames - 1;
  frames.querySelector("input").value = answer.frame;
  frames.querySelector("output").textContent = `${answer.frame + 1} of ${answer.frames}`;
  find(".told").replaceChildren(...told(answer));
}

function prepare(article, file) {
  const [heat, frames] = [".heat-row", ".frame-row"].map((name) => article.querySelector(name));
  const number = ELEMENTS.answers.childElementCount;
  for (const [row, name] of [[heat, "heat"], [frames, "frame"]]) {
    row.querySelector("input").id = `${name}-${number}-${Date.now()}`;
    row.querySelector("label").htmlFor = row.querySelector("input").id;
  }
  const fade = () => {
    const value = heat.querySelector("input").value;
    article.querySelector(".heat").style.opacity = value / 100;
    heat.querySelector("output").textContent = `${value}%`;
  };
  heat.querySelector("input").addEventListener("input", fade);
  fade();
  frames.querySelector("input").addEventListener("change", (event) => enqueue(article, file, Number(event.target.value)));
  article.querySelector("h2").textContent = file.name;
  article.querySelector(".close").setAttribute("aria-label", `Remove ${file.name}`);
  article.querySelector(".close").addEventListener("click", () => {
    article.remove();
    ELEMENTS.files.focus();
  });
}

function fail(article, error) {
  article.querySelector(".seen").hidden = true;
  const message = make("p", `There is no answer: ${error.message}`, "error");
  article.querySelector(".told").replaceChildren(message);
}

function enqueue(article, file, frame) {
  waiting += 1;
  say(`Asking: ${waiting} to go`);
  queue = queue.then(async () => {
    try {
      const answer = await ask(file, frame);
      article.querySelector(".seen").hidden = false;
      show(article, file, answer);
    } catch (error) {
      fail(article, error);
    }
    waiting -= 1;
    say(waiting ? `Asking: ${waiting} to go` : "Done");
  });
}

function add(files) {
  if (!chosen()) return;
  const before = ELEMENTS.answers.firstElementChild;
  for (const file of files) {
    const article = ELEMENTS.answer.content.firstElementChild.cloneNode(true);
    ELEMENTS.answers.insertBefore(article, before);
    prepare(article, file);
    article.querySelector(".seen").hidden = true;
    article.querySelector(".told").replaceChildren(make("p", "Waiting for its answer …", "muted"));
    enqueue(article, file);
  }
}

function describe() {
  const model = chosen();
  ELEMENTS.card.replaceChildren();
  if (!model) return;
  const details = make("details", undefined, "card");
  details.append(make("summary", `About ${model.name}, version ${model.version}`));
  const facts = make("dl");
  const fact = (name, value) => facts.append(make("dt", name), make("dd", value));
  fact("Classes", model.classes.join(", "));
  fact("Network", model.network);
  fact("Input", model.input);
  fact("Made", model.created);
  for (const [split, counts] of Object.entries(model.counts)) {
    fact(`Cases, ${split}`, Object.entries(counts).map(([name, count]) => `${name} ${count}`).join(", "));
  }
  for (const [name, metric] of Object.entries(model.metrics)) {
    if (metric.value === null) continue;
    const interval = metric.low === null ? "" : ` (${metric.low.toFixed(3)} to ${metric.high.toFixed(3)})`;
    fact(`${METRICS[name] || name}, test`, `${metric.value.toFixed(3)}${interval}`);
  }
  const limits = make("ul");
  limits.append(...model.limits.map((limit) => make("li", limit)));
  details.append(facts, make("h3", "Limits"), limits);
  ELEMENTS.card.append(details);
}

async function start() {
  try {
    models = await reply(await fetch("/page/models"));
  } catch (error) {
    say(`The models cannot be listed: ${error.message}`);
    return;
  }
  ELEMENTS.model.replaceChildren(...models.map((model) => new Option(`${model.name}, version ${model.version}`, model.name)));
  ELEMENTS.files.disabled = !models.length;
  say(models.length ? "" : "No model that this page can ask is loaded.");
  describe();
}

ELEMENTS.model.addEventListener("change", describe);
ELEMENTS.files.addEventListener("change", () => {
  add([...ELEMENTS.files.files]);
  ELEMENTS.files.value = "";
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    ELEMENTS.drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    ELEMENTS.drop.classList.remove("over");
  });
}
document.addEventListener("drop", (event) => add([...event.dataTransfer.files]));
start();
