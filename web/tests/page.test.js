// What the page does without a browser and without models: addresses, and advice about captions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { addressOf, numberOf, readAddress } from "../src/link.js";
import { adviceFor, unknownWords } from "../src/words.js";

const known = new Set(["a", "cat", "two", "wheeler", "six-string", "and"]);

test("words are compared as the tokenizer reads them", () => {
  assert.deepEqual(unknownWords("A Cát, and a two-wheeler; a six-string.", known), []);
  assert.deepEqual(unknownWords("a zebra and a Zebra, 7 🐱 and 猫", known), ["zebra", "7", "🐱", "猫"]);
});

test("advice names what the model cannot follow, and is silent otherwise", () => {
  assert.equal(adviceFor("a cat", known, 0, 32), "");
  assert.match(adviceFor("a zebra", known, 0, 32), /“zebra”/);
  assert.match(adviceFor("b c d e f g h", known, 0, 32), /“f” and 2 more/);
  assert.match(adviceFor("a cat", known, 9, 32), /32 pieces.* 9/);
  assert.match(adviceFor(" ", known, 0, 32), /[Ww]ithout a caption/);
  assert.equal(adviceFor("a zebra", null, 0, 32), "", "of other checkpoints no words are known");
});

test("an address repeats its settings, and only those after # count where there are any", () => {
  const values = { caption: "50% & a #1 cat?", seed: 3, size: undefined, "b.law": "square root" };
  const address = new URL(addressOf({ origin: "https://x.org", pathname: "/p/" }, values));
  assert.equal(address.search, "");
  const params = readAddress({ search: "?seed=9&steps=4", hash: address.hash });
  assert.deepEqual([...params].sort(), [["b.law", "square root"], ["caption", values.caption], ["seed", "3"]]);
  assert.equal(readAddress({ search: "?seed=9&steps=4", hash: "" }).get("steps"), "4");
});

test("what is not a number is as if it were missing", () => {
  const params = new URLSearchParams("a=1.5&b=many&c=&d=Infinity&e=0");
  assert.deepEqual(["a", "b", "c", "d", "e", "f"].map((name) => numberOf(params, name, 12)), [1.5, 12, 12, 12, 0, 12]);
});
