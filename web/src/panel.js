// One picture on the page: its tokens, its steps, its schedule, and the settings that it is drawn with.

import about from "../dist/models/models.json";
import { hiddenAfter, LAWS, ORDERS } from "./decoding.js";
import { numberOf } from "./link.js";
import { cellOf, drawBars, drawSchedule, LEGENDS, paint, shownPiece } from "./views.js";

const { grid, codebook_size: maskId, depth } = about.stages.base;
const [rows, columns] = grid;
export const n = rows * columns;

const decimal = (value) => value.toFixed(2);
const share = (value) => `${Math.round(100 * value)}%`;
// Sliders: name, label, lowest, highest, step, and how a value is written.
const SLIDERS = [
  ["steps", "Steps", 1, Math.min(64, n), 1, String],
  ["guidance", "Guidance scale t", 0, 10, 0.05, decimal],
  ["temperature", "Temperature", 0, 10, 0.05, decimal],
  ["token_temperature", "Token temperature", 0.05, 2, 0.05, decimal],
  ["top_k", "Top k", 0, 100, 1, (value) => (value ? String(value) : "all")],
  ["revise", "Revising steps", 0, 16, 1, String],
  ["guided_from", "Guided from", 0, 0.95, 0.05, (value) => `${share(value)} of the steps`],
  ["guided_to", "Guided to", 0.05, 1, 0.05, (value) => `${share(value)} of the steps`],
];
const MENUS = [
  ["order", "Order", ORDERS],
  ["law", "Law of the schedule", about.laws.filter((law) => law in LAWS)],
];

const $ = (selector, of) => of.querySelector(selector);
const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

export class Panel {
  /**
   * name    A or B
   * params  the page's parameters; those of this panel begin with `prefix`
   * page    what the page does for a panel: view(), mode(), running(), status(words), attend(panel, question),
   *         redraw(panel)
   */
  constructor(name, params, prefix, page) {
    this.name = name;
    this.prefix = prefix;
    this.page = page;
    this.steps = []; // of the last drawing, each with its pixels
    this.chosen = new Set(); // positions to redraw
    this.watched = null; // the position whose attention is shown
    this.root = $("#panel", document).content.firstElementChild.cloneNode(true);
    this.root.setAttribute("aria-label", `Picture ${name}`);
    $("h2", this.root).textContent = `Picture ${name}`;
    $("#panels", document).append(this.root);
    this.addSettings(params);
    this.addCells();
    this.scrub = $(".step", this.root);
    this.scrub.addEventListener("input", () => this.show(Number(this.scrub.value)));
    this.scrub.addEventListener("change", () => this.ask());
    $(".redraw", this.root).addEventListener("click", () => page.redraw(this));
    $(".clear", this.root).addEventListener("click", () => {
      this.chosen.clear();
      this.keepFocus();
      this.show();
    });
    const layer = $(".layer", this.root);
    layer.add(new Option("mean of all", ""));
    for (let i = 0; i < depth; i++) layer.add(new Option(`${i + 1} of ${depth}`, i));
    layer.addEventListener("change", () => this.ask());
    this.show();
  }

  // --- settings ---

  addSettings(params) {
    const box = $(".settings", this.root);
    this.controls = {};
    for (const [name, words, min, max, step, write] of SLIDERS) {
      const label = make("label");
      const output = make("span", { className: "value", ariaHidden: "true" });
      const input = make("input", { type: "range", min, max: Math.max(max, about.sampling.base[name]), step });
      const update = () => (input.ariaValueText = output.textContent = write(Number(input.value)));
      input.addEventListener("input", () => {
        this.fit(name);
        this.preview();
      });
      label.append(words, output, input);
      box.append(label);
      this.controls[name] = Object.assign(input, { update });
    }
    for (const [name, words, options] of MENUS) {
      const label = make("label");
      const select = make("select");
      for (const option of options) select.add(new Option(option));
      select.addEventListener("change", () => this.preview());
      label.append(words, select);
      box.append(label);
      this.controls[name] = select;
    }
    const label = make("label", { className: "check" });
    this.controls.ramp = make("input", { type: "checkbox" });
    label.append(this.controls.ramp, " Guidance rises from 0 to t");
    const buttons = make("div", { className: "buttons" });
    const reset = make("button", { type: "button", textContent: "The checkpoint's own settings" });
    reset.addEventListener("click", () => {
      this.set(about.sampling.base);
      this.preview();
    });
    buttons.append(reset);
    box.append(label, buttons);
    this.set(this.settingsOf(params));
  }

  /** The checkpoint's own settings, with those of the address where it has valid ones. */
  settingsOf(params) {
    const found = { ...about.sampling.base };
    for (const [name] of SLIDERS) found[name] = numberOf(params, this.prefix + name, found[name]);
    for (const [name, , options] of MENUS) {
      if (options.includes(params.get(this.prefix + name))) found[name] = params.get(this.prefix + name);
    }
    if (params.has(`${this.prefix}ramp`)) found.ramp = params.get(`${this.prefix}ramp`) !== "0";
    return found;
  }

  set(settings) {
    for (const [name, control] of Object.entries(this.controls)) {
      if (name === "ramp") control.checked = settings.ramp;
      else control.value = settings[name];
    }
    this.fit();
  }

  /** Pairs of settings that exclude each other: the one that was not moved gives way, in sight. */
  fit(moved) {
    const { steps, revise, guided_from: from, guided_to: to } = this.controls;
    if (moved === "revise") steps.value = Math.max(Number(steps.value), Number(revise.value) + 1);
    else revise.value = Math.min(Number(revise.value), Number(steps.value) - 1);
    if (moved === "guided_to") from.value = Math.min(Number(from.value), Number(to.value) - 0.05);
    else to.value = Math.max(Number(to.value), Number(from.value) + 0.05);
    for (const control of Object.values(this.controls)) control.update?.();
  }

  /** The settings as parallelDecode takes them. */
  sampling() {
    const found = { ...about.sampling.base };
    for (const [name, control] of Object.entries(this.controls)) {
      found[name] = name === "ramp" ? control.checked : control.tagName === "SELECT" ? control.value : Number(control.value);
    }
    return found;
  }

  /** What an address needs to repeat these settings: those that are not the checkpoint's own. */
  parameters() {
    const changed = Object.entries(this.sampling()).filter(([name, value]) => value !== about.sampling.base[name]);
    return Object.fromEntries(changed.map(([name, value]) => [this.prefix + name, name === "ramp" ? Number(value) : value]));
  }

  // --- tokens ---

  addCells() {
    const box = $(".grid", this.root);
    box.setAttribute("aria-label", `Tokens of picture ${this.name}: arrow keys move, Enter chooses`);
    box.style.gridTemplate = `repeat(${rows}, 1fr) / repeat(${columns}, 1fr)`;
    this.cells = [];
    for (let r = 0; r < rows; r++) {
      const row = make("div", { className: "row", role: "row" });
      for (let c = 0; c < columns; c++) {
        const place = r * columns + c;
        const cell = make("div", { role: "gridcell", tabIndex: place ? -1 : 0 });
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
    this.cells[place].focus({ preventScroll: true });
  }

  /** Buttons that are about to be disabled would lose the focus: it goes to the tokens. */
  keepFocus() {
    const button = document.activeElement?.matches(".redraw, .clear") && this.root.contains(document.activeElement);
    if (button) this.focus(this.cells.findIndex((cell) => cell.tabIndex === 0));
  }

  get finished() {
    return !this.page.running() && this.steps.length > 0;
  }

  /** Positions that a redrawing fills: the chosen ones, and those that a stopped drawing left hidden. */
  get toRedraw() {
    const hidden = this.steps.at(-1)?.hidden ?? [];
    return this.cells.flatMap((_, place) => (this.chosen.has(place) || hidden[place] ? [place] : []));
  }

  click(place) {
    if (!this.finished) {
      this.page.status(this.page.running() ? "Wait until the picture is drawn, or stop it." : "Draw a picture first.");
      return;
    }
    this.cells.forEach((cell, i) => (cell.tabIndex = i === place ? 0 : -1));
    if (this.page.mode() === "hide") {
      if (!this.chosen.delete(place)) this.chosen.add(place);
      this.page.status(`${this.toRedraw.length} of ${n} tokens of picture ${this.name} will be redrawn.`);
      this.show(this.steps.length - 1);
    } else {
      this.watched = place;
      this.ask();
      this.show();
    }
  }

  // --- attention ---

  ask() {
    if (this.watched === null || !this.finished) return;
    const layer = $(".layer", this.root).value;
    const { sampled, hidden } = this.steps[this.at];
    const tokens = Array.from(sampled, (token, i) => (hidden[i] ? maskId : token));
    this.page.attend(this, { tokens, place: this.watched, step: this.at, layer: layer === "" ? null : Number(layer) });
  }

  attention({ place, step, pieces, weights }) {
    if (place !== this.watched || step !== this.at) return; // asked for another one since
    $(".attention", this.root).hidden = false;
    const most = weights.indexOf(Math.max(...weights));
    const where = `ow ${Math.floor(place / columns) + 1}, column ${(place % columns) + 1}, at step ${step + 1}`;
    const words = this.caption.trim()
      ? `${where}: most to “${shownPiece(pieces[most])}”, ${share(weights[most])}.`
      : `${where}: without a caption there is nothing to attend to.`;
    $(".which", this.root).textContent = `R${words}`;
    drawBars($(".bars", this.root), pieces, weights);
    this.page.status(`Attention of r${words}`);
  }

  // --- drawing ---

  begin(caption, toFill) {
    this.keepFocus();
    this.toFill = toFill;
    this.caption = caption;
    this.chosen.clear();
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
    this.show(this.steps.length - 1);
    if (step.s === 0 && this.prefix === "") $(".picture", this.root).scrollIntoView({ block: "nearest" }); // on a phone
  }

  finish() {
    this.show(this.steps.length - 1);
    const save = $(".save", this.root);
    save.hidden = false;
    save.href = $("canvas", this.root).toDataURL("image/png");
    const words = this.caption.match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
    save.download = `${words.join("-").slice(0, 60)}-${this.name}.png`;
  }

  /** The step `at`, or the one that is shown, with the view that is chosen. */
  show(at = this.at) {
    this.at = this.steps.length ? Math.min(at ?? 0, this.steps.length - 1) : undefined;
    const shown = this.steps[this.at];
    const canvas = $("canvas", this.root);
    const last = this.at === this.steps.length - 1;
    if (shown) paint(canvas, last && this.fine ? this.fine : shown.picture);
    else canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    const of = this.caption?.trim() ? `of “${this.caption}”` : "without a caption";
    canvas.setAttribute("aria-label", shown ? `Picture ${this.name} ${of} after step ${this.at + 1}` : `No picture ${this.name} yet`);
    this.cells.forEach((cell, place) => {
      const { classes, text, colour, label } = cellOf(this.page.view(), shown, place, columns, this.chosen.has(place));
      cell.className = classes + (place === this.watched ? " watched" : "");
      cell.style.background = colour;
      cell.replaceChildren(...(text ? [make("span", { textContent: text })] : []));
      cell.ariaLabel = label;
      cell.ariaSelected = String(this.chosen.has(place) || place === this.watched);
    });
    this.scrub.value = this.at ?? 0;
    this.scrub.disabled = !shown;
    const turn = shown ? `${this.at + 1} of ${this.steps.length}` : "–";
    $(".scrub .value", this.root).textContent = turn;
    this.scrub.ariaValueText = turn;
    $(".legend", this.root).textContent = LEGENDS[this.page.view()];
    $(".facts", this.root).textContent = shown ? this.facts(shown) : "";
    $(".redraw", this.root).disabled = !this.finished || !this.toRedraw.length;
    $(".clear", this.root).disabled = !this.finished || !this.chosen.size;
    this.preview(shown ? this.used : undefined);
  }

  facts({ s, hidden, guidance, confidence, revealed }) {
    const left = hidden.filter(Boolean).length;
    const seen = confidence.filter((_, i) => revealed[i]);
    const mean = seen.length ? seen.reduce((a, b) => a + b, 0) / seen.length : null;
    const words = [`After step ${s + 1}, ${left} of ${n} tokens are hidden.`];
    if (mean !== null) words.push(`${seen.length} were revealed, with a mean confidence of ${share(mean)}.`);
    words.push(guidance === null ? "No guidance in this step." : `Guidance t = ${guidance.toFixed(2)}.`);
    return words.join(" ");
  }

  /** The schedule of the settings, or of those that the picture was drawn with. */
  preview(sampling = this.sampling()) {
    const drawn = sampling === this.used;
    const now = this.steps.length && drawn ? this.at : -1;
    const scheduled = (sampling.steps - sampling.revise) / sampling.steps;
    const law = (u) => (u > scheduled ? 0 : Math.min(1, Math.max(0, LAWS[sampling.law](u / scheduled, n))));
    // An inpainting fills fewer positions, and the schedule is scaled to them.
    const count = drawn ? this.toFill : n;
    const counts = hiddenAfter(sampling, n).map((left, s) => {
      const step = drawn ? this.steps[s] : undefined;
      return step ? step.hidden.filter(Boolean).length : Math.floor((left * count) / n);
    });
    drawSchedule($(".schedule", this.root), counts, count, law, now);
    const whose = this.steps.length && !drawn ? ", with the settings below, once they are drawn" : "";
    $("figcaption", this.root).textContent = `Tokens still hidden after each step${whose}. Dashed: the law.`;
  }
}
