// What the model can draw: the words of the captions that it was trained with, and those of a caption that are not
// among them.

const WORD = /[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*|\p{Extended_Pictographic}/gu;

/** The words of a caption, as the tokenizer reads it: lower case, without accents. */
const wordsOf = (caption) => caption.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().match(WORD) ?? [];

/** The words of a caption that are not in `known`, a Set; a compound is known if its parts are. */
export function unknownWords(caption, known) {
  const isKnown = (word) => known.has(word) || word.split(/['’-]/).every((part) => known.has(part));
  return [...new Set(wordsOf(caption))].filter((word) => !isKnown(word));
}

/** A sentence about what of a caption the model cannot follow: unknown words, and pieces beyond its length; or "". */
export function adviceFor(caption, known, dropped, length) {
  const found = [];
  const unknown = known ? unknownWords(caption, known) : [];
  if (unknown.length) {
    const shown = unknown.slice(0, 5).map((word) => `“${word}”`).join(", ") + (unknown.length > 5 ? ` and ${unknown.length - 5} more` : "");
    found.push(`The model was not trained with ${shown}; the words that it knows are listed below the caption.`);
  }
  if (dropped) found.push(`The caption is too long: the model reads ${length} pieces, and ignores the last ${dropped}.`);
  if (!caption.trim()) found.push("Without a caption the model draws any scene.");
  return found.join(" ");
}
