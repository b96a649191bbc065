// The playground in headless Chromium, by mouse and by keyboard (`npm run test:browser`). SCREENSHOTS=FOLDER keeps
// pictures of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { findChromium, launch } from "./chromium.js";
import { serve } from "./serve.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");
const PATIENCE = 60_000; // milliseconds for a picture on a busy machine
const skip = findChromium() ? false : "Chromium is not installed";
const folder = process.env.SCREENSHOTS;
let browser, server, context, page;
const wrong = [];

async function open(options = {}, address = server.address) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1000 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => message.type() === "error" && !page.expectsErrors && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(server.address) && !/^(blob|data):/.test(url)) wrong.push(`a request leaves the page: ${url}`);
  });
  await page.goto(address);
  return { context, page };
}

const panel = (name, of = page) => of.getByRole("region", { name: `Picture ${name}` });
const drawn = async (name, of = page) => {
  await of.getByRole("status").filter({ hasText: new RegExp(`Picture ${name} is drawn`) }).waitFor();
};
const pixelsOf = (name, of = page) => panel(name, of).locator("canvas").evaluate((canvas) => canvas.toDataURL());
const labels = (name, of = page) => panel(name, of).getByRole("gridcell").evaluateAll((cells) => cells.map((cell) => cell.ariaLabel));
const tokens = async (name, of) => (await labels(name, of)).map((label) => label.match(/token (\d+)/)?.[1]);
const shoot = async (name, of = page) => folder && (await of.screenshot({ path: `${folder}/${name}.png`, fullPage: true }));

async function axe(of, what) {
  await of.evaluate(AXE);
  const { violations } = await of.evaluate(() => globalThis.axe.run());
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), [], what);
}

async function tabTo(target, of = page) {
  for (let i = 0; i < 120; i++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await of.keyboard.press("Tab");
  }
  assert.fail("Tab does not lead there");
}

before(async () => {
  if (skip) return;
  browser = await launch();
  server = await serve();
  ({ context, page } = await open());
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test("the page opens without faults", { skip }, async () => {
  await axe(page, "before the first picture");
  assert.match(await page.getByRole("contentinfo").innerText(), /Nothing leaves your browser/);
});

test("a caption is drawn by keyboard", { skip }, async () => {
  await tabTo(page.getByLabel("Caption", { exact: true }));
  await page.keyboard.press("Control+A");
  await page.keyboard.type("a cat left of a dog on a blue background");
  await page.keyboard.press("Enter");
  await drawn("A");
  assert.equal(new Set(await tokens("A")).has(undefined), false);
  assert.match(await panel("A").innerText(), /12 of 12/);
  await axe(page, "with a picture");
  await shoot("desktop");
});

test("every view shows the steps", { skip }, async () => {
  const step = panel("A").getByRole("slider", { name: "Step", exact: true });
  for (const view of ["tokens", "confidence", "hidden positions", "pixels"]) {
    await page.getByRole("radio", { name: view, exact: true }).check();
    await step.focus();
    await page.keyboard.press("Home");
    assert.ok((await labels("A")).some((label) => /hidden/.test(label)), view);
    const first = await pixelsOf("A");
    await page.keyboard.press("End");
    assert.notEqual(await pixelsOf("A"), first);
    if (view !== "pixels") {
      await page.keyboard.press("ArrowLeft");
      await page.keyboard.press("ArrowLeft");
      await shoot(`view-${view.split(" ")[0]}`);
      await page.keyboard.press("End");
    }
  }
});

test("every slider follows keys and mouse, and the schedule follows at once", { skip }, async () => {
  const sliders = panel("A").locator(".settings").getByRole("slider");
  const count = await sliders.count();
  assert.ok(count >= 8);
  for (let i = 0; i < count; i++) {
    const slider = sliders.nth(i);
    const value = () => slider.inputValue();
    const words = () => slider.evaluate((one) => one.closest("label").querySelector(".value").textContent);
    const written = await words();
    const before = await value();
    await slider.focus();
    await page.keyboard.press((await slider.evaluate((one) => one.value === one.max)) ? "ArrowLeft" : "ArrowRight");
    assert.notEqual(await value(), before, `slider ${i} by key`);
    const moved = await value();
    const box = await slider.boundingBox();
    await page.mouse.click(box.x + box.width * 0.31, box.y + box.height / 2);
    assert.notEqual(await value(), moved, `slider ${i} by mouse`);
    assert.notEqual(await words(), written);
    assert.equal(await slider.getAttribute("aria-valuetext"), await words());
  }
  const schedule = panel("A").locator(".schedule");
  for (const name of ["Order", "Law of the schedule"]) {
    const menu = panel("A").getByLabel(name);
    const before = await schedule.getAttribute("aria-label");
    await menu.selectOption({ index: 1 });
    if (name !== "Order") assert.notEqual(await schedule.getAttribute("aria-label"), before);
  }
  const old = await pixelsOf("A");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("A");
  assert.notEqual(await pixelsOf("A"), old);
  await panel("A").getByRole("button", { name: /own settings/ }).click();
});

test("two settings are compared with one seed", { skip }, async () => {
  await page.getByLabel("Compare two settings").check();
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("B");
  assert.equal(await pixelsOf("A"), await pixelsOf("B"), "the same settings and seed");
  await panel("B").getByLabel("Law of the schedule").selectOption("linear");
  await panel("B").getByLabel("Order").selectOption("confidence");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("B");
  assert.notEqual(await pixelsOf("A"), await pixelsOf("B"), "other settings, the same seed");
  await shoot("compare");
  await axe(page, "two pictures");
  await page.getByLabel("Compare two settings").uncheck();
});

test("clicked tokens are redrawn, the others stay", { skip }, async () => {
  const before = await tokens("A");
  const cells = panel("A").getByRole("gridcell");
  const chosen = [18, 19, 20, 26, 27, 28];
  for (const place of chosen.slice(0, 4)) await cells.nth(place).click();
  await cells.nth(27).focus(); // then by keyboard
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press(" ");
  assert.match(await page.getByRole("status").innerText(), /6 of 64/);
  await shoot("inpainting");
  await page.getByLabel("Caption", { exact: true }).fill("a rose");
  await page.getByLabel("Seed", { exact: true }).fill("3");
  await panel("A").getByRole("button", { name: "Redraw hidden tokens" }).focus();
  await page.keyboard.press("Enter");
  await drawn("A");
  assert.equal(await panel("A").evaluate((one) => one.contains(document.activeElement)), true, "the focus is lost");
  const now = await tokens("A");
  const changed = now.flatMap((token, i) => (token === before[i] ? [] : [i]));
  assert.ok(changed.length > 0 && changed.every((place) => chosen.includes(place)), `${changed}`);
});

test("a token's attention to the caption", { skip }, async () => {
  await page.getByRole("radio", { name: /attention/ }).check();
  await panel("A").getByRole("gridcell").nth(19).click();
  const bars = panel("A").getByRole("list").getByRole("listitem");
  await bars.first().waitFor();
  const percent = (await bars.allInnerTexts()).map((text) => Number(text.match(/(\d+)%/)[1]));
  const sum = percent.reduce((a, b) => a + b, 0);
  assert.ok(Math.abs(sum - 100) <= percent.length, `${percent}`);
  await panel("A").getByLabel("Layer").selectOption("2");
  await panel("A").getByRole("slider", { name: "Step", exact: true }).focus();
  await page.keyboard.press("Home");
  await panel("A").getByText(/at step 1: most to/).waitFor();
  await page.keyboard.press("End");
  await panel("A").getByText(/at step 12: most to/).waitFor();
  await shoot("attention");
  await axe(page, "attention");
});

test("captions that the model cannot follow are pointed out", { skip }, async () => {
  await panel("A").getByRole("slider", { name: "Steps", exact: true }).fill("4"); // here and in the next two: quicker
  await page.getByLabel("Caption", { exact: true }).fill(`a Zebra 🦓 and ${"a cat and ".repeat(20)}a dog`);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("A");
  assert.match(await page.locator("#advice").innerText(), /“zebra”, “🦓”;.*too long.*32 pieces/);
  await page.getByText("Words that the model knows").click();
  assert.match(await page.locator("#words").innerText(), /ladybug.*purple/s);
});

test("the address repeats what was drawn, and is not sent to the server", { skip }, async () => {
  await page.getByLabel("Caption", { exact: true }).fill("a cat left of a dog");
  await page.getByLabel("Seed", { exact: true }).fill("7");
  await panel("A").getByLabel("Law of the schedule").selectOption("linear");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("A");
  assert.equal(await page.locator("#advice").innerText(), "");
  const [path, hash] = page.url().split("#");
  assert.equal(path, server.address);
  const before = await tokens("A");
  const other = await context.newPage();
  await other.goto(`${server.address}?caption=a+dog&steps=3#steps=many&guided_from=0.8&guided_to=0.2&seed=x`);
  assert.equal(await panel("A", other).getByRole("slider", { name: "Steps", exact: true }).inputValue(), "12");
  assert.equal(await panel("A", other).getByRole("slider", { name: "Guided to" }).inputValue(), "0.85");
  assert.equal(await other.getByLabel("Seed", { exact: true }).inputValue(), "0");
  await other.evaluate((hash) => (location.hash = hash), hash); // a link opened in the same tab
  await other.waitForFunction(() => document.querySelector("#seed").value === "7");
  await other.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("A", other);
  assert.deepEqual(await tokens("A", other), before);
  await other.close();
});

test("a second picture can be taken away while both are drawn", { skip }, async () => {
  await page.getByLabel("Compare two settings").check();
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByLabel("Compare two settings").uncheck();
  await drawn("A");
  await panel("A").getByRole("button", { name: /own settings/ }).click();
});

test("128 px, and the page reloads without network", { skip }, async () => {
  const { address } = server;
  await page.getByLabel("Size").selectOption("128");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("A");
  assert.equal(await panel("A").locator("canvas").evaluate((canvas) => canvas.width), 128);
  await shoot("128px");
  await page.evaluate(() => navigator.serviceWorker.ready);
  await server.close();
  server.address = address;
  await page.goto(`${address}?caption=a+green+car&size=128&seed=4&steps=6`);
  assert.equal(await page.getByLabel("Caption", { exact: true }).inputValue(), "a green car");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("A");
  assert.match(await panel("A").innerText(), /6 of 6/);
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  server = await serve();
  await context.close();
});

test("a phone of 360 px, dark", { skip }, async () => {
  const options = { viewport: { width: 360, height: 740 }, colorScheme: "dark", hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
  const { context, page } = await open(options);
  await page.getByRole("button", { name: "three red apples" }).tap();
  await drawn("A", page);
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 360);
  const box = await panel("A", page).locator("canvas").boundingBox();
  assert.ok(box.y >= 0 && box.y + box.height <= 740, "the picture is in sight");
  for (const view of ["tokens", "confidence"]) {
    await page.getByRole("radio", { name: view, exact: true }).check();
    await axe(page, `a phone, ${view}`);
    await shoot(`phone-dark-${view}`, page);
  }
  await context.close();
});

test("an iframe with settings of its own", { skip }, async () => {
  const query = "embed=1&caption=two+frogs&steps=5&order=confidence&law=cosine&guidance=2&view=tokens&compare=1&b.steps=3";
  const { context, page } = await open({}, `${server.address}?${query}`);
  assert.equal(await page.getByRole("heading", { level: 1 }).count(), 0);
  assert.equal(await page.getByRole("group", { name: "Examples of captions" }).count(), 0);
  assert.equal(await page.getByRole("radio", { name: "tokens", exact: true }).isChecked(), true);
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await drawn("B", page);
  assert.match(await panel("A", page).innerText(), /5 of 5/);
  assert.match(await panel("B", page).innerText(), /3 of 3/);
  await shoot("embedded", page);
  await context.close();
});

test("what fails says so, and Draw tries again", { skip }, async () => {
  const { context, page } = await open({ serviceWorkers: "block" });
  page.expectsErrors = true; // the browser's own word on a download that failed
  const alert = page.getByRole("alert");
  const prefix = (code) => async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: code((await response.text())) });
  };
  const before = (code) => prefix((text) => code + text);
  const faults = [
    [/could not be loaded/, "**/worker.js", (route) => route.abort()],
    [/updated while it was open/, "**/worker.js", before("Object.defineProperty(self, 'name', { value: 'older' });")],
    [/no WebAssembly SIMD/, "**/worker.js", before("WebAssembly.validate = () => false;")],
    [/too little memory/, "**/worker.js", before("Blob = class { constructor() { throw new RangeError('Array buffer allocation failed'); } };")],
    [/server answered 404/, "**/text.mm.gz*", (route) => route.fulfill({ status: 404 })],
    [/arrived in part/, "**/text.mm.gz*", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: (await response.body()).subarray(0, 100_000) });
    }],
    [/could not be run.*reload/, "**/ort.mjs", (route) => route.abort()], // last: from here on the browser keeps text.mm.gz
  ];
  for (const [expected, file, fault] of faults) {
    await page.route(file, fault);
    await page.getByRole("button", { name: "Draw", exact: true }).click();
    await alert.filter({ hasText: expected }).waitFor();
    assert.equal(await page.getByRole("button", { name: "Stop" }).count(), 0);
    await page.unroute(file);
  }
  await page.route("**/base.mm.gz*", () => {}); // never arrives
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByRole("button", { name: "Stop" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("status").filter({ hasText: "Stopped" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "draw");
  await page.unroute("**/base.mm.gz*");
  await page.keyboard.press("Enter");
  await drawn("A", page);
  assert.equal(await alert.count(), 0);
  const elsewhere = "https://example.org/";
  assert.equal(await page.evaluate((url) => fetch(url).then(() => "sent", () => "refused"), elsewhere), "refused");
  await context.close();
});

test("where the system chooses the colours, bars and shades stay", { skip }, async () => {
  const { context, page } = await open({ forcedColors: "active", colorScheme: "dark" });
  const colours = await page.evaluate(() => {
    const list = document.querySelector(".bars");
    list.closest("[hidden]").hidden = false;
    list.innerHTML = "<li><i></i></li>";
    const cell = document.querySelector(".cell");
    cell.style.background = "rgb(1, 2, 3)";
    return [document.body, list.querySelector("i"), cell].map((one) => getComputedStyle(one).backgroundColor);
  });
  assert.notEqual(colours[1], colours[0]);
  assert.equal(colours[2], "rgb(1, 2, 3)");
  await context.close();
});

test("the console stayed silent, and nothing was asked of other hosts", { skip }, () => {
  assert.deepEqual(wrong, []);
});
