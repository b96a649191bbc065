// The playground in headless Firefox, where it is installed ($FIREFOX, or its usual names on the path): one picture, and
// nothing on the console. Firefox is driven over WebDriver BiDi, which it has built in; `node --experimental-websocket`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { serve } from "./serve.js";

const PATIENCE = 180_000; // milliseconds for start, models and picture on a busy machine

function findFirefox() {
  if (process.env.FIREFOX) return process.env.FIREFOX;
  const folders = (process.env.PATH ?? "").split(delimiter);
  return ["firefox", "firefox-esr"].flatMap((name) => folders.map((folder) => join(folder, name))).find(existsSync);
}

/** A tab of a new Firefox: { send(method, params), evaluate(expression), wrong, close }; `wrong` collects errors. */
async function openFirefox() {
  const profile = mkdtempSync(join(tmpdir(), "firefox-"));
  const firefox = spawn(findFirefox(), ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]);
  const address = await new Promise((resolve, reject) => {
    let said = "";
    firefox.stderr.on("data", (text) => {
      said += text;
      const found = said.match(/WebDriver BiDi listening on (\S+)/);
      if (found) resolve(found[1]);
    });
    firefox.on("exit", () => reject(new Error(`Firefox did not start: ${said}`)));
  });
  const socket = new WebSocket(`${address}/session`);
  await once(socket, "open");
  const [waiting, wrong] = [new Map(), []];
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.method === "log.entryAdded" && message.params.level === "error") wrong.push(message.params.text);
    const answer = waiting.get(message.id);
    if (message.type === "error") answer?.reject(new Error(message.message));
    else answer?.resolve(message.result);
  };
  let number = 0;
  const send = (method, params) =>
    new Promise((resolve, reject) => {
      waiting.set(++number, { resolve, reject });
      socket.send(JSON.stringify({ id: number, method, params }));
    });
  await send("session.new", { capabilities: {} });
  await send("session.subscribe", { events: ["log.entryAdded"] });
  const { contexts } = await send("browsingContext.getTree", {});
  const { context } = contexts[0];
  const evaluate = async (expression) => {
    const answer = await send("script.evaluate", { expression, target: { context }, awaitPromise: true });
    if (answer.type === "exception") throw new Error(answer.exceptionDetails.text);
    return answer.result.value;
  };
  const close = async () => {
    socket.close();
    firefox.kill();
    await once(firefox, "exit");
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  return { goto: (url) => send("browsingContext.navigate", { context, url, wait: "complete" }), evaluate, wrong, close };
}

const skip = findFirefox() ? typeof WebSocket === "undefined" && "Node has no WebSocket" : "Firefox is not installed";
test("Firefox draws a picture", { skip, timeout: PATIENCE }, async () => {
  const server = await serve();
  const firefox = await openFirefox();
  try {
    await firefox.goto(`${server.address}#caption=a+cat+on+a+blue+background&steps=4&draw=1`);
    const words = await firefox.evaluate(`new Promise((resolve) => {
      const look = () => {
        const words = document.querySelector("#status").textContent;
        if (/is drawn/.test(words) || !document.querySelector("#error").hidden) resolve(words + document.querySelector("#error").textContent);
        else setTimeout(look, 100);
      };
      look();
    })`);
    assert.match(words, /Picture A is drawn/);
    const hidden = await firefox.evaluate(`document.querySelectorAll(".cell.covered").length`);
    const colours = await firefox.evaluate(`(() => {
      const own = document.querySelector("canvas");
      return new Set(new Uint32Array(own.getContext("2d").getImageData(0, 0, own.width, own.height).data.buffer)).size;
    })()`);
    assert.equal(hidden, 0);
    assert.ok(colours > 100, `${colours} colours`);
    assert.deepEqual(firefox.wrong, []);
  } finally {
    await firefox.close();
    await server.close();
  }
});
