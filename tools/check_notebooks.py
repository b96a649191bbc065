"""Check the form of the chapters: `python tools/check_notebooks.py`, or `... notebooks/05_masked_transformer.ipynb`.

This only reads them; `make test` runs them. Each problem is one line that names the notebook, the cell and the rule.
A number in the text must be in an output or in the code of the chapter, up to rounding, or in numbers.toml.
"""

import argparse
import json
import math
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
MEGABYTE = 1_000_000
CARD = ("Goal", "Prerequisites", "Time to read", "Time to run", "Network", "Paper")
SECTIONS = ("Setup", "Where we are", "Predict first", "Paper check", "Check yourself", "Key takeaways", "If it failed")
GLOSSARY = "../docs/glossary.md"
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({target})"


class Chapter(NamedTuple):
    """A notebook, and what most rules look at."""

    path: Path
    notebook: nbformat.NotebookNode
    prose: str  # all Markdown, without its code blocks
    names: tuple[str, ...]  # files of all chapters, in order

    def cells(self, kind: str) -> list[nbformat.NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == kind]

    def outputs(self) -> Iterator[tuple[str, nbformat.NotebookNode]]:
        """The id of the cell, and the output, of all outputs."""
        for cell in self.notebook.cells:
            for output in cell.get("outputs", []):
                yield cell.id, output


def number(path: Path) -> str:
    """The number of a chapter, which its file name begins with: 05, or 01a for one between 01 and 02."""
    return path.stem.partition("_")[0]


def chapter(path: Path, folder: Path = FOLDER) -> Chapter:
    notebook = nbformat.read(path, as_version=4)
    markdown = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    names = tuple(sorted(other.name for other in folder.glob("*.ipynb")))
    return Chapter(path, notebook, re.sub(r"```.*?```", "", markdown, flags=re.DOTALL), names)


# --- the rules: each yields its problems --------------------------------------------------------------------------


def valid_and_small(this: Chapter) -> Iterator[str]:
    cells = this.notebook.cells
    try:
        nbformat.validate(this.notebook)
    except nbformat.ValidationError as error:
        yield f"is not a valid notebook: {error.message}"
    # From the file itself: nbformat repairs ids while it reads.
    ids = [cell.get("id") for cell in json.loads(this.path.read_text(encoding="utf-8"))["cells"]]
    for name in sorted({str(name) for name in ids if ids.count(name) > 1}):
        yield f"{name} is the id of two cells; give one of them another"
    if (size := this.path.stat().st_size) >= MEGABYTE:
        yield f"has {size} bytes; the limit is {MEGABYTE}"
    if len(cells) >= 60:
        yield f"has {len(cells)} cells; the limit is 59"
    if (words := len(this.prose.split())) >= 4000:
        yield f"has {words} words; the limit is 3999"
    if "widgets" in this.notebook.metadata:
        yield "holds the saved state of widgets; run it with tools/run_notebooks.py, which drops that"


def headings(this: Chapter) -> Iterator[str]:
    levels = [(len(hashes), words) for hashes, words in re.findall(r"^(#+) (.+)", this.prose, re.MULTILINE)]
    if [level for level, _ in levels].count(1) != 1 or levels[0][0] != 1:
        yield "must have one title (# ...), and it must come first"
        return
    if not levels[0][1].startswith(f"{number(this.path)} · "):
        yield f"has the title {levels[0][1]!r}, which must begin with '{number(this.path)} · '"
    for (before, _), (after, words) in zip(levels, levels[1:]):
        if after > before + 1:
            yield f"has the heading {words!r}, which skips a level"


def short_code_cells(this: Chapter) -> Iterator[str]:
    lengths = sorted(len(cell.source.splitlines()) for cell in this.cells("code"))
    for cell in this.cells("code"):
        if (length := len(cell.source.splitlines())) > 40:
            yield f"{cell.id} has {length} lines of code; the limit is 40"
    if lengths and (median := lengths[len(lengths) // 2]) > 10:
        yield f"has code cells of {median} lines in the median; the limit is 10"


def executed_in_order(this: Chapter) -> Iterator[str]:
    for expected, cell in enumerate(this.cells("code"), 1):
        if cell.execution_count != expected:
            yield (
                f"{cell.id} has the execution count {cell.execution_count}, not {expected}: run the whole notebook "
                f"with `python tools/run_notebooks.py {this.path.stem}`"
            )
            break
    for name, output in this.outputs():
        if output.output_type == "error":
            yield f"{name} failed: {output.get('ename')}"
        if output.get("name") == "stderr":
            yield f"{name} wrote to stderr: {output.text[:200]!r}"


def compared_outputs(this: Chapter) -> Iterator[str]:
    marked = [cell for cell in this.cells("code") if "# NBVAL_CHECK_OUTPUT" in cell.source]
    if not marked:
        yield "has no cell with # NBVAL_CHECK_OUTPUT: mark those whose output must not change"
    for cell in marked:
        if not cell.outputs:
            yield f"{cell.id} is marked with # NBVAL_CHECK_OUTPUT and has no output"


def alternative_text(this: Chapter) -> Iterator[str]:
    pages = [(cell.id, cell.source) for cell in this.cells("markdown")]
    for name, output in this.outputs():
        data = output.get("data", {})
        bare = [kind for kind in data if kind.startswith("image/") and "text/html" not in data]
        if bare:
            yield f"{name} shows a bare {bare[0]}; use display.with_alt"
        pages.append((name, data.get("text/html", "")))
    for name, page in pages:
        empty = [alt for alt in re.findall(r"!\[(.*?)\]\(", page) if not alt.strip()]
        tags = [tag for tag in re.findall(r"<img\b[^>]*>", page) if not re.search(r'alt="[^"]*\w[^"]*"', tag)]
        if empty or tags:
            yield f"{name} has an image without alternative text"


def links(this: Chapter) -> Iterator[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", this.prose) + re.findall(r'(?:href|src)="([^"]+)"', this.prose)
    for link in found:
        if not re.match(r"[a-z]+:|#", link) and not (FOLDER / link.split("#")[0]).exists():
            yield f"links to {link}, which does not exist"


def exercises(this: Chapter) -> Iterator[str]:
    """Each chapter links to its exercises; those of the primer, 01a, are number 00, and chapter 00 has none."""
    number = {"00": "none", "01a": "00"}.get(number := this.path.name.partition("_")[0], number)
    for path in FOLDER.glob(f"../exercises/release/ex{number}_*/*.ipynb"):
        if (link := path.relative_to(FOLDER).as_posix()) not in this.prose:
            yield f"must link to its exercises: {link}"


def nothing_of_this_machine(this: Chapter) -> Iterator[str]:
    folders = "|".join(["home", "root", "tmp", "Users"])
    for name, output in this.outputs():
        text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        if found := re.search(rf"(/({folders})/|\b[A-Z]:\\|{re.escape(str(ROOT))})\S*", text):
            yield f"{name} shows a path of this machine: {found[0]}"


def badge_and_bootstrap(this: Chapter) -> Iterator[str]:
    address = project_address().replace("https://github.com/", "https://colab.research.google.com/github/")
    badge = BADGE.format(target=f"{address}/blob/main/notebooks/{this.path.name}")
    if this.notebook.cells[0].source.split("\n", 1)[0] != badge:
        yield f"must begin with its Colab badge: {badge}"
    found = [cell for cell in this.notebook.cells if cell.id == "bootstrap"]
    if len(found) != 1 or found[0].cell_type != "code" or "bootstrap" not in found[0].metadata.get("tags", []):
        yield "must have one code cell with the id and the tag 'bootstrap', as chapter 00 has"
    elif found[0].source != bootstrap():
        yield f"{found[0].id} is not the same as in chapter 00; copy that cell"
    if re.search(r"\bRUNTIME\b", this.prose):
        yield "has the word RUNTIME: put the measured time in the card"


def anatomy(this: Chapter) -> Iterator[str]:
    """The card, objectives, and the sections of every chapter, in order; a break on purpose before the paper."""
    card = re.findall(r"^\| ([A-Z][a-z]+(?: to \w+)?) \| \S", this.prose, re.MULTILINE)
    if [row for row in card if row in CARD] != list(CARD):
        yield f"must have a card with the rows {', '.join(CARD)}, in this order"
    if not re.search(r"^\| Time to read \| \d+ minutes \|$", this.prose, re.MULTILINE):
        yield "must give 'Time to read' in its card as a number of minutes"
    objectives = re.search(r"^After this chapter you can\n\n((?:- .+\n(?:  .+\n)*)+)", this.prose, re.MULTILINE)
    if not objectives or not 3 <= objectives[1].count("\n- ") + 1 <= 6:
        yield "must list three to six objectives under 'After this chapter you can'"
    titles = re.findall(r"^## (.+)$", this.prose, re.MULTILINE)
    if [title for title in titles if title in SECTIONS] != list(SECTIONS):
        yield f"must have the sections {', '.join(SECTIONS)}, in this order"
    elif "Break it on purpose" not in titles[: titles.index("Paper check")]:
        yield "must have the section 'Break it on purpose' before 'Paper check'"


def folded_answers(this: Chapter) -> Iterator[str]:
    counts = {tag: this.prose.count(tag) for tag in ("<details>", "</details>", "<summary>")}
    if len(set(counts.values())) != 1 or counts["<summary>"] < 4:
        yield f"must fold at least four answers, each in <details> with one <summary>; it has {counts}"
    if "<summary>Answer</summary>" not in this.prose:
        yield "must have an answer under <summary>Answer</summary>"


def compared_with_the_library(this: Chapter) -> Iterator[str]:
    """A cell of the chapter asserts that what it derived equals the library's function."""
    code = [cell.source for cell in this.cells("code")]
    pattern = r"^from minimuse(?:\.\w+)* import (.+)$|^import minimuse as (\w+)$"
    imported = re.findall(pattern, "\n".join(code), re.MULTILINE)
    library = {name for found in imported for name in re.findall(r"\w+", " ".join(found))} | {"muse"}
    cells = [source for source in code if re.search(r"^\s*assert ", source, re.MULTILINE)]
    if not any(library & set(re.findall(r"\b\w+(?=[.(])", source)) for source in cells):
        yield "must assert in some cell that what it derived equals the library's function"


def neighbours(this: Chapter) -> Iterator[str]:
    """The last cell links to the chapters before and after."""
    last, number = this.notebook.cells[-1], this.names.index(this.path.name)
    found = dict(re.findall(r"\*\*(Previous|Next)\*\*: (?:\[[^]]*\]\()?([^)\n]*)", last.source))
    before, after = (this.names[i] if 0 <= i < len(this.names) else "" for i in (number - 1, number + 1))
    if before and not found.get("Previous", "").startswith(before) or not before and "Previous" in found:
        yield f"{last.id} must have {f'**Previous**: with a link to {before}' if before else 'no **Previous**'}"
    if not found.get("Next", "").startswith(after or "chapter"):
        yield f"{last.id} must have **Next**: with {f'a link to {after}' if after else 'the chapter that is planned'}"


# --- numbers in the text ------------------------------------------------------------------------------------------

# What is claimed: decimals, percentages, whole numbers with a unit. What is known: all numbers in code and outputs.
UNITS = "dB|ms|s|minutes|MB|GB|nats|bits"
CLAIM = re.compile(rf"(?<![\w.,/-])(\d[\d,]*\.\d+|\d[\d,]*(?= ?%| (?:{UNITS})\b))( ?%)?")
KNOWN = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
# In the same sentence or row: a source, arithmetic by hand, or a length of time to work.
EXCUSED = re.compile(
    r"\b(papers?|arXiv|tables?|sections?|equation \d|figure \d|published|MaskGIT|T5-XXL|Time to read)\b"
    r"|[=·⌊√]|\(\d+ minutes\)",
    re.IGNORECASE,
)


def numbers_in(text: str) -> set[float]:
    return {float(found.replace(",", "")) for found in KNOWN.findall(text)}


def unexplained_numbers(this: Chapter) -> Iterator[tuple[str, str]]:
    """Numbers in the text that no output and no code of the chapter shows, up to rounding.

    Questions under 'Check yourself' are made up, so they are not read.
    """
    known: set[float] = set()
    for cell in this.cells("code"):
        known |= numbers_in(cell.source)
    for _, output in this.outputs():
        data = output.get("data", {})
        pages = (output.get("text", ""), data.get("text/plain", ""), data.get("text/html", ""))
        known |= numbers_in(re.sub(r"base64,[^\"]*", "", " ".join(pages)))
    for cell in this.cells("markdown"):
        text = re.sub(r"(?m)^## Check yourself$.*?(?=^## |\Z)", "", cell.source, flags=re.DOTALL)
        text = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "", text, flags=re.DOTALL)
        # The sentences, and the rows of tables as a whole.
        for sentence in re.split(r"(?m)(?:(?<=[.!?:;])\s+|\n\s*\n|\n(?=\s*[-*|]))(?![^|\n]+\|)", text):
            for found in () if EXCUSED.search(sentence) else CLAIM.finditer(sentence):
                claimed = float(found[1].replace(",", ""))
                half = 0.5001 * 10.0 ** -len(found[1].partition(".")[2])
                scales = (1, 100) if found[2] else (1,)
                if not any(abs(scale * number - claimed) <= half for number in known for scale in scales):
                    yield found[0], f"{cell.id} has {found[0]}: {' '.join(sentence.split())[:100]}"


def holds(number: str, source: str) -> bool:
    """Whether a number of the text agrees with its source in numbers.toml."""
    value = float(number.rstrip(" %").replace(",", ""))
    half = 0.5001 * 10.0 ** -len(number.rstrip(" %").partition(".")[2])
    if re.fullmatch(r"\w+(/[\w.]+)+", source):
        known = numbers_in((ROOT / source).read_text(encoding="utf-8"))
    else:
        try:
            known = {float(eval(source, {"__builtins__": {}}, vars(math)))}
        except (SyntaxError, NameError):
            return True  # words
    return any(abs(scale * one - value) <= half for one in known for scale in ((1, 100) if "%" in number else (1,)))


def numbers(this: Chapter) -> Iterator[str]:
    """A number in the text is in an output or in the code, or numbers.toml says where it comes from."""
    listed = tomllib.loads((ROOT / "tools" / "numbers.toml").read_text(encoding="utf-8")).get(this.path.name, {})
    there = [*unexplained_numbers(this)]
    yield from (f"{where}; no output shows it" for number, where in there if number not in listed)
    for number, source in listed.items():
        if number not in {number for number, _ in there}:
            yield f"numbers.toml has {number}, which the text does not need"
        elif not holds(number, source):
            yield f"numbers.toml has {number}, which is not {source}"


def glossary(this: Chapter) -> Iterator[str]:
    """The card and the last line link to the page of terms and symbols."""
    for cell, where in ((this.notebook.cells[0], "card"), (this.notebook.cells[-1], "last line")):
        if f"({GLOSSARY})" not in cell.source:
            yield f"{cell.id} must link to {GLOSSARY} in its {where}"


RULES: tuple[Callable[[Chapter], Iterator[str]], ...] = (
    *(
        valid_and_small,
        headings,
        short_code_cells,
        executed_in_order,
        compared_outputs,
        alternative_text,
        links,
        exercises,
    ),
    *(
        nothing_of_this_machine,
        badge_and_bootstrap,
        anatomy,
        folded_answers,
        compared_with_the_library,
        neighbours,
        numbers,
        glossary,
    ),
)


def project_address() -> str:
    """The repository's address, as pyproject.toml has it."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def bootstrap() -> str:
    """The source of chapter 00's first code cell, which all notebooks share."""
    first = nbformat.read(min(FOLDER.glob("00_*.ipynb")), as_version=4)
    return next(cell.source for cell in first.cells if cell.id == "bootstrap")


def problems(this: Chapter) -> list[str]:
    """All problems of a chapter, one line each."""
    return [f"{this.path.name}: {problem}" for rule in RULES for problem in rule(this)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks; without any, all chapters")
    paths = parser.parse_args().paths or sorted(FOLDER.glob("*.ipynb"))
    if not paths:
        sys.exit("There are no notebooks in notebooks/.")
    found = [problem for path in paths for problem in problems(chapter(path))]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(paths)} notebooks: their form is right.")


if __name__ == "__main__":
    main()
