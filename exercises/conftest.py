"""`pytest exercises --nb my.ipynb` tries the answers in your notebook, a test an exercise, as `minimuse grade` does."""

import functools
import os
from pathlib import Path

import pytest

from minimuse.teach import cells, checking, grading

opened = []


@functools.cache
def submission(path):
    hidden = [os.environ[checking.HIDDEN]] if checking.HIDDEN in os.environ else []
    covered = [os.path.abspath(one) for one in (path, *hidden)]
    opened.append(grading.Submission(cells.read(path), Path(path).name, covered=covered))
    return opened[-1]


def pytest_addoption(parser):
    parser.addoption("--nb", action="append", default=[], metavar="NOTEBOOK", help="your notebook; may be given again")


def pytest_generate_tests(metafunc):
    if "wrong" not in metafunc.fixturenames:
        return
    given = []
    for path in metafunc.config.getoption("nb"):
        try:
            given += [(path, exercise.name) for exercise in checking.exercises(submission(path).notebook).values()]
        except (ValueError, OSError, ImportError) as error:
            raise pytest.UsageError(str(error)) from None
    ids = [f"{Path(path).stem}.{name.partition('.')[2]}" for path, name in given]
    metafunc.parametrize("wrong", given, ids=ids, indirect=True)


def pytest_unconfigure():
    for one in opened:
        one.close()


@pytest.fixture
def wrong(request):
    """What is wrong with an answer, or None."""
    path, name = request.param
    return submission(path).wrong(name)
