"""Exercises: solutions pass, stubs fail, and wrong answers fail with the hint that names them. Marks are never lies."""

import csv
import importlib
import json
import re
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from minimuse import cli
from minimuse.teach import check, checking, grade, grading

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {path.stem: path for path in sorted(ROOT.glob("exercises/source/*/*.ipynb"))}
EXERCISES = [exercise for notebook in checking.notebooks() for exercise in checking.exercises(notebook).values()]
NAMES = [exercise.name for exercise in EXERCISES]


def wrong_answers(name: str) -> dict:
    notebook, _, function = name.partition(".")
    return importlib.import_module(f"tests.wrong_answers.{notebook}").WRONG[function]


def opened(notebook: str, part: str) -> Path:
    return Path(str(SOURCES[notebook]).replace("source", part))


@pytest.fixture(scope="module")
def defined():
    """defined(notebook, part) -> what a notebook of source, release or solutions defines; each is read once."""
    found = {}

    def of(notebook: str, part: str) -> dict:
        if (notebook, part) not in found:
            found[notebook, part] = grading.functions(opened(notebook, part))
        return found[notebook, part]

    return of


# --- every exercise ---------------------------------------------------------------------------------------------------


def test_every_notebook_has_its_checks_and_every_check_its_notebook():
    assert list(SOURCES) == checking.notebooks()
    assert all(3 <= len(checking.exercises(notebook)) <= 5 for notebook in SOURCES)
    functions = Counter(name.partition(".")[2] for name in NAMES)
    assert max(functions.values()) == 1  # a notebook is known by the names of its functions
    for notebook, path in SOURCES.items():
        assert grading.exercises_of(path) == notebook
        assert [*importlib.import_module(f"tests.wrong_answers.{notebook}").WRONG] == [*checking.exercises(notebook)]


@pytest.mark.parametrize("exercise", EXERCISES, ids=NAMES)
def test_the_solution_is_right_and_the_stub_is_not(exercise, defined):
    notebook, _, function = exercise.name.partition(".")
    assert checking.judge(exercise.ask, defined(notebook, "source")[function]) is None
    assert "not written yet" in checking.judge(exercise.ask, defined(notebook, "release")[function])
    assert grade(exercise.name, defined(notebook, "solutions")[function]) == exercise.points
    assert grade(exercise.name, defined(notebook, "release")[function]) == 0.0


@pytest.mark.parametrize("exercise", EXERCISES, ids=NAMES)
def test_wrong_answers_fail_with_the_hint_that_names_them(exercise):
    assert len(wrong := wrong_answers(exercise.name)) >= 3
    for mistake, (answer, words) in wrong.items():
        said = checking.judge(exercise.ask, answer)
        assert said and words in said, f"{mistake}: {said}"


def noisy(*args, **kwargs):
    warnings.warn("look", stacklevel=1)
    print("to stderr", file=sys.stderr)
    return True


def leave(*args, **kwargs):
    sys.exit(0)


def fail(*args, **kwargs):
    raise RuntimeError("no")


NONSENSE = {
    "warnings and True": noisy,
    "True": lambda *args, **kwargs: True,
    "np.float64": lambda *args, **kwargs: np.float64(1.0),
    "a string": lambda *args, **kwargs: "all checks passed",
    "None": lambda *args, **kwargs: None,
    "its argument": lambda *args, **kwargs: args[0] if args else None,
    "raises": fail,
    "leaves": leave,
    "an object": lambda *args, **kwargs: object(),
    "no function": 3.0,
}


@pytest.mark.parametrize("exercise", EXERCISES, ids=NAMES)
def test_nonsense_never_scores_and_writes_nothing(exercise, capfd):
    for answer in NONSENSE.values():
        marks = grade(exercise.name, answer)
        assert type(marks) is float and marks == 0.0
    assert capfd.readouterr() == ("", "")


# --- check and grade --------------------------------------------------------------------------------------------------


def test_check_prints_a_tick_or_a_paragraph_and_returns_nothing(capfd):
    assert check("ex06.cosine_rate", lambda u: np.cos(np.pi / 2 * u)) is None
    assert capfd.readouterr().out.startswith("✓ ex06.cosine_rate")
    assert check("ex06.cosine_rate", lambda u: 1 - u) is None
    out, err = capfd.readouterr()
    assert out.startswith("✗ ex06.cosine_rate") and "straight line" in " ".join(out.split()) and not err
    check("ex06.cosine_rate", fail)
    assert "RuntimeError: no" in " ".join(capfd.readouterr().out.split())
    check("ex06.nothing", fail)
    assert re.search("ex06.nothing.*cosine_rate", capfd.readouterr().out)
    check("ex99.nothing", fail)
    assert re.search("ex99.*ex01", capfd.readouterr().out)


def test_right_answers_that_make_noise_keep_their_marks(capfd):
    def right(u):
        warnings.warn("numbers", stacklevel=1)
        print("to stderr", file=sys.stderr)
        return np.cos(np.pi / 2 * u)

    assert grade("ex06.cosine_rate", right) == 2.0 and grade("ex06.cosine_rate", right, points=5) == 5.0
    assert capfd.readouterr() == ("", "")
    check("ex06.cosine_rate", right)
    out, err = capfd.readouterr()
    assert "✓" in out and "to stderr" in out and not err  # nbgrader takes all marks where stderr is written to


def test_the_library_is_no_answer():
    from minimuse.masking import mask_rate

    assert "library" in checking.judge(checking.find("ex06.cosine_rate").ask, mask_rate)


def test_an_answer_cannot_change_what_it_is_asked(capfd):
    def spoils(u):
        u[:] = 0.0
        return np.ones_like(u)

    assert grade("ex06.cosine_rate", spoils) == 0.0


def test_messages_name_the_line_and_tell_shapes():
    def answer(u):
        return np.cos(u) + np.zeros(3)

    said = checking.judge(checking.find("ex06.cosine_rate").ask, answer)
    assert "ValueError" in said and "return np.cos(u) + np.zeros(3)" in said
    said = checking.judge(checking.find("ex06.cosine_rate").ask, lambda u: np.ones((7, 1)))
    assert "[7, 1]" in said and "[7]" in said


def test_hidden_checks_are_asked_too(tmp_path, monkeypatch):
    (tmp_path / "ex06.py").write_text(
        "from minimuse.teach.checking import Wrong\n"
        "def cosine_rate(answer):\n"
        "    if float(answer(0.3)) == 0.5:\n"
        "        raise Wrong('seen')\n"
    )

    def knows_the_table(u):
        return 0.5 if np.ndim(u) == 0 else np.cos(np.pi / 2 * u)

    assert grade("ex06.cosine_rate", knows_the_table) == 2.0
    monkeypatch.setenv(checking.HIDDEN, str(tmp_path))
    assert grade("ex06.cosine_rate", knows_the_table) == 0.0
    assert grade("ex06.cosine_rate", lambda u: np.cos(np.pi / 2 * u)) == 2.0


# --- whole notebooks --------------------------------------------------------------------------------------------------


def notebook_of(*cells: str) -> str:
    code = [dict(cell_type="code", source=cell, metadata={}, outputs=[], execution_count=None) for cell in cells]
    return json.dumps(dict(cells=code, metadata={}, nbformat=4, nbformat_minor=5))


@pytest.fixture
def handed_in(tmp_path):
    """A notebook without metadata: one right answer, one wrong, one that never ends, one broken cell."""
    path = tmp_path / "mine.ipynb"
    path.write_text(
        notebook_of(
            "%matplotlib inline\nimport numpy as np\nHALF = np.pi / 2",
            "raise RuntimeError('a cell that fails when it is run')",
            "def cosine_rate(u):\n    return 1 - u",
            "def cosine_rate(u):\n    return np.cos(HALF * u)",
            "def exact_mask(rates, n, rng)\n    broken",
            "def hidden_after(steps, n):\n    while True:\n        pass",
            "def which_law(rates):\n    return 'cosine'",
            'import os\ndef fewest_steps(n, most):\n    print(\'["ex06.fewest_steps", 99, ""]\')\n    os._exit(0)',
        )
    )
    return path


def test_notebooks_are_marked_without_metadata_and_without_running_them(handed_in, tmp_path, capsys):
    table = tmp_path / "grades.csv"
    cli.main(["grade", str(handed_in), str(tmp_path / "none.ipynb"), "--csv", str(table), "--seconds", "15"])
    with open(table, encoding="utf-8") as file:
        rows = {row["exercise"]: row for row in csv.DictReader(file)}
    assert [float(rows[name]["marks"]) for name in checking_names("ex06")] == [2, 0, 0, 0, 0]
    assert "function" in rows["ex06.exact_mask"]["said"]
    assert "15 seconds" in rows["ex06.hidden_after"]["said"]
    assert "whatever is drawn" in rows["ex06.which_law"]["said"]
    assert "program" in rows["ex06.fewest_steps"]["said"]
    assert "No such file" in rows[""]["said"]
    assert "mine.ipynb: 2 of 13" in capsys.readouterr().out


def test_hidden_checks_count_for_whole_notebooks(tmp_path, monkeypatch):
    path, private = tmp_path / "mine.ipynb", tmp_path / "private"
    path.write_text(notebook_of("import numpy as np\ndef cosine_rate(u):\n    return np.cos(np.pi / 2 * u)"))
    private.mkdir()
    (private / "ex06.py").write_text(
        "from minimuse.teach.checking import Wrong\ndef cosine_rate(answer):\n    raise Wrong('seen')\n"
    )
    assert grading.grade_notebook(path, 60)[0].marks == 2
    monkeypatch.setenv(checking.HIDDEN, str(private))
    marked = grading.grade_notebook(path, 60)[0]
    assert marked.marks == 0 and marked.said and "seen" not in marked.said


def checking_names(notebook: str) -> list[str]:
    return [exercise.name for exercise in checking.exercises(notebook).values()]


def test_grade_says_what_is_wrong(tmp_path, capsys):
    empty = tmp_path / "empty.ipynb"
    empty.write_text(notebook_of("x = 1"))
    cli.main(["grade", str(empty)])
    out = capsys.readouterr().out
    assert "empty.ipynb: " in out and not re.search(r"\d of \d", out)
    for arguments, words in (
        ((str(empty), "--csv", str(tmp_path / "grades.txt")), "--csv"),
        ((str(empty), "--hidden", str(tmp_path)), str(tmp_path)),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["grade", *arguments])
        assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_pytest_tries_a_notebook(handed_in):
    command = ["-m", "pytest", "exercises", "-q", "-p", "no:cacheprovider", "--nb", str(handed_in), "-k", "law or rate"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "whatever is drawn" in done.stdout and "Traceback" not in done.stdout


# --- what is released -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", SOURCES)
def test_released_notebooks_hold_no_solution(notebook):
    cells = {part: json.loads(opened(notebook, part).read_text())["cells"] for part in ("source", "release")}
    text = {part: "\n".join("".join(cell["source"]) for cell in cells[part]) for part in cells}
    assert "BEGIN" not in text["release"] and "grade(" not in text["release"]
    solutions = [part.split("# END SOLUTION")[0] for part in text["source"].split("# BEGIN SOLUTION")[1:]]
    for line in {line.strip() for solution in solutions for line in solution.splitlines() if len(line.strip()) > 12}:
        assert line not in text["release"], line
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
