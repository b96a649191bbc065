"""The exercise notebooks as they are released: their form, and that they contain no solutions."""

import importlib
import json
import re
from pathlib import Path

import pytest

from minimuse.teach import checking

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path.stem: path for path in sorted(ROOT.glob("exercises/source/*/*.ipynb"))}


def opened(notebook: str, part: str) -> Path:
    return Path(str(SOURCES[notebook]).replace("source", part))


@pytest.mark.parametrize("notebook", SOURCES)
def test_released_notebooks_hold_no_solution(notebook):
    cells = {part: json.loads(opened(notebook, part).read_text())["cells"] for part in ("source", "release")}
    text = {part: "\n".join("".join(cell["source"]) for cell in cells[part]) for part in cells}
    assert "BEGIN" not in text["release"] and "grade(" not in text["release"]
    solutions = [part.split("# END SOLUTION")[0] for part in text["source"].split("# BEGIN SOLUTION")[1:]]
    code = "\n".join("".join(cell["source"]) for cell in cells["release"] if cell["cell_type"] == "code")
    for solution in solutions:
        lines = {line.strip() for line in solution.splitlines() if len(line.strip()) > 12}
        assert not [line for line in lines if line in code]
        assert not lines or any(line not in text["release"] for line in lines), lines  # a hint may show some of it
    for name in checking.exercises(notebook):
        assert f'raise NotImplementedError("{name}")' in text["release"]
        assert f'check("{notebook}.{name}", {name})' in text["release"]
    assert not any(cell.get("outputs") for cell in cells["release"])


def test_the_list_in_the_readme_is_of_these_exercises(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    page = importlib.import_module("exercises").readme()
    assert page == (ROOT / "exercises" / "README.md").read_text(encoding="utf-8"), "run python tools/exercises.py"
    for link in re.findall(r"\]\(([^)\s#]+)\)", page):
        assert (ROOT / "exercises" / link).exists(), link


@pytest.mark.parametrize("notebook", SOURCES)
def test_exercise_notebooks_have_their_parts(notebook):
    cells = json.loads(SOURCES[notebook].read_text())["cells"]
    markdown = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    count = len(checking.exercises(notebook))
    marks = sum(exercise.points for exercise in checking.exercises(notebook).values())
    assert f"{marks} marks" in markdown
    assert markdown.count("\n**To think about.**") == count
    assert markdown.count("<summary>Hint 1</summary>") == markdown.count("<summary>Hint 2</summary>") == count
    ratings = [line for line in markdown.splitlines() if "· importance " in line]
    assert len(ratings) == count and all("minutes" in line and "line" in line and " of 5)" in line for line in ratings)
    levels = [len(hashes) for hashes in re.findall(r"^(#+) ", re.sub(r"```.*?```", "", markdown, flags=re.S), re.M)]
    assert levels[0] == 1 and levels.count(1) == 1 and set(levels[1:]) == {2}
    assert "| Network | not needed |" in markdown and "\nAfter these exercises you can\n" in markdown
    for link in re.findall(r"\]\(([^)\s]+)\)", markdown):
        assert link.startswith("https:") or (SOURCES[notebook].parent / link.split("#")[0]).exists(), link
    for cell in cells:
        assert cell["source"] and len(cell["source"]) <= 40


@pytest.mark.parametrize("notebook", SOURCES)
def test_every_picture_of_an_exercise_has_alt_text(notebook):
    for cell in json.loads(opened(notebook, "solutions").read_text())["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            page, kinds = "".join(output.get("data", {}).get("text/html", "")), list(output.get("data", {}))
            assert page or not any(kind.startswith("image/") for kind in kinds)
            assert all(re.search(r'alt="[^"]*\w[^"]*"', tag) for tag in re.findall(r"<img\b[^>]*>", page))
