// Parallel decoding (section 2.8 of the Muse paper) with guidance (section 2.7), as minimuse/decoding.py has it.
//
// The whole idea: start with every place hidden. In each step the transformer predicts all hidden places at once; a
// token is drawn for each, the most confident ones are kept, the rest are hidden again. `schedule` says how many.

import { foldIn, gumbel, permutation, split, uniform } from "./noise.js";

export const ORDERS = ["confidence", "halton", "random", "raster"];

// How much is still hidden when a share u of the steps is done, from 1 (all of n tokens) to 0 (none).
export const LAWS = {
  cosine: (u) => Math.cos((Math.PI / 2) * u),
  linear: (u) => 1 - u,
  square: (u) => 1 - u ** 2,
  cubic: (u) => 1 - u ** 3,
  "square root": (u) => 1 - Math.sqrt(u),
  log: (u, n) => -Math.log(Math.max(u, 1e-12)) / Math.log(n),
  exponential: (u, n) => 1 - n ** (u - 1),
  exp: (u) => (1 - Math.exp(5 * (u - 1))) / (1 - Math.exp(-5)),
  arccos: (u) => (2 / Math.PI) * Math.acos(u),
};

/** How many of n tokens are still hidden after each step: at least one is revealed in each, and none is left. */
export function decodeSchedule(steps, n, law) {
  const left = [];
  for (let s = 0, hidden = n; s < steps; s++) {
    const rate = Math.fround(Math.min(Math.max(LAWS[law](Math.fround((s + 1) / steps), n), 0), 1));
    hidden = Math.max(Math.min(Math.floor(n * rate + 1e-4), hidden - 1), steps - 1 - s);
    left.push(hidden);
  }
  return left;
}

/** How many of n tokens each revising pass hides again: a share that falls geometrically from 25% to 10%. */
export function reviseSchedule(passes, n) {
  return Array.from({ length: passes }, (_, i) => {
    const share = passes > 1 ? 0.25 * (0.1 / 0.25) ** (i / (passes - 1)) : 0.25;
    return Math.max(1, Math.floor(n * share + 1e-4));
  });
}

/** What is hidden after each step when everything was hidden before: the curve that the page draws. */
export function hiddenAfter({ steps, revise, law }, n) {
  const scheduled = steps - revise;
  return [...decodeSchedule(scheduled, n, law).slice(0, -1), ...reviseSchedule(revise, n), 0];
}

/** Which steps use guidance: those that [from, to], shares of all steps, covers wholly or in part. */
export function isGuided(s, { steps, guidance, guided_from, guided_to }) {
  if (!guidance) return false;
  const [begin, end] = [guided_from, guided_to].map((share) => Number((share * steps).toFixed(6)));
  const first = Math.min(Math.floor(begin), steps - 1);
  return s >= first && s < Math.max(first + 1, Math.ceil(end));
}

/** The turn of each place of an h x w grid in Halton's order, which spreads every stretch of turns evenly. */
export function haltonRanks(h, w) {
  const mirrored = (i, base) => {
    let [value, unit] = [0, 1];
    for (; i; i = Math.floor(i / base)) value += (i % base) * (unit /= base);
    return value;
  };
  const turns = new Map();
  for (let i = 1; turns.size < h * w; i++) {
    const place = Math.floor(mirrored(i, 3) * h) * w + Math.floor(mirrored(i, 2) * w);
    if (!turns.has(place)) turns.set(place, turns.size);
  }
  return Int32Array.from({ length: h * w }, (_, place) => turns.get(place));
}

/** The turn of each place, or null where confidence decides. */
export function orderRanks(order, [h, w], key) {
  if (order === "halton") return haltonRanks(h, w);
  if (order === "raster") return Int32Array.from({ length: h * w }, (_, i) => i);
  if (order === "random") return permutation(foldIn(key, h * w), h * w);
  return null;
}

function softmax(logits, temperature = 1) {
  let most = -Infinity;
  for (const x of logits) if (x > most) most = x;
  const p = new Float32Array(logits.length);
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += p[i] = Math.exp((logits[i] - most) / temperature);
  for (let i = 0; i < p.length; i++) p[i] /= sum;
  return p;
}

/** One token from the logits of one place, by a random number u in [0, 1): [token, its probability]. */
export function drawToken(logits, u, temperature, topK) {
  const p = softmax(logits);
  let changed = logits;
  if (topK) {
    const least = Float32Array.from(logits).sort().at(-topK);
    changed = logits.map((x) => (x < least ? -Infinity : x));
  }
  const q = changed === logits && temperature === 1 ? p : softmax(changed, temperature);
  let total = 0;
  for (const share of q) total += share;
  let token = 0;
  for (let passed = q[0]; passed <= u * total && token < q.length - 1; ) passed += q[++token];
  return [token, p[token]];
}

/**
 * Fills the hidden places of `tokens`, Int32Array [N], in sampling.steps steps. A generator: each step yields
 * { s, tokens, sampled, confidence, hidden, revealed, guidance }, arrays with one entry for each place.
 *
 * predict    async (tokens, places, t) -> logits Float32Array [places * K]; t is the guidance scale, or null for none
 * key        a random key of noise.js
 * maskId     the token of a hidden place
 * ranks      the turn of each place, or null: by confidence
 * all        whether confidence is wanted for every hidden place, also where it decides nothing
 */
export async function* parallelDecode(predict, tokens, key, sampling, { maskId, ranks = null, all = true }) {
  const { steps, revise, temperature } = sampling;
  const n = tokens.length;
  const scheduled = steps - revise;
  const schedule = hiddenAfter(sampling, n);
  const given = Array.from(tokens, (token) => token !== maskId); // these never change
  const toFill = given.filter((known) => !known).length;
  const sureness = new Float32Array(n).fill(1); // the probability of each token when it was drawn
  tokens = tokens.slice();

  for (let s = 0; s < steps; s++) {
    const known = Array.from(tokens, (token) => token !== maskId);
    const hiddenBefore = known.filter((is) => !is).length;
    const ratio = Math.min((s + 1) / scheduled, 1);
    const t = isGuided(s, sampling) ? sampling.guidance * (sampling.ramp ? ratio : 1) : null;
    const [tokenKey, orderKey] = split(foldIn(key, s));

    // How many are hidden after this step. In the revising steps, also some that were filled before.
    const filled = revise > 0 && s >= scheduled - 1;
    const count = filled
      ? Math.ceil((schedule[s] * toFill) / n)
      : Math.min(Math.floor((schedule[s] * toFill) / n), Math.max(hiddenBefore - 1, 0));

    // With a fixed order it is known now which of the places will be hidden again: they need no prediction.
    let places = [...known.keys()].filter((i) => !known[i]);
    if (!all && ranks && !filled) {
      places = places.sort((a, b) => ranks[a] - ranks[b]).slice(0, hiddenBefore - count);
    }
    const u = uniform(tokenKey, n);
    const sampled = tokens.slice();
    const confidence = new Float32Array(n).fill(1);
    if (places.length) {
      const logits = await predict(tokens, Int32Array.from(places), t);
      const k = logits.length / places.length;
      places.forEach((place, row) => {
        const of = logits.subarray(row * k, (row + 1) * k);
        [sampled[place], confidence[place]] = drawToken(of, u[place], sampling.token_temperature, sampling.top_k);
        sureness[place] = confidence[place];
      });
    }

    // The least of these scores are hidden again.
    const noise = !filled && !ranks && temperature ? gumbel(orderKey, n) : null;
    const score = Array.from({ length: n }, (_, i) => {
      if (filled ? given[i] : known[i]) return Infinity;
      if (filled) return sureness[i];
      if (ranks) return -ranks[i];
      const drawn = Math.log(Math.max(confidence[i], 1e-30));
      return drawn + (noise ? temperature * (1 - ratio) * noise[i] : 0);
    });
    const hidden = new Array(n).fill(false);
    [...score.keys()].sort((a, b) => (score[a] < score[b] ? -1 : score[a] > score[b] ? 1 : a - b))
      .slice(0, count)
      .forEach((i) => (hidden[i] = true));
    tokens = sampled.map((token, i) => (hidden[i] ? maskId : token));
    const revealed = hidden.map((is, i) => !is && !known[i]);
    yield { s, tokens: tokens.slice(), sampled, confidence, hidden, revealed, guidance: t };
  }
}
