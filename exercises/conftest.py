"""`pytest exercises --nb my.ipynb` tries the answers in your notebook, a test an exercise."""

from pathlib import Path

import pytest

from minimuse.teach import checking, grading


def pytest_addoption(parser):
    parser.addoption("--nb", action="append", default=[], metavar="NOTEBOOK", help="your notebook; may be given again")


def pytest_generate_tests(metafunc):
    if "answered" not in metafunc.fixturenames:
        return
    given = [
        (Path(path), name)
        for path in metafunc.config.getoption("nb")
        for name in checking.exercises(grading.exercises_of(Path(path)))
    ]
    metafunc.parametrize("answered", given, ids=[f"{path.stem}.{name}" for path, name in given])


@pytest.fixture
def answer(answered):
    path, name = answered
    return grading.functions(path).get(name)
