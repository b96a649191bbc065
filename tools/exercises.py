"""Build what students and teachers open from exercises/source: `python tools/exercises.py`; `--check` only compares.

    exercises/source/exNN_name/exNN.ipynb      what is edited; runs as its own solution
    exercises/release/exNN_name/exNN.ipynb     stubs in place of solutions, no hidden tests
    exercises/solutions/exNN_name/exNN.ipynb   run, with outputs

nbgrader's own converters build them (the extra `teach`). Before that the sources are tidied: nbgrader's metadata follow
from the comments in the cells (BEGIN SOLUTION, BEGIN HIDDEN TESTS) and from the checks in minimuse/teach/checks.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from minimuse.files import write_text
from minimuse.teach.checking import exercises, find, notebooks

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "exercises"
MADE = ("release", "solutions")


def text_of(cell: dict) -> str:
    return "".join(cell["source"])


def captured(pattern: str, text: str) -> str:
    """What the group of a pattern matches in a cell, which must contain it."""
    if (found := re.search(pattern, text, re.MULTILINE)) is None:
        sys.exit(f"A cell must contain {pattern!r}; this one does not:\n{text}")
    return found[1]


def tidy(text: str) -> str:
    """A source notebook in its final form: ids in order, nbgrader's metadata, no outputs."""
    notebook = json.loads(text)
    for number, cell in enumerate(notebook["cells"]):
        if cell.get("id") != "bootstrap":
            cell["id"] = f"cell-{number:02d}"
        if cell["cell_type"] != "code":
            continue
        cell.update(outputs=[], execution_count=None)
        cell["metadata"].pop("nbgrader", None)
        cell["metadata"].pop("execution", None)
        if marks := nbgrader_metadata(cell):
            cell["metadata"]["nbgrader"] = marks
    notebook["metadata"] = dict(
        kernelspec=dict(display_name="Python 3", language="python", name="python3"),
        language_info=dict(name="python"),
    )
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def nbgrader_metadata(cell: dict) -> dict:
    """What nbgrader has to know about a code cell: whether it is an answer, whether it gives marks and how many, and
    whether nbgrader restores it before marking, as it does with the two cells of imports."""
    about, source = dict(grade=False, locked=False, schema_version=3, solution=False, task=False), text_of(cell)
    if cell["id"] == "bootstrap" or re.search(r"^from minimuse.teach import .*check", source, re.MULTILINE):
        return about | dict(grade_id="bootstrap" if cell["id"] == "bootstrap" else "imports", locked=True)
    if "# BEGIN SOLUTION" in source:
        return about | dict(grade_id=captured(r"^def (\w+)\(", source), solution=True)
    if "# BEGIN HIDDEN TESTS" in source:
        name = captured(r'grade\("(ex\d\d\.\w+)"', source)
        marks = dict(grade_id=f"{name.partition('.')[2]}_marks", grade=True, locked=True, points=find(name).points)
        return about | marks
    return {}


def nbgrader(course: Path, *arguments: str) -> None:
    """Run nbgrader in a course folder. It starts `alembic` by name, so this environment's programs come first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = os.environ | dict(PATH=path, JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments], cwd=course, env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"nbgrader {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def make(names: list[str], course: Path) -> None:
    """Convert the sources of these notebooks in a course folder of their own."""
    shutil.copytree(FOLDER / "source", course / "source", dirs_exist_ok=True)
    shutil.copy(FOLDER / "nbgrader_config.py", course)
    for name in names:
        print(name, flush=True)
        nbgrader(course, "generate_assignment", name, "--create", "--force")
        nbgrader(course, "generate_solution", name, "--force")
    for path in (course / "solutions").glob("*/*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["metadata"].pop("execution", None)  # times, which differ in every run
        notebook["metadata"]["language_info"] = dict(name="python")
        write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def readme() -> str:
    """exercises/README.md with its list of exercises up to date."""
    sys.path.insert(0, str(ROOT))
    rows = ["| notebook | exercise | marks | common mistakes |", "|---|---|---|---|"]
    total = 0
    for notebook in notebooks():
        (path,) = FOLDER.glob(f"source/{notebook}_*/{notebook}.ipynb")
        wrong = importlib.import_module(f"tests.wrong_answers.{notebook}").WRONG
        first = text_of(json.loads(path.read_text(encoding="utf-8"))["cells"][0])
        title = captured(r"^# Exercises \d\d · (.+)$", first)
        opened = f"[{notebook[2:]} {title}](release/{path.parent.name}/{path.name})"
        for name, exercise in exercises(notebook).items():
            mistakes = "; ".join(mistake for mistake in wrong[name] if len(mistake) > 1) or "the other letters"
            rows.append(f"| {opened} | `{name}` | {exercise.points} | {mistakes} |")
            total += exercise.points
            opened = ""
    rows.append(f"| **all** | | **{total}** | |")
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    before, begin, rest = page.partition("<!-- exercises -->\n")
    _, end, after = rest.partition("<!-- /exercises -->")
    if not (begin and end):
        sys.exit(
            "exercises/README.md has no lines <!-- exercises --> and <!-- /exercises -->; put them around its list."
        )
    return before + begin + "\n".join(rows) + "\n" + end + after


def shown(path: Path) -> list:
    """What must not differ in a notebook: its cells, and what they print. Not pictures, which every version of
    matplotlib draws a little differently; not what the bootstrap cell prints about the machine; and not nbgrader's
    checksums, which follow from the cells and change with the address of a fork."""
    cells = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        # As one text: how it is cut into messages depends on how busy the machine is.
        printed = "".join("".join(output.get("text", "")) for output in cell.get("outputs", []))
        about = {key: value for key, value in cell["metadata"].get("nbgrader", {}).items() if key != "checksum"}
        cells.append((text_of(cell), about, printed if cell["id"] != "bootstrap" else None))
    return cells


def differing_files(course: Path) -> dict[Path, Path]:
    """Notebooks of the repository that differ from those built in a course folder, and the latter."""
    made = sorted(path for part in MADE for path in (course / part).glob("*/*.ipynb"))
    pairs = {FOLDER / new.relative_to(course): new for new in made}
    return {old: new for old, new in pairs.items() if not old.is_file() or shown(old) != shown(new)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="folders in exercises/source (default: all)")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if something differs")
    options = parser.parse_args()
    sources = sorted(FOLDER.glob("source/*/*.ipynb"))
    names = options.names or [path.parent.name for path in sources]
    differing = []
    for path in (path for path in sources if path.parent.name in names):
        text, wanted = path.read_text(encoding="utf-8"), tidy(path.read_text(encoding="utf-8"))
        if text != wanted:
            differing.append(path)
            if not options.check:
                write_text(path, wanted)
    if (page := readme()) != (FOLDER / "README.md").read_text(encoding="utf-8"):
        differing.append(FOLDER / "README.md")
        if not options.check:
            write_text(FOLDER / "README.md", page)
    with tempfile.TemporaryDirectory() as folder:
        make(names, Path(folder))
        for old, new in differing_files(Path(folder)).items():
            differing.append(old)
            if not options.check:
                old.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(new, old)
    listed = ", ".join(str(path.relative_to(ROOT)) for path in differing)
    if options.check and differing:
        sys.exit(f"Not up to date: {listed}. Run `python tools/exercises.py`.")
    print(f"Wrote {listed}." if differing else "All exercises are up to date.")


if __name__ == "__main__":
    main()
