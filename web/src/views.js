// What a panel shows: the picture, a grid of tokens over it, and the schedule.

const SVG = "http://www.w3.org/2000/svg";

export function paint(canvas, { rgba, width, height }) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
}

/** A light colour for a token; its number identifies it. */
const tint = (token) => `hsl(${(token * 137) % 360} 45% ${76 + ((token * 29) % 14)}%)`;
/** From white (sure) to a light brown; the percentage is written on it. */
const shade = (p) => `hsl(32 ${Math.round(80 * (1 - p))}% ${Math.round(62 + 36 * p)}%)`;

/**
 * The class, the background and the text of a cell, and its name for screen readers.
 *
 * view    pixels, tokens, confidence or hidden
 * shown   a step of parallelDecode, with `since` and `sure`: for each position, the step in which it was revealed, and with
 *         what confidence
 */
export function cellOf(view, shown, place, columns, chosen) {
  const where = `Row ${Math.floor(place / columns) + 1}, column ${(place % columns) + 1}`;
  if (!shown) return { classes: "cell covered", text: "", colour: "", label: `${where}: hidden` };
  const token = shown.sampled[place];
  const hidden = shown.hidden[place];
  const since = shown.since[place];
  const percent = Math.round(100 * (hidden ? shown.confidence[place] : shown.sure[place]));
  const words = [hidden ? "hidden" : `token ${token}`];
  if (hidden) words.push(`predicted ${token} with ${percent}%`);
  else if (since >= 0) words.push(`revealed in step ${since + 1} with ${percent}%`);
  else words.push("kept");
  if (chosen) words.push("to be redrawn");
  const classes = ["cell"];
  let [text, colour] = ["", ""];
  if (chosen) classes.push("chosen");
  else if (view === "hidden") {
    classes.push(hidden ? "covered" : "filled");
    if (!hidden) [text, colour] = [since >= 0 ? String(since + 1) : "–", "#f2f3f7"];
  } else if (view === "tokens") {
    if (hidden) classes.push("covered");
    else [text, colour] = [String(token), tint(token)];
  } else if (view === "confidence") {
    if (hidden || since >= 0) [text, colour] = [`${percent}`, shade(percent / 100)];
    else [text, colour] = ["–", "#f2f3f7"];
    if (hidden) text += "?";
  } else if (hidden) classes.push("covered");
  if (since === shown.s && view !== "pixels" && !chosen) classes.push("fresh");
  return { classes: classes.join(" "), text, colour, label: `${where}: ${words.join(", ")}` };
}

export const LEGENDS = {
  pixels: "Hatched: still hidden.",
  tokens: "The number of each token. Framed: revealed in this step.",
  confidence: "The probability of each token when it was drawn, in percent. With “?”: hidden again. Framed: revealed in this step.",
  hidden: "Hatched: still hidden. Else the step in which the token was revealed. Framed: in this step.",
};

function add(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** The schedule: of n tokens, `hidden` after each step; the law as a dashed curve; the step shown as a filled point. */
export function drawSchedule(svg, hidden, n, law, now) {
  svg.replaceChildren();
  const [left, right, top, bottom] = [30, 232, 8, 108];
  const steps = hidden.length;
  const x = (step) => left + ((right - left) * step) / steps;
  const y = (count) => bottom - ((bottom - top) * count) / n;
  const line = (points) => points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ");
  add(svg, "line", { class: "axis", x1: left, y1: bottom, x2: right, y2: bottom });
  add(svg, "line", { class: "axis", x1: left, y1: top, x2: left, y2: bottom });
  for (const count of [0, Math.floor(n / 2), n]) add(svg, "text", { x: left - 8, y: y(count) + 3, "text-anchor": "end" }, count);
  for (const step of [0, steps]) add(svg, "text", { x: x(step), y: bottom + 14, "text-anchor": "middle" }, step);
  add(svg, "text", { x: (left + right) / 2, y: bottom + 14, "text-anchor": "middle" }, "step");
  const curve = Array.from({ length: 61 }, (_, i) => [left + ((right - left) * i) / 60, y(n * law(i / 60))]);
  add(svg, "polyline", { class: "law", points: line(curve) });
  const points = [[x(0), y(n)], ...hidden.map((count, s) => [x(s + 1), y(count)])];
  add(svg, "polyline", { class: "curve", points: line(points) });
  const r = steps > 32 ? 1.5 : 3; // so that many steps do not touch
  points.forEach(([cx, cy], s) => add(svg, "circle", { cx, cy, r, class: s === now + 1 ? "now" : "" }));
  const words = hidden.map((count, s) => `${count} after step ${s + 1}`).join(", ");
  svg.setAttribute("aria-label", `Of ${n} tokens, hidden: ${words}.`);
}

/** A piece of a caption as it is shown: the tokenizer writes a space as ▁, and </s> for the end of the text. */
export const shownPiece = (piece) => (piece === "</s>" ? "(end)" : piece.replaceAll("▁", "") || "▁");

/** The attention of one token: a bar and a percentage for each piece of the caption. */
export function drawBars(list, pieces, weights) {
  const most = Math.max(...weights);
  list.replaceChildren(
    ...pieces.map((piece, i) => {
      const [item, name, track, number] = ["li", "span", "span", "b"].map((tag) => document.createElement(tag));
      name.textContent = shownPiece(piece);
      const bar = document.createElement("i");
      bar.style.width = `${(100 * weights[i]) / most}%`;
      track.append(bar);
      number.textContent = `${(100 * weights[i]).toFixed(0)}%`;
      item.append(name, track, number);
      return item;
    }),
  );
}
