// The work, away from the page, so that it never freezes. Messages in: draw, attention, stop; out: progress, loaded,
// caption, step, fine, picture, done, stopped, attention, error.

import * as ort from "onnxruntime-web/wasm";
import about from "../dist/models/models.json";
import tokenizerJson from "../dist/models/tokenizer.json";
import { DownloadError, fetchCached, forgetOthers } from "./models.js";
import { BASE, Muse, SUPERRES } from "./muse.js";

const RUNTIME = { file: "ort.wasm.gz", bytes: __RUNTIME_BYTES__, version: __RUNTIME_VERSION__ };
let muse;
const requests = new Map(); // a panel's newest request; older ones end at their next step

// Half of the processors at most: threads wait for each other, and one that has to share its core delays all.
const threads = () => (self.crossOriginIsolated ? Math.max(1, Math.min(4, Math.floor((navigator.hardwareConcurrency || 1) / 2))) : 1);

/** Whether this WebAssembly has SIMD: a module of one function with an instruction of it. */
function hasSimd() {
  const bytes = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  return typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(bytes));
}

async function load(fine) {
  const wanted = fine ? [...BASE, ...SUPERRES] : BASE;
  const missing = wanted.filter((name) => !(name in (muse?.sessions ?? {})));
  if (!missing.length) return;
  if (self.name !== __BUILD__) throw new Failure("This page was updated while it was open. Reload it.");
  if (!hasSimd()) throw new Failure("This browser has no WebAssembly SIMD, which the models need; a newer one has it.");
  if (typeof DecompressionStream === "undefined") {
    throw new Failure("This browser cannot decompress the models (no DecompressionStream); a newer one can.");
  }
  const total = missing.reduce((sum, name) => sum + about.files[name].bytes, muse ? 0 : RUNTIME.bytes);
  let done = 0;
  const onProgress = (bytes) => postMessage({ type: "progress", done: (done += bytes), total });
  onProgress(0);
  if (!muse) {
    const compressed = await fetchCached(RUNTIME.file, RUNTIME.version, onProgress);
    const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
    ort.env.wasm.wasmBinary = await new Response(stream).arrayBuffer();
    ort.env.wasm.wasmPaths = { mjs: new URL("ort.mjs", self.location.href).href };
    ort.env.wasm.numThreads = threads();
    muse = new Muse(ort, about, tokenizerJson);
  }
  for (const name of missing) {
    await muse.add(name, await fetchCached(`models/${name}.mm.gz`, about.files[name].sha256, onProgress));
  }
  postMessage({ type: "loaded", threads: threads() });
  await forgetOthers([RUNTIME.version, ...Object.values(about.files).map(({ sha256 }) => sha256)]);
}

/** One picture: its steps, then 128 px if `fine` is asked for. */
async function draw({ id, panel, caption, seed, sampling, fine, start }) {
  const begun = performance.now();
  const stopped = async () => {
    await new Promise((resolve) => setTimeout(resolve)); // lets a message in
    return requests.get(panel) !== id;
  };
  postMessage({ type: "caption", id, panel, dropped: muse.tokenize(caption).dropped });
  let tokens;
  for await (const step of muse.draw("base", { caption, seed, sampling, start })) {
    if (await stopped()) return postMessage({ type: "stopped", id, panel });
    tokens = step.tokens;
    postMessage({ type: "step", id, panel, step, picture: await muse.pixels("base", step.sampled) });
  }
  if (fine) {
    const own = { ...about.sampling.superres, steps: fine };
    const settings = { caption, seed, sampling: own, low: Array.from(tokens), all: false };
    for await (const step of muse.draw("superres", settings)) {
      if (await stopped()) return postMessage({ type: "stopped", id, panel });
      postMessage({ type: "fine", id, panel, s: step.s, steps: fine, hidden: step.hidden });
      tokens = step.tokens;
    }
    postMessage({ type: "picture", id, panel, picture: await muse.pixels("superres", tokens) });
  }
  postMessage({ type: "done", id, panel, seconds: (performance.now() - begun) / 1000 });
}

/** What is said as it is. */
class Failure extends Error {}

/** What went wrong, and what to do. */
function sentence(error) {
  const words = String(error?.message ?? error);
  if (error instanceof DownloadError || error instanceof Failure) return words;
  if (error instanceof RangeError || /memory|bad_alloc|allocat|\bOOM\b/i.test(words)) {
    return "This device has too little memory for the models; close other tabs, then press Draw again.";
  }
  return `The models could not be run (${words}). Press Draw again; if that does not help, reload the page.`;
}

let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  if (data.type === "stop") {
    if (data.panel) requests.delete(data.panel);
    else requests.clear();
    return;
  }
  if (data.type === "draw") requests.set(data.panel, data.id);
  queue = queue.then(async () => {
    try {
      if (data.type === "draw" && requests.get(data.panel) !== data.id) return postMessage({ type: "stopped", id: data.id, panel: data.panel });
      await load(Boolean(data.fine));
      if (data.type === "draw") await draw(data);
      if (data.type === "attention") {
        const { pieces, weights, length } = await muse.attention(data.caption, Int32Array.from(data.tokens), data.layer);
        const own = Array.from(weights.subarray(data.place * length, data.place * length + pieces.length));
        postMessage({ type: "attention", panel: data.panel, place: data.place, step: data.step, pieces, weights: own });
      }
    } catch (error) {
      postMessage({ type: "error", id: data.id, panel: data.panel, message: sentence(error) });
    }
  });
};
