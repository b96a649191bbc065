// JAX's random numbers, so that a seed means here what it means in Python: threefry2x32, with 20 rounds. A key is two
// 32-bit words. Every number comes from a key and a counter, so that nothing depends on what was drawn before.

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];

/** Threefry: encrypts two counters by a key, into two words that look random. */
export function threefry([k0, k1], x0, x1) {
  const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda];
  x0 = (x0 + keys[0]) >>> 0;
  x1 = (x1 + keys[1]) >>> 0;
  for (let group = 0; group < 5; group++) {
    for (const by of ROTATIONS[group % 2]) {
      x0 = (x0 + x1) >>> 0;
      x1 = (((x1 << by) | (x1 >>> (32 - by))) ^ x0) >>> 0;
    }
    x0 = (x0 + keys[(group + 1) % 3]) >>> 0;
    x1 = (x1 + keys[(group + 2) % 3] + group + 1) >>> 0;
  }
  return [x0, x1];
}

export const newKey = (seed) => [0, seed >>> 0];
export const foldIn = (key, number) => threefry(key, 0, number >>> 0);
export const split = (key) => [threefry(key, 0, 0), threefry(key, 0, 1)];

/** 32 random bits for each of `count` places. */
export function bits(key, count) {
  return Uint32Array.from({ length: count }, (_, i) => {
    const [a, b] = threefry(key, 0, i);
    return a ^ b;
  });
}

/** Numbers in [0, 1), evenly. The upper 23 bits are the fraction of a float32 in [1, 2). */
export function uniform(key, count) {
  return Float32Array.from(bits(key, count), (word) => (word >>> 9) / 2 ** 23);
}

/** Gumbel noise: -log(-log(u)). The greatest of log p + noise is a draw from p. */
export function gumbel(key, count) {
  const tiny = 2 ** -126;
  return uniform(key, count).map((u) => -Math.fround(Math.log(-Math.fround(Math.log(Math.max(u, tiny))))));
}

/** 0 to count - 1 in a random order: sorted by random bits, as often as it takes to make ties unlikely. */
export function permutation(key, count) {
  let order = Array.from({ length: count }, (_, i) => i);
  for (let round = Math.ceil((3 * Math.log(count)) / Math.log(2 ** 32 - 1)); round > 0; round--) {
    const [next, own] = split(key);
    key = next;
    const by = bits(own, count);
    order = order
      .map((value, i) => [by[i], value])
      .sort((a, b) => a[0] - b[0])
      .map(([, value]) => value);
  }
  return Int32Array.from(order);
}
