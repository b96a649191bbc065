// Sphinx's scores, with chapters first and names of the library after pages.
// eslint-disable-next-line no-unused-vars
var Scorer = {
  score: ([page, , , , score, , kind]) => score + (page.startsWith("notebooks/") ? 20 : 0) - (kind === "object" ? 20 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
