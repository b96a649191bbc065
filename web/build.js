// dist/: the page and all that it needs, next to dist/models/ of export.py. `npm run build`; `make web` runs it.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
if (!existsSync(here("dist/models/models.json"))) {
  console.error("web/dist/models is empty: `make web` exports the models first.");
  process.exit(1);
}

// The runtime is compressed here, since not every server does it.
const ort = (name) => here(`node_modules/onnxruntime-web/dist/${name}`);
const runtime = gzipSync(readFileSync(ort("ort-wasm-simd-threaded.wasm")), { level: 9 });
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 12);
writeFileSync(here("dist/ort.wasm.gz"), runtime);
copyFileSync(ort("ort-wasm-simd-threaded.mjs"), here("dist/ort.mjs"));
// What the page may load, and where it may connect: this site only.
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'";
writeFileSync(here("dist/index.html"), readFileSync(here("index.html"), "utf-8").replace("__POLICY__", POLICY));
copyFileSync(here("style.css"), here("dist/style.css"));

const options = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  outdir: here("dist"),
  conditions: ["onnxruntime-web-use-extern-wasm"],
  legalComments: "linked",
  logLevel: "warning",
};
// The page and its worker are of one build, or the page has to be reloaded.
const sources = readdirSync(here("src")).map((name) => readFileSync(here(`src/${name}`)));
const define = {
  __RUNTIME_BYTES__: String(runtime.length),
  __RUNTIME_VERSION__: JSON.stringify(digest(runtime)),
  __BUILD__: JSON.stringify(digest(Buffer.concat([...sources, readFileSync(here("dist/models/models.json"))]))),
};
await build({ ...options, entryPoints: [here("src/app.js"), here("src/worker.js")], define });
const page = ["index.html", "style.css", "app.js", "worker.js", "ort.mjs"].map((name) => readFileSync(here(`dist/${name}`)));
await build({
  ...options,
  entryPoints: [here("src/sw.js")],
  define: { __VERSION__: JSON.stringify(digest(Buffer.concat(page))), __POLICY__: JSON.stringify(POLICY) },
});

const sizes = [];
for (const folder of ["dist/", "dist/models/"]) {
  for (const name of readdirSync(here(folder))) {
    const path = here(folder + name);
    if (statSync(path).isFile()) {
      const bytes = readFileSync(path);
      sizes.push([folder.slice(5) + name, name.endsWith(".gz") ? bytes.length : gzipSync(bytes).length]);
    }
  }
}
const total = sizes.reduce((sum, [, bytes]) => sum + bytes, 0);
for (const [name, bytes] of sizes) console.log(`  ${name}: ${(bytes / 1e6).toFixed(2)} MB`);
console.log(`  in all, as transferred (text gzipped): ${(total / 1e6).toFixed(2)} MB`);
if (total > 25e6) {
  console.error("That is more than the 25 MB that the page may download.");
  process.exit(1);
}
