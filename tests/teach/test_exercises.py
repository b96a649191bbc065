"""Exercises: solutions pass, stubs fail, and wrong answers fail with the hint that names them."""

import importlib
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from minimuse.teach import checking, grade, grading
from tests.wrong_answers import outsider

ROOT = Path(__file__).resolve().parents[2]
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
    """defined(notebook, part) -> what a notebook in source, release or solutions defines; each is read once."""
    found = {}

    def of(notebook: str, part: str) -> dict:
        if (notebook, part) not in found:
            found[notebook, part] = grading.functions(opened(notebook, part))
        return found[notebook, part]

    return of


def test_every_notebook_has_its_checks_and_every_check_its_notebook():
    assert list(SOURCES) == checking.notebooks()
    assert all(3 <= len(checking.exercises(notebook)) <= 6 for notebook in SOURCES)
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
    assert grade(exercise.name, defined(notebook, "release")[function]) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("exercise", EXERCISES, ids=NAMES)
def test_wrong_answers_fail_with_the_hint_that_names_them(exercise):
    assert len(wrong := wrong_answers(exercise.name)) >= 3
    for mistake, (answer, words) in wrong.items():
        said = checking.judge(exercise.ask, answer)
        assert said and words.lower() in said.lower(), f"{mistake}: {said}"


@pytest.mark.slow
@pytest.mark.parametrize("name", outsider.REFUSED)
def test_answers_that_an_outsider_found_accepted_are_refused(name):
    for answer in outsider.REFUSED[name].values():
        assert checking.judge(checking.find(name).ask, answer)


def further(kind: str) -> list:
    """Exercises with answers of the tables REFUSED or UNUSUAL in tests/wrong_answers. `make slow` tries the first of
    each exercise, `make answers` all others."""
    found = []
    for exercise in EXERCISES:
        notebook, _, function = exercise.name.partition(".")
        table = getattr(importlib.import_module(f"tests.wrong_answers.{notebook}"), kind, {})
        for name, value in table.get(function, {}).items():
            first = name == next(iter(table[function]))
            marks = pytest.mark.slow if first else pytest.mark.answers
            found.append(pytest.param(exercise, value, id=f"{notebook}-{function}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(("exercise", "answer"), further("REFUSED"))
def test_further_wrong_answers_are_refused(exercise, answer):
    assert checking.judge(exercise.ask, answer)


@pytest.mark.parametrize(("exercise", "answer"), further("UNUSUAL"))
def test_right_but_unusual_answers_are_accepted(exercise, answer):
    assert checking.judge(exercise.ask, answer) is None


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
