"""Check the English of the repository by the rules in tools/prose.toml: `python tools/check_prose.py [PATH ...]`.

It reads Markdown, notebooks (text and comments), Python (comments, docstrings and messages) and the Makefile.
tools/prose_allowed.json counts what older text still has; `--shorten` lowers these counts, and nothing raises them.
Sentences of more than 45 words are only listed.
"""

import argparse
import ast
import io
import json
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = ROOT / "tools" / "prose_allowed.json"
RULES = tomllib.loads((ROOT / "tools" / "prose.toml").read_text(encoding="utf-8"))["rule"]
FOLDERS = ("benchmarks", "data", "docs", "exercises", "experiments", "minimuse", "tests", "tools")
FILES = ["*.md", "*.yml", "*.toml", "*.cff", "Makefile", ".ci/run", ".github/**/*.yml"]
FILES += ["notebooks/*.ipynb", "exercises/source/*/*.ipynb", "site/*.md", "site/*.py", "web/*.md", "web/*.py"]
FILES += [f"{folder}/**/*.{kind}" for folder in FOLDERS for kind in ("md", "py")]
SKIPPED = ("data/LICENSE", "tests/test_tools.py")  # texts of others; what tries the rules
CODE = re.compile(r"```.*?```|`[^`\n]*`|<!--.*?-->|(?<=\])\([^)\s]*\)|\$[^$\n]+\$|https?://\S+", re.DOTALL)
LONGEST = 45

Piece = tuple[str | int, str]  # the id of the cell, or the line where it begins; the text


def found_by(rule: dict, text: str) -> list[re.Match]:
    """What a rule finds in a text."""
    matches = lambda key: list(re.finditer(rule[key].replace(" ", r"\s+"), text, re.IGNORECASE)) if key in rule else []
    excused = [found.span() for found in matches("except")]
    return [m for m in matches("pattern") if not any(begin < m.end() and m.start() < end for begin, end in excused)]


def of_python(source: str) -> Iterator[Piece]:
    """Comments; docstrings and other strings of at least three words, with {} for the values in them."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    pieces_of_f_strings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            pieces_of_f_strings |= {id(value) for value in node.values}
            text = "".join(str(value.value) if isinstance(value, ast.Constant) else "{}" for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces_of_f_strings:
            text = node.value
        else:
            continue
        if len(text.split()) >= 3:
            yield node.lineno, text


def pieces(path: Path) -> Iterator[Piece]:
    """The prose of a file; CODE stands for the code in it."""
    text, found = (ROOT / path).read_text(encoding="utf-8"), []
    if path.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            source = "".join(cell["source"])
            plain = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)  # without IPython's own lines
            code = cell["cell_type"] == "code"
            found += [(cell["id"], text) for _, text in of_python(plain)] if code else [(cell["id"], source)]
    else:
        found = of_python(text) if path.suffix == ".py" else [(1, text)]
    for where, text in found:
        yield where, CODE.sub(lambda code: "\n" * code[0].count("\n") or "CODE", text)


def problems(path: Path) -> Iterator[tuple[str, str]]:
    """The name of the rule, and a line for the reader, for all that the rules find in a file."""
    for where, text in pieces(path):
        for rule in RULES:
            for found in found_by(rule, text):
                place = where if isinstance(where, str) else where + text.count("\n", 0, found.start())
                around = " ".join(text[max(found.start() - 40, 0) : found.end() + 30].split())
                yield rule["name"], f"{path}:{place}: {rule['name']}: '{around}'. Write {rule['instead']}."


def long_sentences(path: Path) -> Iterator[str]:
    """Sentences of more than LONGEST words; the items of lists and the cells of tables count one by one."""
    for where, text in pieces(path) if path.suffix in (".md", ".ipynb", ".py") else ():
        for sentence in re.split(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*(?:[-*|#]|\d+\.) |\n +\S+  +|\|", text):
            if len(words := sentence.split()) > LONGEST:
                yield f"{path}:{where}: a sentence of {len(words)} words: '{' '.join(words[:12])} ...'"


def our_files() -> list[Path]:
    """The files that the rules hold for."""
    found = {path.relative_to(ROOT) for pattern in FILES for path in ROOT.glob(pattern)}
    return sorted(path for path in found if not path.as_posix().startswith(SKIPPED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="list all in these files, also what is allowed")
    parser.add_argument("--shorten", action="store_true", help=f"lower the counts in {ALLOWED.name} to what is left")
    options = parser.parse_args()
    paths = [path.resolve().relative_to(ROOT) for path in options.paths] or our_files()
    allowed = json.loads(ALLOWED.read_text(encoding="utf-8"))
    lines, left, long = [], {}, [line for path in paths for line in long_sentences(path)]
    for path in paths:
        found, limits = list(problems(path)), allowed.get(path.as_posix(), {})
        counts = Counter(rule for rule, _ in found)
        left[path.as_posix()] = {rule: min(counts[rule], limits[rule]) for rule in limits if counts[rule]}
        lines += [line for rule, line in found if options.paths or counts[rule] > limits.get(rule, 0)]
    if options.shorten:
        kept = {name: counts for name, counts in sorted((allowed | left).items()) if counts and (ROOT / name).is_file()}
        ALLOWED.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    if lines:
        sys.exit("\n".join([*lines, *(long if options.paths else ())]))
    total = sum(sum(counts.values()) for counts in left.values())
    long.insert(
        0, f"{len(paths)} files: English by the rules; {total} exceptions are allowed, {len(long)} sentences are long."
    )
    print(*long, sep="\n")


if __name__ == "__main__":
    main()
