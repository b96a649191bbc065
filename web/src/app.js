// The page: controls, the worker, and what it sends to the panels.

import about from "../dist/models/models.json";
import { addressOf, numberOf, readAddress } from "./link.js";
import { n, Panel } from "./panel.js";
import { adviceFor } from "./words.js";

const EXAMPLES = [
  "a cat left of a dog on a blue background",
  "three red apples",
  "a pizza above a bicycle",
  "two frogs on a green background",
  "a rocket above a star on a purple background",
];
const LARGEST_SEED = 2 ** 32 - 1;
const $ = (selector, of = document) => of.querySelector(selector);
const params = readAddress(location);
const { codebook_size: maskId, text_length: textLength } = about.stages.base;
const fineSteps = about.sampling.superres?.steps;
const known = about.words && new Set(about.words.all);

let worker;
let number = 0; // of requests
let running = 0; // panels that are being drawn
let loading = true; // until the models that are wanted are there
const panels = [];
const status = (words) => ($("#status").textContent = words);
const chosenOf = (name) => $(`input[name=${name}]:checked`).value;
const page = {
  view: () => chosenOf("view"),
  mode: () => chosenOf("mode"),
  running: () => running,
  status,
  attend: (panel, question) => send({ type: "attention", panel: panel.name, caption: panel.caption, ...question }),
  redraw,
};

// --- the worker -------------------------------------------------------------------------------------------------

function send(message) {
  if (!worker) {
    const own = (worker = new Worker("worker.js", { type: "module", name: __BUILD__ }));
    own.onmessage = ({ data }) => own === worker && receive(data);
    own.onerror = (event) => {
      event.preventDefault();
      const why = event.message ? `stopped (${event.message})` : "could not be loaded; check the connection";
      if (own === worker) fail(`The part of this page that draws ${why}. Press Draw to start it again.`);
    };
  }
  worker.postMessage(message);
}

/** Ends the worker, its downloads and its memory; the next request starts another one. */
function dismiss() {
  worker?.terminate();
  worker = undefined;
  loading = true;
  running = 0;
  $("#loading").hidden = true;
  ended();
}

function fail(message) {
  dismiss();
  $("#error").textContent = message;
  $("#error").hidden = false;
  status("");
}

const panelOf = (name) => panels.find((panel) => panel.name === name);

const receivers = {
  progress({ done, total }) {
    loading = true;
    $("#loading").hidden = false;
    $("#bar").value = done / total;
    $("#loading-words").textContent = `Loading the models: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
  },
  loaded({ threads }) {
    loading = false;
    $("#loading").hidden = true;
    $("#runtime").textContent = `Computed by ONNX Runtime on ${threads} WebAssembly thread${threads > 1 ? "s" : ""}.`;
    status("Drawing.");
  },
  caption({ panel, dropped }) {
    $("#advice").textContent = adviceFor(panelOf(panel).caption, known, dropped, textLength);
  },
  step({ panel, step, picture }) {
    panelOf(panel).add(step, picture);
  },
  fine({ panel, s, steps, hidden }) {
    status(`Picture ${panel}, super-resolution: step ${s + 1} of ${steps}, ${hidden.filter(Boolean).length} of ${hidden.length} tokens hidden.`);
  },
  picture({ panel, picture }) {
    panelOf(panel).fine = picture;
    panelOf(panel).show();
  },
  done({ panel, seconds }) {
    ended();
    panelOf(panel).finish();
    status(`Picture ${panel} is drawn: ${seconds.toFixed(1)} s.`);
  },
  stopped({ id, panel }) {
    ended();
    if (id === number && panelOf(panel)) status("Stopped.");
  },
  attention: (data) => panelOf(data.panel).attention(data),
  error: ({ message }) => fail(message),
};

/** What belongs to an older request, or to a panel that is gone, only counts as ended. */
function receive(data) {
  const late = data.panel !== undefined && (!panelOf(data.panel) || data.id < number);
  if (!late || data.type === "stopped" || data.type === "error") receivers[data.type](data);
  else if (data.type === "done") ended();
}

function ended() {
  running = Math.max(0, running - 1);
  if (!running) {
    if (document.activeElement === $("#stop")) $("#draw").focus(); // it is about to go
    $("#stop").hidden = true;
  }
  for (const panel of panels) panel.show();
}

// --- drawing ----------------------------------------------------------------------------------------------------

const seed = () => Math.min(LARGEST_SEED, Math.max(0, Math.floor(Number($("#seed").value) || 0)));

function request(panel, start) {
  panel.begin($("#caption").value, start ? start.filter((token) => token === maskId).length : n);
  running++;
  $("#stop").hidden = false;
  const fine = $("#size").value === "128" ? fineSteps : 0;
  send({ type: "draw", id: number, panel: panel.name, caption: panel.caption, seed: seed(), sampling: panel.used, fine, start });
}

function begin(words) {
  $("#error").hidden = true;
  number++;
  status(loading ? "Loading the models, once; then drawing." : words);
  history.replaceState(null, "", link());
}

function draw() {
  begin("Drawing.");
  for (const panel of panels) request(panel);
}

/** Inpainting: some positions are hidden, the others keep their tokens. */
function redraw(panel) {
  const hidden = new Set(panel.toRedraw);
  const start = Array.from(panel.steps.at(-1).sampled, (token, i) => (hidden.has(i) ? maskId : token));
  begin(`Redrawing ${hidden.size} of ${n} tokens.`);
  request(panel, start);
}

/** The models are loaded without a pause in which the worker could read a message, so then it ends altogether. */
function stop() {
  if (loading) {
    dismiss();
    status("Stopped.");
  } else send({ type: "stop" });
}

// --- the page ---------------------------------------------------------------------------------------------------

/** The address of this page as it is set now; `embed` for the one inside another page. */
function link(embed = params.get("embed")) {
  return addressOf(location, {
    embed: embed ?? undefined,
    theme: embed ? (params.get("theme") ?? undefined) : undefined,
    caption: $("#caption").value,
    seed: seed(),
    size: $("#size").value === "64" ? undefined : $("#size").value,
    view: page.view() === "pixels" ? undefined : page.view(),
    mode: page.mode() === "hide" ? undefined : page.mode(),
    compare: panels.length > 1 ? 1 : undefined,
    ...Object.assign({}, ...panels.map((panel) => panel.parameters())),
  });
}

async function copyLink() {
  const address = link(null);
  try {
    await navigator.clipboard.writeText(address);
    status("The link is copied. It opens this page with the same caption, seed and settings.");
  } catch {
    status(`This browser does not let the page copy. The link is ${address}`);
  }
}

function compare(on) {
  document.body.classList.toggle("comparing", on);
  if (on && panels.length === 1) {
    const other = new Panel("B", params, "b.", page);
    const own = panels[0].sampling();
    for (const name of Object.keys(own)) if (params.has(`b.${name}`)) own[name] = other.sampling()[name];
    other.set(own);
    other.preview();
    panels.push(other);
  } else if (!on && panels.length === 2) {
    if (running) send({ type: "stop", panel: "B" });
    panels.pop().root.remove();
  }
}

function listWords() {
  $("#words").hidden = !about.words;
  for (const [name, words] of Object.entries(about.words?.lists ?? {})) {
    const [term, list] = ["dt", "dd"].map((tag) => document.createElement(tag));
    [term.textContent, list.textContent] = [name, words.join(", ")];
    $("#words dl").append(term, list);
  }
}

function start() {
  document.body.classList.toggle("embedded", params.get("embed") === "1");
  if (params.has("theme")) document.documentElement.dataset.theme = params.get("theme");
  $("#caption").value = params.get("caption") ?? EXAMPLES[0];
  $("#seed").value = Math.min(LARGEST_SEED, Math.max(0, Math.floor(numberOf(params, "seed", 0))));
  if (!fineSteps) $("#size").closest(".field").hidden = true;
  else if (params.get("size") === "128") $("#size").value = "128";
  for (const name of ["view", "mode"]) {
    const wanted = [...document.querySelectorAll(`input[name=${name}]`)].find((input) => input.value === params.get(name));
    if (wanted) wanted.checked = true;
  }
  panels.push(new Panel("A", params, "", page));
  $("#compare").checked = params.get("compare") === "1";
  compare($("#compare").checked);
  listWords();
  for (const example of EXAMPLES) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: example });
    button.addEventListener("click", () => {
      $("#caption").value = example;
      draw();
    });
    $("#examples").append(button);
  }
  $("#ask").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  $("#stop").addEventListener("click", stop);
  $("#next").addEventListener("click", () => {
    $("#seed").value = (seed() + 1) % (LARGEST_SEED + 1);
    draw();
  });
  $("#copy").addEventListener("click", copyLink);
  $("#compare").addEventListener("change", (event) => compare(event.target.checked));
  for (const input of document.querySelectorAll("input[name=view]")) {
    input.addEventListener("change", () => panels.forEach((panel) => panel.show()));
  }
  addEventListener("hashchange", () => location.reload()); // another link was opened here
  const bytes = Object.values(about.files).reduce((sum, file) => sum + file.bytes, __RUNTIME_BYTES__);
  status(`The first picture downloads the models, at most ${(bytes / 1e6).toFixed(0)} MB; after that they are kept in this browser.`);
  if (params.get("draw") === "1") draw();
}

start();
if ("serviceWorker" in navigator && isSecureContext) navigator.serviceWorker.register("sw.js").catch(() => {});
