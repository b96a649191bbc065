// Keeps the page's own files, so that it opens without network, and isolates it from other sites, so that WebAssembly
// may use threads. Models are kept by models.js.

const CACHE = `minimuse-page-${__VERSION__}`;
const MODELS = new URL("models/", self.registration.scope).pathname;
const FILES = ["./", "index.html", "app.js", "worker.js", "style.css", "ort.mjs"];

self.addEventListener("install", (event) => {
  const keep = async () => (await caches.open(CACHE)).addAll(FILES.map((file) => new Request(file, { cache: "reload" })));
  event.waitUntil(keep().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const tidy = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith("minimuse-page-") && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(tidy());
});

function isolated(response) {
  if (response.type === "opaque" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Content-Security-Policy", __POLICY__); // also for the worker, which index.html cannot bind
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin || url.pathname.startsWith(MODELS)) return;
  const answer = async () => {
    const kept = await (await caches.open(CACHE)).match(event.request, { ignoreSearch: true });
    return isolated(kept ?? (await fetch(event.request)));
  };
  event.respondWith(answer());
});
