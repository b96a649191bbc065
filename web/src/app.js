// The page: controls, panels, and what the worker sends.

import about from "../dist/models/models.json";
import { hiddenAfter, LAWS, ORDERS } from "./decoding.js";
import { cellOf, drawBars, drawSchedule, LEGENDS, paint } from "./views.js";

const EXAMPLES = [
  "a cat left of a dog on a blue background",
  "three red apples",
  "a pizza above a bicycle",
  "two frogs on a green background",
  "a rocket on a dark background",
];
// Sliders: name, label, lowest, highest, step, and digits that are shown.
const SLIDERS = [
  ["steps", "Steps", 1, 64, 1, 0],
  ["guidance", "Guidance t", 0, 10, 0.25, 2],
  ["temperature", "Choice temperature", 0, 10, 0.25, 2],
  ["token_temperature", "Token temperature", 0.05, 2, 0.05, 2],
  ["top_k", "Top k (0 is all)", 0, 100, 1, 0],
  ["revise", "Revising steps", 0, 16, 1, 0],
  ["guided_from", "Guided from", 0, 0.95, 0.05, 2],
  ["guided_to", "Guided to", 0.05, 1, 0.05, 2],
];
const $ = (selector, of = document) => of.querySelector(selector);
const params = new URLSearchParams(location.search);
const { grid, codebook_size: maskId, depth } = about.stages.base;
const [rows, columns] = grid;
const n = rows * columns;
const fineSteps = about.sampling.superres?.steps;

let worker;
let number = 0; // of requests
let running = 0; // panels that are being drawn
let loaded = 0; // threads, once the models are there
const view = () => $("input[name=view]:checked").value;
const mode = () => $("input[name=mode]:checked").value;
const status = (words) => ($("#status").textContent = words);

// --- a panel ----------------------------------------------------------------------------------------------------

class Panel {
  constructor(name, prefix) {
    this.name = name;
    this.steps = []; // of the last drawing, each with its pixels
    this.chosen = new Set(); // places to redraw
    this.watched = null; // the place whose attention is shown
    this.root = $("#panel").content.firstElementChild.cloneNode(true);
    this.root.setAttribute("aria-label", `Picture ${name}`);
    $("h2", this.root).textContent = `Picture ${name}`;
    $("#panels").append(this.root);
    this.addSettings(prefix);
    this.addCells();
    this.scrub = $(".step", this.root);
    this.scrub.addEventListener("input", () => this.show(Number(this.scrub.value)));
    $(".redraw", this.root).addEventListener("click", () => redraw(this));
    $(".clear", this.root).addEventListener("click", () => {
      this.chosen.clear();
      this.show();
    });
    const layer = $(".layer", this.root);
    layer.add(new Option("mean of all", ""));
    for (let i = 0; i < depth; i++) layer.add(new Option(`${i + 1} of ${depth}`, i));
    layer.addEventListener("change", () => this.ask());
    this.show();
  }

  addSettings(prefix) {
    const box = $(".settings", this.root);
    const defaults = about.sampling.base;
    const given = (name) => params.get(prefix + name);
    this.controls = {};
    for (const [name, words, min, max, step, digits] of SLIDERS) {
      const label = document.createElement("label");
      const output = Object.assign(document.createElement("span"), { className: "value", ariaHidden: "true" });
      const input = Object.assign(document.createElement("input"), { type: "range", min, max: Math.min(max, name === "steps" ? n : max), step });
      input.value = Number(given(name) ?? defaults[name]);
      const tell = () => (output.textContent = Number(input.value).toFixed(digits));
      input.addEventListener("input", () => {
        tell();
        this.preview();
      });
      label.append(words, output, input);
      box.append(label);
      this.controls[name] = Object.assign(input, { tell });
      tell();
    }
    for (const [name, words, options] of [["order", "Order", ORDERS], ["law", "Law of the schedule", about.laws]]) {
      const label = document.createElement("label");
      const select = document.createElement("select");
      for (const option of options) select.add(new Option(option));
      select.value = options.includes(given(name)) ? given(name) : defaults[name];
      select.addEventListener("change", () => this.preview());
      label.append(words, select);
      box.append(label);
      this.controls[name] = select;
    }
    const label = Object.assign(document.createElement("label"), { className: "check" });
    const ramp = Object.assign(document.createElement("input"), { type: "checkbox" });
    ramp.checked = given("ramp") === null ? defaults.ramp : given("ramp") !== "0";
    label.append(ramp, " Guidance rises");
    box.append(label);
    this.controls.ramp = ramp;
    const buttons = Object.assign(document.createElement("div"), { className: "buttons" });
    const reset = Object.assign(document.createElement("button"), { type: "button", textContent: "The checkpoint's own settings" });
    reset.addEventListener("click", () => {
      for (const [key, control] of Object.entries(this.controls)) {
        if (key === "ramp") control.checked = defaults.ramp;
        else control.value = defaults[key];
        control.tell?.();
      }
      this.preview();
    });
    buttons.append(reset);
    box.append(buttons);
  }

  /** The settings as parallelDecode takes them, with pairs that do not fit together made to fit. */
  sampling() {
    const found = { ...about.sampling.base };
    for (const [name, control] of Object.entries(this.controls)) {
      found[name] = name === "ramp" ? control.checked : control.tagName === "SELECT" ? control.value : Number(control.value);
    }
    found.revise = Math.min(found.revise, found.steps - 1);
    if (found.guided_to <= found.guided_from) found.guided_to = Math.min(1, found.guided_from + 0.05);
    return found;
  }

  addCells() {
    const box = $(".grid", this.root);
    box.setAttribute("aria-label", `Tokens of picture ${this.name}: arrow keys move, Enter chooses`);
    box.style.gridTemplate = `repeat(${rows}, 1fr) / repeat(${columns}, 1fr)`;
    this.cells = [];
    for (let r = 0; r < rows; r++) {
      const row = Object.assign(document.createElement("div"), { className: "row" });
      row.setAttribute("role", "row");
      for (let c = 0; c < columns; c++) {
        const place = r * columns + c;
        const cell = document.createElement("div");
        cell.setAttribute("role", "gridcell");
        cell.tabIndex = place ? -1 : 0;
        cell.addEventListener("click", () => this.click(place));
        row.append(cell);
        this.cells.push(cell);
      }
      box.append(row);
    }
    box.addEventListener("keydown", (event) => {
      const at = this.cells.indexOf(document.activeElement);
      if (at < 0) return;
      const [r, c] = [Math.floor(at / columns), at % columns];
      const moves = {
        ArrowUp: r > 0 ? at - columns : at,
        ArrowDown: r < rows - 1 ? at + columns : at,
        ArrowLeft: c > 0 ? at - 1 : at,
        ArrowRight: c < columns - 1 ? at + 1 : at,
        Home: at - c,
        End: at - c + columns - 1,
      };
      if (event.key in moves) this.focus(moves[event.key]);
      else if (event.key === "Enter" || event.key === " ") this.click(at);
      else return;
      event.preventDefault();
    });
  }

  focus(place) {
    this.cells.forEach((cell, i) => (cell.tabIndex = i === place ? 0 : -1));
    this.cells[place].focus();
  }

  get finished() {
    return !running && this.steps.length > 0;
  }

  click(place) {
    if (!this.finished) {
      status(running ? "Wait until the picture is drawn, or stop it." : "Draw a picture first.");
      return;
    }
    this.cells.forEach((cell, i) => (cell.tabIndex = i === place ? 0 : -1));
    if (mode() === "hide") {
      if (!this.chosen.delete(place)) this.chosen.add(place);
      status(`${this.chosen.size} of ${n} tokens of picture ${this.name} will be redrawn.`);
      this.show(this.steps.length - 1);
    } else {
      this.watched = place;
      this.ask();
      this.show();
    }
  }

  ask() {
    if (this.watched === null) return;
    const layer = $(".layer", this.root).value;
    const { sampled, hidden } = this.steps[this.at];
    const tokens = Array.from(sampled, (token, i) => (hidden[i] ? maskId : token));
    send({ type: "attention", panel: this.name, caption: this.caption, tokens, place: this.watched, layer: layer === "" ? null : Number(layer) });
  }

  attention({ place, pieces, weights }) {
    if (place !== this.watched) return;
    $(".attention", this.root).hidden = false;
    const words = `row ${Math.floor(place / columns) + 1}, column ${(place % columns) + 1}, at step ${this.at + 1}: `;
    const most = weights.indexOf(Math.max(...weights));
    const said = `${words}most to “${pieces[most].replaceAll("▁", "") || "▁"}”, ${(100 * weights[most]).toFixed(0)} %.`;
    $(".which", this.root).textContent = this.caption.trim() ? said.replace("row", "Row") : "Without a caption there is nothing to attend to.";
    drawBars($(".bars", this.root), pieces, weights);
    status(`Attention of ${said}`);
  }

  begin(caption, toFill) {
    this.toFill = toFill;
    this.caption = caption;
    this.steps = [];
    this.fine = null;
    this.watched = null;
    this.since = new Array(n).fill(-1);
    this.sure = new Array(n).fill(1);
    $(".attention", this.root).hidden = true;
    $(".save", this.root).hidden = true;
    this.used = this.sampling();
    this.show();
  }

  add(step, picture) {
    step.revealed.forEach((is, i) => {
      if (step.hidden[i]) this.since[i] = -1;
      else if (is) [this.since[i], this.sure[i]] = [step.s, step.confidence[i]];
    });
    this.steps.push({ ...step, since: [...this.since], sure: [...this.sure], picture });
    this.scrub.max = this.steps.length - 1;
    this.scrub.disabled = false;
    this.show(this.steps.length - 1);
  }

  /** The step `at`, or the one that is shown, with the view that is chosen. */
  show(at = this.at) {
    this.at = this.steps.length ? Math.min(at ?? 0, this.steps.length - 1) : undefined;
    const shown = this.steps[this.at];
    const canvas = $("canvas", this.root);
    const last = this.at === this.steps.length - 1;
    if (shown) paint(canvas, last && this.fine ? this.fine : shown.picture);
    else canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    canvas.setAttribute("aria-label", shown ? `Picture ${this.name} of “${this.caption}” after step ${this.at + 1}` : `No picture ${this.name} yet`);
    this.cells.forEach((cell, place) => {
      const { classes, text, colour, label } = cellOf(view(), shown, place, columns, this.chosen.has(place));
      cell.className = classes + (place === this.watched ? " watched" : "");
      cell.style.background = colour;
      cell.innerHTML = "";
      if (text) cell.append(Object.assign(document.createElement("span"), { textContent: text }));
      cell.setAttribute("aria-label", label);
      cell.setAttribute("aria-selected", this.chosen.has(place) || place === this.watched);
    });
    this.scrub.value = this.at ?? 0;
    this.scrub.disabled = !shown;
    const turn = shown ? `${this.at + 1} of ${this.steps.length}` : "–";
    $(".scrub .value", this.root).textContent = turn;
    this.scrub.setAttribute("aria-valuetext", turn);
    $(".legend", this.root).textContent = LEGENDS[view()];
    $(".facts", this.root).textContent = shown ? this.facts(shown) : "";
    $(".redraw", this.root).disabled = $(".clear", this.root).disabled = !this.finished || !this.chosen.size;
    this.preview(shown ? this.used : undefined);
  }

  facts({ s, hidden, guidance, confidence, revealed }) {
    const left = hidden.filter(Boolean).length;
    const seen = confidence.filter((_, i) => revealed[i]);
    const mean = seen.length ? seen.reduce((a, b) => a + b, 0) / seen.length : null;
    const words = [`After step ${s + 1}, ${left} of ${n} tokens are hidden.`];
    if (mean !== null) words.push(`${seen.length} were revealed, with a mean confidence of ${(100 * mean).toFixed(0)} %.`);
    words.push(guidance === null ? "No guidance in this step." : `Guidance t = ${guidance.toFixed(2)}.`);
    return words.join(" ");
  }

  /** The schedule of the settings, or of those that the picture was drawn with. */
  preview(sampling = this.sampling()) {
    const now = this.steps.length && sampling === this.used ? this.at : -1;
    const scheduled = (sampling.steps - sampling.revise) / sampling.steps;
    const law = (u) => (u > scheduled ? 0 : Math.min(1, Math.max(0, LAWS[sampling.law](u / scheduled, n))));
    // An inpainting fills fewer places, and the schedule is scaled to them.
    const count = sampling === this.used ? this.toFill : n;
    const counts = hiddenAfter(sampling, n).map((left, s) => {
      const step = sampling === this.used ? this.steps[s] : undefined;
      return step ? step.hidden.filter(Boolean).length : Math.floor((left * count) / n);
    });
    drawSchedule($(".schedule", this.root), counts, count, law, now);
  }

  finish() {
    this.show(this.steps.length - 1);
    const canvas = $("canvas", this.root);
    const save = $(".save", this.root);
    save.hidden = false;
    save.href = canvas.toDataURL("image/png");
    save.download = `${(this.caption.trim() || "no caption").replace(/[^\w-]+/g, "-").slice(0, 60)}-${this.name}.png`;
  }
}

// --- the worker -------------------------------------------------------------------------------------------------

function send(message) {
  if (!worker) {
    worker = new Worker("worker.js", { type: "module" });
    worker.onmessage = ({ data }) => receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      fail(event.message || "The worker of this page could not be started; reload the page.");
    };
  }
  worker.postMessage(message);
}

const panelOf = (name) => panels.find((panel) => panel.name === name);

const receivers = {
  progress({ done, total }) {
    $("#loading").hidden = false;
    $("#bar").value = done / total;
    $("#loading-words").textContent = `Loading the models: ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
  },
  loaded({ threads }) {
    loaded = threads;
    $("#loading").hidden = true;
    $("#runtime").textContent = `Computed by ONNX Runtime on ${threads} WebAssembly thread${threads > 1 ? "s" : ""}.`;
  },
  step({ panel, step, picture }) {
    $("#loading").hidden = true;
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
  stopped({ id }) {
    ended();
    if (id === number) status("Stopped.");
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

function fail(message) {
  running = 0;
  ended();
  $("#loading").hidden = true;
  $("#error").textContent = message;
  $("#error").hidden = false;
  status("");
}

function ended() {
  running = Math.max(0, running - 1);
  $("#stop").hidden = running === 0;
  for (const panel of panels) panel.show();
}

// --- drawing ----------------------------------------------------------------------------------------------------

const seed = () => Math.min(2 ** 32 - 1, Math.max(0, Math.floor(Number($("#seed").value) || 0)));

function request(panel, start) {
  panel.begin($("#caption").value, start ? start.filter((token) => token === maskId).length : n);
  running++;
  $("#stop").hidden = false;
  const fine = $("#size").value === "128" ? fineSteps : 0;
  send({ type: "draw", id: number, panel: panel.name, caption: panel.caption, seed: seed(), sampling: panel.used, fine, start });
}

function draw() {
  $("#error").hidden = true;
  if (running) send({ type: "stop" });
  number++;
  status(loaded ? "Drawing." : "Loading the models, once; then drawing.");
  for (const panel of panels) {
    panel.chosen.clear();
    request(panel);
  }
}

/** Inpainting: the places that were clicked are hidden, the others keep their tokens. */
function redraw(panel) {
  const tokens = panel.steps.at(-1).sampled;
  const start = Array.from(tokens, (token, i) => (panel.chosen.has(i) ? maskId : token));
  const count = panel.chosen.size;
  panel.chosen.clear();
  number++;
  status(`Redrawing ${count} of ${n} tokens.`);
  request(panel, start);
}

// --- the page ---------------------------------------------------------------------------------------------------

const panels = [];

function compare(on) {
  document.body.classList.toggle("comparing", on);
  if (on && panels.length === 1) {
    const other = new Panel("B", "b.");
    panels.push(other);
    for (const [name, control] of Object.entries(panels[0].controls)) {
      if (params.has(`b.${name}`)) continue;
      if (name === "ramp") other.controls.ramp.checked = control.checked;
      else other.controls[name].value = control.value;
      other.controls[name].tell?.();
    }
    other.preview();
  } else if (!on && panels.length === 2) {
    if (running) send({ type: "stop" });
    panels.pop().root.remove();
  }
}

function start() {
  document.body.classList.toggle("embedded", params.get("embed") === "1");
  $("#caption").value = params.get("caption") ?? EXAMPLES[0];
  $("#seed").value = Number(params.get("seed") ?? 0);
  if (!fineSteps) $("#size").closest(".field").hidden = true;
  else if (params.get("size") === "128") $("#size").value = "128";
  for (const name of ["view", "mode"]) {
    const wanted = [...document.querySelectorAll(`input[name=${name}]`)].find((input) => input.value === params.get(name));
    if (wanted) wanted.checked = true;
  }
  panels.push(new Panel("A", ""));
  if (params.get("compare") === "1") {
    $("#compare").checked = true;
    compare(true);
  }
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
  $("#stop").addEventListener("click", () => send({ type: "stop" }));
  $("#next").addEventListener("click", () => {
    $("#seed").value = (seed() + 1) % 2 ** 32;
    draw();
  });
  $("#compare").addEventListener("change", (event) => compare(event.target.checked));
  for (const input of document.querySelectorAll("input[name=view]")) {
    input.addEventListener("change", () => panels.forEach((panel) => panel.show()));
  }
  const bytes = (names) => names.reduce((sum, name) => sum + (about.files[name]?.bytes ?? 0), 0);
  const total = (bytes(Object.keys(about.files)) + __RUNTIME_BYTES__) / 1e6;
  status(`The first picture downloads the models, at most ${total.toFixed(0)} MB; after that they are kept in this browser.`);
  if (params.get("draw") === "1") draw();
}

start();
if ("serviceWorker" in navigator && isSecureContext) navigator.serviceWorker.register("sw.js").catch(() => {});
