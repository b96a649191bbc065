// The page draws what Python draws: 20 captions with the same seeds (`npm test`, after `make web`). Prints the table of
// web/README.md.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { LAWS } from "../src/decoding.js";
import { loadMuse, tokensOf } from "./node.js";

const records = JSON.parse(readFileSync(new URL("../.cache/reference.json", import.meta.url)));
const table = [];
const same = []; // shares of equal fine tokens
let muse;

before(async () => {
  muse = await loadMuse();
});
after(() => console.log(["| caption | settings | base tokens | fine tokens | PSNR 64, 128 px |", "|---|---|---|---|---|", ...table].join("\n")));

const equal = (a, b) => a.filter((x, i) => x === b[i]).length;

/** Peak signal-to-noise ratio of RGBA bytes against the RGB bytes of Python, in dB. */
function psnr(rgba, base64) {
  const rgb = Buffer.from(base64, "base64");
  let sum = 0;
  for (let i = 0; i < rgb.length; i++) sum += (rgba[4 * Math.floor(i / 3) + (i % 3)] - rgb[i]) ** 2;
  return sum ? 10 * Math.log10(255 ** 2 / (sum / rgb.length)) : 99;
}

for (const record of records) {
  test(`“${record.caption}”, seed ${record.seed}`, async () => {
    const { caption, seed, options } = record;
    const { ids, mask } = muse.tokenize(caption);
    assert.deepEqual(ids.filter((_, i) => mask[i]), record.ids);

    const found = await tokensOf(muse, "base", { caption, seed, options });
    // Counted, since a difference of thousands of numbers takes minutes to print.
    record.steps.forEach((step, s) => assert.equal(equal(found.steps[s], step), step.length, `step ${s + 1}`));
    assert.equal(equal(found.tokens, record.tokens), record.tokens.length);
    const dB = [psnr((await muse.pixels("base", record.tokens)).rgba, record.pixels)];
    let fine = "–";
    if (record.superres) {
      const { tokens } = await tokensOf(muse, "superres", { caption, seed, low: record.tokens, options, all: false });
      fine = `${equal(tokens, record.fine)} of ${record.fine.length}`;
      same.push(equal(tokens, record.fine) / record.fine.length);
      dB.push(psnr((await muse.pixels("superres", record.fine)).rgba, record.fine_pixels));
    }
    const settings = Object.entries(options).map(([name, value]) => `${name} ${value}`).join(", ") || "the checkpoint's own";
    const base = `${equal(found.tokens, record.tokens)} of ${record.tokens.length}`;
    table.push(`| ${caption || "(none)"} | ${settings} | ${base} | ${fine} | ${dB.map((x) => x.toFixed(1)).join(", ")} |`);
    assert.ok(Math.min(...dB) > 40, `the pictures differ: ${dB}`);
  });
}

test("fine tokens are Python's", () => {
  const share = same.reduce((a, b) => a + b, 0) / same.length;
  assert.ok(share > 0.999, `${share}`);
});

test("attention to the caption is Python's", async () => {
  const [{ caption, tokens, attention }] = records.filter((record) => record.attention);
  const { weights, length, pieces } = await muse.attention(caption, Int32Array.from(tokens));
  assert.equal(pieces.length, attention.length);
  attention.forEach((of, piece) => of.forEach((weight, i) => assert.ok(Math.abs(weight - weights[i * length + piece]) < 1e-4)));
});

test("the laws are Python's, and a long caption is cut", () => {
  assert.deepEqual(muse.about.laws.toSorted(), Object.keys(LAWS).toSorted());
  assert.equal(muse.tokenize("a cat").dropped, 0);
  const { mask, dropped } = muse.tokenize("a cat and ".repeat(20));
  assert.ok(dropped > 0 && mask.every(Boolean));
});

test("inpainting keeps the tokens that are given", async () => {
  const hide = [9, 10, 17, 18];
  const { codebook_size: maskId } = muse.about.stages.base;
  const start = records[0].tokens.map((token, i) => (hide.includes(i) ? maskId : token));
  const { tokens } = await tokensOf(muse, "base", { caption: "a rose", seed: 5, start, options: {} });
  const changed = tokens.filter((token, i) => token !== start[i]).length;
  assert.equal(changed, hide.length);
  assert.ok(tokens.every((token) => token < maskId));
});
