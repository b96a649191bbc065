"""Marks for whole notebooks, without running them."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minimuse import cli
from minimuse.teach import checking, grading

ROOT = Path(__file__).resolve().parents[2]


def notebook_of(*cells: str) -> str:
    code = [dict(cell_type="code", source=cell, metadata={}, outputs=[], execution_count=None) for cell in cells]
    return json.dumps(dict(cells=code, metadata={}, nbformat=4, nbformat_minor=5))


@pytest.fixture
def handed_in(tmp_path):
    """A notebook without metadata: a right answer, a wrong one, one that never returns, a broken cell."""
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


@pytest.mark.slow
def test_notebooks_are_marked_without_metadata_and_without_running_them(handed_in, tmp_path, capsys):
    table = tmp_path / "grades.csv"
    cli.main(["grade", str(handed_in), str(tmp_path / "none.ipynb"), "--csv", str(table), "--seconds", "15"])
    with open(table, encoding="utf-8") as file:
        rows = {row["exercise"]: row for row in csv.DictReader(file)}
    assert [float(rows[name]["marks"]) for name in checking_names("ex06")] == [2, 0, 0, 0, 0]
    assert "function" in rows["ex06.exact_mask"]["message"]
    assert "15 seconds" in rows["ex06.hidden_after"]["message"]
    assert "cosine" in rows["ex06.which_law"]["message"]
    assert "program" in rows["ex06.fewest_steps"]["message"]
    assert "No such file" in rows[""]["message"]
    assert "mine.ipynb: 2 of 13" in capsys.readouterr().out


def test_hidden_checks_count_for_whole_notebooks(tmp_path, monkeypatch):
    path, private = tmp_path / "mine.ipynb", tmp_path / "private"
    path.write_text(notebook_of("import numpy as np\ndef cosine_rate(u):\n    return np.cos(np.pi / 2 * u)"))
    private.mkdir()
    (private / "ex06.py").write_text(
        "from minimuse.teach.asking import Wrong\ndef cosine_rate(answer):\n    raise Wrong('seen')\n"
    )
    assert grading.grade_notebook(path, 60)[0].marks == 2
    monkeypatch.setenv(checking.HIDDEN, str(private))
    marked = grading.grade_notebook(path, 60)[0]
    assert marked.marks == 0 and marked.message and "seen" not in marked.message


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


@pytest.mark.slow
def test_pytest_tries_a_notebook(handed_in):
    command = ["-m", "pytest", "exercises", "-q", "-p", "no:cacheprovider", "--nb", str(handed_in), "-k", "law or rate"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "returns cosine" in done.stdout and "Traceback" not in done.stdout
