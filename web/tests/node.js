// The models in Node, on one WASM thread: what parity.test.js and measure.js share.

import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web/wasm";
import { BASE, Muse, SUPERRES } from "../src/muse.js";

export const DIST = new URL("../dist/", import.meta.url);
export const read = (name) => readFileSync(new URL(name, DIST));
export const json = (name) => JSON.parse(read(name));

ort.env.wasm.numThreads = 1;

export async function loadMuse() {
  const muse = new Muse(ort, json("models/models.json"), json("models/tokenizer.json"));
  for (const name of [...BASE, ...SUPERRES]) {
    if (name in muse.about.files) await muse.add(name, read(`models/${name}.mm.gz`));
  }
  return muse;
}

/** The tokens of one stage, and of every step, hidden ones as -1. */
export async function tokensOf(muse, stage, settings) {
  const sampling = { ...muse.about.sampling[stage], ...settings.options };
  const steps = [];
  let last;
  for await (const step of muse.draw(stage, { ...settings, sampling })) {
    steps.push(Array.from(step.sampled, (token, i) => (step.hidden[i] ? -1 : token)));
    last = step.tokens;
  }
  return { tokens: Array.from(last), steps };
}
