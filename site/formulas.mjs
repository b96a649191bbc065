// Formulas as HTML with MathML beside it: a line of JSON for each line of JSON. The TeX that KaTeX notes inside the MathML
// is left out: it would stand as text in what the search shows.
import { createInterface } from "node:readline";
import katex from "katex";

for await (const line of createInterface({ input: process.stdin })) {
  const { tex, display } = JSON.parse(line);
  let answer;
  try {
    const html = katex.renderToString(tex, { displayMode: display });
    answer = { html: html.replace(/<annotation.*?<\/annotation>/s, "") };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
