"""`check` an answer, for people; `grade` it, for machines. Both ask the same function, in checks/.

An exercise is a function of an answer. It returns nothing where the answer is right, and raises `Wrong` where it is
not, with one friendly paragraph that names the likely mistake. Answers are functions, too, so they can be tried on
several seeds and shapes, and found in a notebook by their names.

What an answer does, prints or raises ends here: `check` never shows a traceback; `grade` never writes to stderr, for
which nbgrader takes all marks away, and always returns a plain float: for anything else nbgrader gives all of them.
"""

import contextlib
import copy
import functools
import importlib
import importlib.util
import linecache
import logging
import os
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HIDDEN = "MINIMUSE_HIDDEN_CHECKS"  # names a folder with further checks, exNN.py, that students do not have
WIDTH = 100  # characters of a line that `check` prints


class Wrong(Exception):
    """What is wrong with an answer: one paragraph for the one who wrote it."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook: its name, such as ex06.cosine_rate, its marks, and the function that asks."""

    name: str
    points: int
    ask: Callable


def exercise(points: int) -> Callable:
    """Make a function of a checks file an exercise, named after the file and the function."""

    def register(ask: Callable) -> Exercise:
        return Exercise(f"{ask.__module__.rpartition('.')[2]}.{ask.__name__}", points, ask)

    return register


def exercises(notebook: str) -> dict[str, Exercise]:
    """The exercises of a notebook such as ex06, by the name of the function that answers, in their order."""
    try:
        module = importlib.import_module(f"minimuse.teach.checks.{notebook}")
    except ModuleNotFoundError:
        raise ValueError(f"There is no exercise notebook {notebook!r}; there are {', '.join(notebooks())}.") from None
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


def notebooks() -> list[str]:
    """The names of all exercise notebooks: ex01, ex02 ..."""
    return sorted(path.stem for path in (Path(__file__).parent / "checks").glob("ex[0-9][0-9].py"))


def find(name: str) -> Exercise:
    """The exercise of that name, or a ValueError that lists those there are."""
    notebook, _, function = str(name).partition(".")
    there = exercises(notebook)
    if function not in there:
        raise ValueError(f"There is no exercise {name!r}; {notebook} has {', '.join(there)}.")
    return there[function]


# --- what checks are written with -------------------------------------------------------------------------------------


def call(answer: Callable, *args, **kwargs):
    """answer(*args, **kwargs), on copies, so that the check's own stay as they are; Wrong if it raises."""
    try:
        return answer(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    except NotImplementedError:
        raise Wrong("It is not written yet. Put your code in place of the line `raise NotImplementedError`.") from None
    except Wrong:
        raise
    except (Exception, SystemExit) as error:
        said = ", ".join([*map(told, args), *(f"{key}={told(value)}" for key, value in kwargs.items())])
        raise Wrong(f"Called with ({said}) it raised {type(error).__name__}: {error}{_line(answer, error)}") from None


def _line(answer: Callable, error: BaseException) -> str:
    """Where in the answer's own file an error came from."""
    own = getattr(getattr(answer, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    if not frames or not (text := linecache.getline(own, frames[-1].lineno).strip()):
        return ""
    return f" In the line: {text}"


def told(value) -> str:
    """A value as a message tells it: arrays that are not tiny by type and shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = np.asarray(value) if np.size(value) <= 8 else None
        if array is not None and array.dtype.kind in "biuf":
            return str(np.round(array.astype(float), 4).tolist() if array.dtype.kind == "f" else array.tolist())
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, float):
        return f"{value:.5g}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


KINDS = {"float": "iuf", "int": "iu", "bool": "b"}


def numbers(value, shape: tuple[int, ...] = (), kind: str = "float") -> np.ndarray:
    """What an answer returned as a numpy array of that shape, of floats, ints or bools; Wrong for anything else."""
    if value is None:
        raise Wrong("It returned None. Does every way through it end in `return ...`?")
    try:
        array = np.asarray(value)
    except Exception:  # whatever an object makes of being asked for an array
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" and getattr(array.dtype, "name", "") != "bfloat16":
        raise Wrong(
            f"It returned {told(value)}, a {type(value).__name__}; {kind}s of the shape {list(shape)} are asked for."
        )
    if array.dtype.kind not in KINDS[kind] and array.dtype.kind in "biuf":
        raise Wrong(f"It returned {array.dtype} values; {kind}s are asked for.")
    if array.shape != tuple(shape):
        turned = " Are rows and columns swapped?" if array.shape[::-1] == tuple(shape) else ""
        raise Wrong(f"It returned the shape {list(array.shape)}; {list(shape)} is asked for.{turned}")
    array = array.astype(float) if kind == "float" else array
    if not np.isfinite(array).all():
        raise Wrong("There are infinite values, or values that are no numbers (nan), in what it returned.")
    return array


def pair(value, example: str) -> tuple:
    """The two things that an answer returned, still to be read; Wrong for anything else. example: `return one, two`."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise Wrong(f"It returned {told(value)}; two things are asked for: `{example}`.")
    return tuple(value)


def close(got, expected, tolerance: float = 1e-4) -> bool:
    """Whether two arrays of one shape are equal but for rounding."""
    got, expected = np.asarray(got), np.asarray(expected)
    return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=tolerance, atol=tolerance))


def unless(got: np.ndarray, mistakes: dict[str, object], right=None, tolerance: float = 1e-4) -> None:
    """Wrong, with its paragraph, if the answer is what a known mistake gives: {paragraph: what it gives}.

    right    the right result, if it is known: a mistake that gives the same here is none
    """
    for paragraph, value in mistakes.items():
        if close(got, value, tolerance) and (right is None or not close(value, right, tolerance)):
            raise Wrong(paragraph)


def same(got: np.ndarray, expected, about: str, tolerance: float = 1e-4) -> None:
    """Wrong, with the first place that differs, unless an answer equals what is expected but for rounding."""
    expected = np.asarray(expected)
    if close(got, expected, tolerance):
        return
    if expected.size <= 8:
        raise Wrong(f"For {about} the answer is {told(expected)}; yours is {told(np.asarray(got))}.")
    apart = ~np.isclose(got, expected, rtol=tolerance, atol=tolerance)
    place = tuple(int(i) for i in np.argwhere(apart)[0])
    raise Wrong(
        f"For {about}, {apart.sum()} of {apart.size} values differ. The first, at {list(place)}, is "
        f"{told(got[place])}, and should be {told(expected[place])}."
    )


def chosen(answer: Callable, right: str, wrong: dict[str, str]) -> None:
    """Wrong unless the answer, a function of nothing, returns the letter `right`; {letter: why it is not that one}."""
    letter = call(answer)
    if not isinstance(letter, str) or letter.strip().lower() not in {right, *wrong}:
        letters = ", ".join(f'"{name}"' for name in sorted([right, *wrong]))
        raise Wrong(f"It returned {told(letter)}; return one of the letters {letters}.")
    if (letter := letter.strip().lower()) != right:
        raise Wrong(f"“{letter}” is not it. {wrong[letter]}")


# --- asking -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet(out):
    """What Python writes to stdout and stderr goes to the stream `out`; what C++ writes to stderr goes nowhere."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(out))
        null = stack.enter_context(open(os.devnull, "w"))
        kept, disabled = os.dup(2), logging.root.manager.disable
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        stack.callback(logging.disable, disabled)
        os.dup2(null.fileno(), 2)
        logging.disable(logging.CRITICAL)  # a handler may hold the stderr of before
        yield


def judge(ask: Callable, answer) -> str | None:
    """What is wrong with an answer, or None. Whatever the answer does, this returns."""
    if not callable(answer):
        return f"A function is asked for; this is {told(answer)}. Give its name, without brackets."
    if str(getattr(answer, "__module__", "")).startswith("minimuse."):
        return "That is the library's own function. Write yours; afterwards compare."
    try:
        ask(answer)
    except Wrong as wrong:
        return str(wrong)
    except (Exception, SystemExit) as error:
        return f"What it returned could not be read ({type(error).__name__}: {error})."
    return None


def check(name: str, answer=None) -> None:
    """Try an answer and print a tick, or one paragraph that says what is wrong. For people: it returns nothing.

    name      of the exercise, such as "ex06.cosine_rate"
    answer    your function
    """
    try:
        ask = find(name).ask
    except ValueError as error:
        print(error)
        return
    with quiet(sys.stdout), warnings.catch_warnings():
        warnings.simplefilter("default")  # yours are shown, but once
        wrong = judge(ask, answer)
    said = f"✓ {name}: right." if wrong is None else f"✗ {name}: not yet. {wrong}"
    print(textwrap.fill(said, WIDTH, break_long_words=False, break_on_hyphens=False))


def grade(name: str, answer=None, points: int | None = None) -> float:
    """The marks of an answer, a plain float: all of them or none. For nbgrader and scripts: it prints nothing.

    points    what the exercise is worth; None: what its check says
    """
    found = find(name)
    with open(os.devnull, "w") as null, quiet(null), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = any(judge(ask, answer) is not None for ask in (found.ask, *hidden(name)))
    return 0.0 if wrong else float(found.points if points is None else points)


def hidden(name: str) -> list[Callable]:
    """The further check of an exercise in the folder $MINIMUSE_HIDDEN_CHECKS, if there is one.

    Such a folder holds files like those in checks/, with plain functions: ex06.py with a function cosine_rate(answer).
    """
    notebook, _, function = name.partition(".")
    folder = os.environ.get(HIDDEN)
    if not folder or not (path := Path(folder) / f"{notebook}.py").is_file():
        return []
    found = getattr(_hidden_module(path), function, None)
    return [getattr(found, "ask", found)] if found else []


@functools.cache
def _hidden_module(path: Path):
    spec = importlib.util.spec_from_file_location(f"hidden_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
