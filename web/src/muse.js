// A caption to pixels: the models of web/export.py in the order of minimuse/muse.py. Runs in a worker and in Node.

import { Tokenizer } from "@huggingface/tokenizers";
import { orderRanks, parallelDecode } from "./decoding.js";
import { createSession } from "./models.js";
import { foldIn, newKey } from "./noise.js";

export const BASE = ["text", "condition", "base", "decoder"]; // what 64 px need
export const SUPERRES = ["superres_condition", "superres", "superres_decoder"]; // and 128 px besides

const int32 = (ort, data, dims) => new ort.Tensor("int32", Int32Array.from(data), dims);
const flags = (ort, data) => new ort.Tensor("bool", Uint8Array.from(data, Number), [1, data.length]);

/** Two tensors one behind the other along `axis`: the two halves of guidance. */
function joined(ort, a, b, axis) {
  const dims = [...a.dims];
  dims[axis] += b.dims[axis];
  const inner = a.dims.slice(axis).reduce((x, y) => x * y, 1);
  const data = new a.data.constructor(a.data.length + b.data.length);
  for (let i = 0; i * inner < a.data.length; i++) {
    data.set(a.data.subarray(i * inner, (i + 1) * inner), 2 * i * inner);
    data.set(b.data.subarray(i * inner, (i + 1) * inner), (2 * i + 1) * inner);
  }
  return new ort.Tensor(a.type, data, dims);
}

export class Muse {
  /**
   * ort            ONNX Runtime
   * about          models.json
   * tokenizerJson  tokenizer.json
   * options        of every session, such as its execution providers
   */
  constructor(ort, about, tokenizerJson, options = {}) {
    this.ort = ort;
    this.about = about;
    this.options = options;
    this.tokenizer = new Tokenizer(tokenizerJson, {});
    this.sessions = {};
  }

  async add(name, compressed) {
    this.sessions[name] = await createSession(this.ort, compressed, this.options);
  }

  get hasSuperres() {
    return SUPERRES.every((name) => name in this.sessions);
  }

  /**
   * Ids and mask of a caption, and its pieces as text: cut or filled to the trained length; the last id is </s>.
   * `dropped` is the number of pieces that were cut.
   */
  tokenize(caption) {
    const length = this.about.stages.base.text_length;
    const { ids, tokens } = this.tokenizer.encode(caption);
    const cut = (list) => (list.length <= length ? list : [...list.slice(0, length - 1), list.at(-1)]);
    const own = cut(ids);
    const padded = Array.from({ length }, (_, i) => own[i] ?? 0);
    return { ids: padded, mask: padded.map((_, i) => i < own.length), pieces: cut(tokens), dropped: ids.length - own.length };
  }

  /** A caption as the transformers see it. An empty one has an empty mask. */
  async encode(caption) {
    const { ids, mask, pieces } = this.tokenize(caption);
    const feeds = { ids: int32(this.ort, ids, [1, ids.length]), mask: flags(this.ort, mask) };
    const { text } = await this.sessions.text.run(feeds);
    return { text, mask: caption.trim() ? mask : mask.map(() => false), pieces };
  }

  /** A transformer's keys and values for a caption, and for super-resolution the base's tokens. */
  async condition(stage, { text, mask }, low) {
    const feeds = stage === "base" ? { text } : { text, tokens: int32(this.ort, low, [1, low.length]) };
    const { keys, values } = await this.sessions[stage === "base" ? "condition" : "superres_condition"].run(feeds);
    return { keys, values, mask: [...(low ?? []).map(() => true), ...mask] };
  }

  /**
   * (tokens, places, t) -> logits of these places, guided by t (equation 1 of the paper): (1 + t) l_c - t l_u. Without
   * guidance only the conditional half is computed. `attention` is that of the last call, [depth, B, heads, N, S].
   */
  predictor(stage, own, other) {
    const { ort } = this;
    const one = { keys: own.keys, values: own.values, mask: flags(ort, own.mask) };
    let two;
    if (other) {
      two = {
        keys: joined(ort, own.keys, other.keys, 1),
        values: joined(ort, own.values, other.values, 1),
        mask: new ort.Tensor("bool", Uint8Array.from([...own.mask, ...other.mask], Number), [2, own.mask.length]),
      };
    }
    const predict = async (tokens, places, t) => {
      const guided = t !== null;
      const found = await this.sessions[stage].run({
        tokens: int32(ort, guided ? [...tokens, ...tokens] : tokens, [guided ? 2 : 1, tokens.length]),
        places: int32(ort, places, [places.length]),
        ...(guided ? two : one),
      });
      predict.attention = found.attention;
      const logits = found.logits.data;
      if (!guided) return logits;
      const half = logits.length / 2;
      const mixed = new Float32Array(half);
      for (let i = 0; i < half; i++) mixed[i] = (1 + t) * logits[i] - t * logits[half + i];
      return mixed;
    };
    return predict;
  }

  /**
   * Draws the tokens of a stage, step by step: yields what parallelDecode yields, and `seconds` of the step.
   *
   * stage      base or superres
   * caption    what to draw; `negative` is what not to draw, where there is guidance
   * start      tokens to keep, hidden places hold codebook_size; default: everything is hidden
   * low        for superres: the base's tokens
   * image      which of several pictures of this seed
   */
  async *draw(stage, { caption, negative = "", seed = 0, image = 0, sampling, start, low, all = true }) {
    const { grid, codebook_size: maskId } = this.about.stages[stage];
    const n = grid[0] * grid[1];
    let key = foldIn(newKey(seed), image);
    if (stage === "superres") key = foldIn(key, 2 ** 31); // so that it does not repeat the base's randomness
    const own = await this.condition(stage, await this.encode(caption), low);
    const other = sampling.guidance > 0 ? await this.condition(stage, await this.encode(negative), low) : undefined;
    const predict = this.predictor(stage, own, other);
    const tokens = Int32Array.from(start ?? new Array(n).fill(maskId));
    const ranks = orderRanks(sampling.order, grid, key);
    yield* parallelDecode(predict, tokens, key, sampling, { maskId, ranks, all });
  }

  /** Tokens of a stage as pixels: RGBA bytes, `size` to a side. */
  async pixels(stage, tokens) {
    const [h, w] = this.about.stages[stage].grid;
    const feeds = { tokens: int32(this.ort, tokens, [1, h, w]) };
    const { pixels } = await this.sessions[stage === "base" ? "decoder" : "superres_decoder"].run(feeds);
    const [, height, width] = pixels.dims;
    const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
    for (let i = 0; i < height * width; i++) {
      for (let c = 0; c < 3; c++) rgba[4 * i + c] = Math.round(255 * pixels.data[3 * i + c]);
    }
    return { rgba, height, width };
  }

  /**
   * How much each place attends to each piece of the caption: the mean of all heads and layers, or of one layer
   * (counted from 0). -> { pieces, weights: Float32Array [N * S], length: S }
   */
  async attention(caption, tokens, layer = null) {
    const encoded = await this.encode(caption);
    const predict = this.predictor("base", await this.condition("base", encoded));
    await predict(tokens, [0], null);
    const [depth, , heads, n, s] = predict.attention.dims;
    const weights = new Float32Array(n * s);
    const layers = layer === null ? [...Array(depth).keys()] : [layer];
    for (const l of layers) {
      for (let h = 0; h < heads; h++) {
        const from = (l * heads + h) * n * s;
        for (let i = 0; i < n * s; i++) weights[i] += predict.attention.data[from + i] / (heads * layers.length);
      }
    }
    return { pieces: encoded.pieces, weights, length: s };
  }
}
