// Models: downloaded once with progress, kept in the browser's cache, unpacked to float32, run by ONNX Runtime.

const CACHE = "minimuse-models";

// Weights as web/export.py packs them: every kind back to float32.
const UNPACK = {
  // The lowest bytes of all numbers first, the highest last.
  f32(bytes, count) {
    const words = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      for (let byte = 0; byte < 4; byte++) words[i] |= bytes[byte * count + i] << (8 * byte);
    }
    return new Float32Array(words.buffer);
  },
  // The same with two bytes: sign, 5 bits of exponent, 10 of fraction.
  f16(bytes, count) {
    const out = new Float32Array(count);
    for (let i = 0; i < count; i++) out[i] = HALVES[bytes[i] | (bytes[count + i] << 8)];
    return out;
  },
  // Whole numbers from -127 to 127, times a scale for each output channel.
  i8(bytes, count, scales) {
    const out = new Float32Array(count);
    const each = count / scales.length;
    for (let i = 0; i < count; i++) out[i] = ((bytes[i] << 24) >> 24) * scales[Math.floor(i / each)];
    return out;
  },
};
const WIDTH = { f32: 4, f16: 2, i8: 1 };

const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
});

/** The graph and the weights, float32 one after the other, of a file that web/export.py wrote. */
export async function unpack(compressed) {
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const start = 4 + new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, start)));
  const graph = bytes.slice(start, start + header.graph);
  const total = header.weights.reduce((sum, { count }) => sum + count, 0);
  const weights = new Float32Array(total);
  let from = start + header.graph;
  let to = 0;
  for (const { kind, count, scales } of header.weights) {
    const length = WIDTH[kind] * count;
    weights.set(UNPACK[kind](bytes.subarray(from, from + length), count, scales), to);
    from += length;
    to += count;
  }
  return { graph, weights };
}

/** An ONNX Runtime session for the compressed bytes of a model. */
export async function createSession(ort, compressed, options = {}) {
  const { graph, weights } = await unpack(compressed);
  return ort.InferenceSession.create(graph, {
    externalData: [{ path: "weights", data: new Uint8Array(weights.buffer) }],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
    ...options,
  });
}

/** Whether these bytes are the file that this page was built with. Without https there is no digest, and no cache. */
async function isVersion(bytes, version) {
  if (!globalThis.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("").startsWith(version);
}

/**
 * A file of this site: from the browser's cache if it is there, else downloaded, compared with its digest, and kept.
 *
 * version     the first digits of its SHA-256, and part of the key, so that a new file replaces an old one
 * onProgress  called with the number of bytes that have arrived since the last call
 */
export async function fetchCached(url, version, onProgress = () => {}) {
  const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
  const key = `${url}?${version}`;
  const kept = await cache?.match(key);
  if (kept) {
    const bytes = new Uint8Array(await kept.arrayBuffer());
    if (await isVersion(bytes, version)) {
      onProgress(bytes.length);
      return bytes;
    }
  }
  let response;
  try {
    response = await fetch(key, { cache: "no-cache" }); // we keep it ourselves
  } catch (error) {
    throw new DownloadError(url, error.message);
  }
  if (!response.ok) throw new DownloadError(url, `the server answered ${response.status}`);
  const parts = [];
  let length = 0;
  try {
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      length += value.length;
      onProgress(value.length);
    }
  } catch (error) {
    throw new DownloadError(url, error.message);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  if (!(await isVersion(bytes, version))) {
    const why = "it is not the one that this page was built with: it arrived in part, or was replaced";
    throw new DownloadError(url, why, "Press Draw again; if that does not help, reload the page.");
  }
  // A full disk or a private window keeps nothing: the page works all the same.
  await cache?.put(key, new Response(bytes)).catch(() => {});
  return bytes;
}

/** Removes what an older version of the page kept: everything of other versions than these. */
export async function forgetOthers(versions) {
  const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
  for (const request of (await cache?.keys()) ?? []) {
    if (!versions.includes(new URL(request.url).search.slice(1))) await cache.delete(request);
  }
}

export class DownloadError extends Error {
  constructor(url, why, remedy = "Check the connection, then press Draw again.") {
    super(`${url} could not be downloaded (${why}). ${remedy}`);
    this.name = "DownloadError";
  }
}
