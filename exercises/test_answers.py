"""The checks of `check`, as tests of a notebook: see conftest.py."""

import pytest

from minimuse.teach import checking, grading


def test_answer(answered, answer):
    path, name = answered
    if answer is None:
        pytest.fail(f"{path} has no function {name}.", pytrace=False)
    exercise = checking.exercises(grading.exercises_of(path))[name]
    if said := checking.judge(exercise.ask, answer):
        pytest.fail(said, pytrace=False)
