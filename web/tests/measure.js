// Seconds of the playground on this machine, as tables for README.md: `npm run measure`, after `make web`. In Node on one
// WASM thread, and in Chromium, if it is installed, with as many threads as its isolation allows.

import { cpus, loadavg } from "node:os";
import { findChromium, launch } from "./chromium.js";
import { loadMuse } from "./node.js";
import { serve } from "./serve.js";

const CAPTION = "a cat left of a dog on a blue background";
const REPEATS = 2;

/** Seconds on the clock, and seconds of processor time: these say what a machine without other work would take. */
async function timed(work) {
  const [clock, cpu] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { clock: (performance.now() - clock) / 1000, cpu: (user + system) / 1e6 };
}

/** As the page draws: pixels after every step if `live`, else at the end only; `fine` steps of super-resolution. */
async function picture(muse, { live, fine, options = {} }) {
  const sampling = { ...muse.about.sampling.base, steps: 12, ...options };
  let last;
  for await (const step of muse.draw("base", { caption: CAPTION, sampling, all: live })) {
    last = step;
    if (live) await muse.pixels("base", step.sampled);
  }
  if (!fine) return live || muse.pixels("base", last.tokens);
  const own = { ...muse.about.sampling.superres, steps: fine };
  const settings = { caption: CAPTION, sampling: own, low: Array.from(last.tokens), all: false };
  for await (const step of muse.draw("superres", settings)) last = step;
  return muse.pixels("superres", last.tokens);
}

const row = (...cells) => console.log(`| ${cells.join(" | ")} |`);
const shown = ({ clock, cpu }) => `${clock.toFixed(2)} (${cpu.toFixed(2)})`;

async function inNode() {
  let muse;
  row("In Node, one WASM thread: seconds (of processor time)", "first", `warm, best of ${REPEATS}`);
  row("---", "---", "---");
  row("unpack and load all models", shown(await timed(async () => (muse = await loadMuse()))), "–");
  const steps = muse.about.sampling.superres?.steps;
  const cases = [
    ["64 px, 12 steps", { live: false }],
    ["64 px, 12 steps, guidance 0 (conditional half only)", { live: false, options: { guidance: 0 } }],
    [`128 px, 12 steps and ${steps} of super-resolution`, { live: false, fine: steps }],
    [`128 px, 12 steps and ${steps} of super-resolution, pixels after each of the 12`, { live: true, fine: steps }],
  ];
  for (const [name, settings] of steps ? cases : cases.slice(0, 2)) {
    const first = await timed(() => picture(muse, settings));
    const warm = [];
    for (let i = 0; i < REPEATS; i++) warm.push(await timed(() => picture(muse, settings)));
    row(name, shown(first), shown(warm.reduce((a, b) => (b.cpu < a.cpu ? b : a))));
  }
}

async function inChromium() {
  const browser = await launch();
  const server = await serve();
  row("In Chromium: seconds", "threads", "first, from this machine's server, with loading", `warm, best of ${REPEATS}`);
  row("---", "---", "---", "---");
  for (const isolated of [false, true]) {
    for (const size of ["64", "128"]) {
      const context = await browser.newContext({ serviceWorkers: isolated ? "allow" : "block" });
      const page = await context.newPage();
      page.setDefaultTimeout(300_000);
      await page.goto(server.address);
      if (isolated) {
        await page.evaluate(() => navigator.serviceWorker.ready);
        await page.reload();
      }
      await page.getByLabel("Size").selectOption(size);
      const once = async () => {
        const begun = performance.now();
        await page.getByRole("button", { name: "Next seed" }).click();
        await page.getByRole("status").filter({ hasText: "Picture A is drawn" }).waitFor();
        return (performance.now() - begun) / 1000;
      };
      const first = await once();
      const warm = [];
      for (let i = 0; i < REPEATS; i++) warm.push(await once());
      const threads = (await page.locator("#runtime").innerText()).match(/\d+/)[0];
      row(`${size} px, pixels after each step`, threads, first.toFixed(2), Math.min(...warm).toFixed(2));
      await context.close();
    }
  }
  await browser.close();
  await server.close();
}

console.log(`${cpus()[0].model}, ${cpus().length} cores, load ${loadavg()[0].toFixed(1)}, Node ${process.version}\n`);
await inNode();
console.log();
if (findChromium()) await inChromium();
else console.log("Chromium is not installed.");
