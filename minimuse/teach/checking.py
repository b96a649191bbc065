"""`check` tests an answer for people, `grade` for machines. Both call the same function in checks/.

An exercise is a function of an answer. It returns nothing if the answer is right, and raises `Wrong` if it is not, with
one friendly paragraph that names the likely mistake. Answers are functions as well, so they can be tried on several
seeds and shapes, and found in a notebook by name.

Nothing that an answer does, prints or raises gets out of here. `check` never shows a traceback. `grade` never writes to
stderr, because nbgrader then gives no marks, and always returns a plain float, because for anything else nbgrader gives
full marks.
"""

import contextlib
import copy
import functools
import importlib
import inspect
import linecache
import logging
import os
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike

HIDDEN = "MINIMUSE_HIDDEN_CHECKS"  # environment variable: a folder of further checks, exNN.py, that students lack
WIDTH = 100  # characters per line that `check` prints


class Wrong(Exception):
    """What is wrong with an answer: one paragraph, addressed to its author."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook."""

    name: str  # such as ex06.cosine_rate
    points: int  # its marks
    ask: Callable[[Callable], None]  # the check: a function of the answer, which raises Wrong


def exercise(points: int) -> Callable[[Callable[[Callable], None]], Exercise]:
    """Turn a function of a checks file into an exercise, named after the file and the function."""

    def register(ask: Callable[[Callable], None]) -> Exercise:
        return Exercise(f"{ask.__module__.rpartition('.')[2]}.{ask.__name__}", points, ask)

    return register


def exercises(notebook: str) -> dict[str, Exercise]:
    """The exercises of a notebook such as ex06, by the name of the function to write, in order."""
    try:
        module = importlib.import_module(f"minimuse.teach.checks.{notebook}")
    except ModuleNotFoundError:
        raise ValueError(f"There is no exercise notebook {notebook!r}; there are {', '.join(notebooks())}.") from None
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


def notebooks() -> list[str]:
    """The names of all exercise notebooks: ex01, ex02, ..."""
    return sorted(path.stem for path in (Path(__file__).parent / "checks").glob("ex[0-9][0-9].py"))


def find(name: str) -> Exercise:
    """The exercise of this name, or a ValueError that lists the existing ones."""
    notebook, _, function = str(name).partition(".")
    there = exercises(notebook)
    if function not in there:
        raise ValueError(f"There is no exercise {name!r}; {notebook} has {', '.join(there)}.")
    return there[function]


# --- building blocks of checks ----------------------------------------------------------------------------------------


def call(answer: Callable, *args: Any, **kwargs: Any) -> Any:
    """answer(*args, **kwargs) on copies, so that an answer cannot change the check's values; Wrong if it raises."""
    try:
        return answer(*copy.deepcopy(args), **copy.deepcopy(kwargs))
    except NotImplementedError:
        raise Wrong("It is not written yet. Replace the line `raise NotImplementedError` by your code.") from None
    except Wrong:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join([*map(describe, args), *(f"{key}={describe(value)}" for key, value in kwargs.items())])
        raise Wrong(f"Called with ({given}) it raised {type(error).__name__}: {error}{_line(answer, error)}") from None


def _line(answer: Callable, error: BaseException) -> str:
    """The line in the answer's own file that raised an error."""
    own = getattr(getattr(answer, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    if not frames or not (text := linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()):
        return ""
    return f" In the line: {text}"


def describe(value: Any) -> str:
    """A value as messages show it: an array that is not tiny by its type and shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = np.asarray(value) if np.size(value) <= 8 else None
        if array is not None and array.dtype.kind in "biuf":
            return str(np.round(array.astype(float), 4).tolist() if array.dtype.kind == "f" else array.tolist())
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, float):
        return f"{value:.5g}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


KINDS = {"float": "iuf", "int": "iu", "bool": "b"}


def numbers(value: Any, shape: tuple[int, ...] = (), kind: str = "float") -> np.ndarray:
    """What an answer returned as a numpy array of this shape, of floats, ints or bools; Wrong for anything else."""
    if value is None:
        raise Wrong("It returned None. Does every path through it end in `return ...`?")
    try:
        array = np.asarray(value)
    except Exception:  # an object's own __array__ may raise anything
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" and getattr(array.dtype, "name", "") != "bfloat16":
        raise Wrong(f"It returned {describe(value)}, a {type(value).__name__}; return {kind}s of shape {list(shape)}.")
    if array.dtype.kind not in KINDS[kind] and array.dtype.kind in "biuf":
        raise Wrong(f"It returned {array.dtype} values; return {kind}s.")
    if array.shape != tuple(shape):
        turned = " Are rows and columns swapped?" if array.shape[::-1] == tuple(shape) else ""
        raise Wrong(f"It returned shape {list(array.shape)}; return shape {list(shape)}.{turned}")
    array = array.astype(float) if kind == "float" else array
    if not np.isfinite(array).all():
        raise Wrong("It returned infinite values or values that are not numbers (nan).")
    return array


def pair(value: Any, example: str) -> tuple[Any, Any]:
    """The two values that an answer returned, not yet checked; Wrong for anything else. example: `return one, two`."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise Wrong(f"It returned {describe(value)}; return two values: `{example}`.")
    return value[0], value[1]


def close(got: ArrayLike, expected: ArrayLike, tolerance: float = 1e-4) -> bool:
    """Whether two arrays have the same shape and are equal up to rounding."""
    got, expected = np.asarray(got), np.asarray(expected)
    return got.shape == expected.shape and bool(np.allclose(got, expected, rtol=tolerance, atol=tolerance))


def unless(
    got: np.ndarray, mistakes: Mapping[str, Any], right: ArrayLike | None = None, tolerance: float = 1e-4
) -> None:
    """Raise Wrong if the answer equals the result of a known mistake.

    mistakes   {paragraph: the result of the mistake that it describes}
    right      the right result; a mistake that gives the same result here is ignored
    """
    for paragraph, value in mistakes.items():
        if close(got, value, tolerance) and (right is None or not close(value, right, tolerance)):
            raise Wrong(paragraph)


def same(got: np.ndarray, expected: ArrayLike, about: str, tolerance: float = 1e-4) -> None:
    """Raise Wrong, with the first entry that differs, unless an answer equals the expected one up to rounding."""
    expected = np.asarray(expected)
    if close(got, expected, tolerance):
        return
    if expected.size <= 8:
        raise Wrong(f"For {about} the answer is {describe(expected)}; yours is {describe(np.asarray(got))}.")
    differ = ~np.isclose(got, expected, rtol=tolerance, atol=tolerance)
    first = tuple(int(i) for i in np.argwhere(differ)[0])
    raise Wrong(
        f"For {about}, {differ.sum()} of {differ.size} values differ. The first, at {list(first)}, is "
        f"{describe(got[first])}, and should be {describe(expected[first])}."
    )


def chosen(answer: Callable, right: str, wrong: dict[str, str]) -> None:
    """Raise Wrong unless the answer, a function without arguments, returns the letter `right`.

    wrong   {letter: why it is not this one}
    """
    letter = call(answer)
    if not isinstance(letter, str) or letter.strip().lower() not in {right, *wrong}:
        letters = ", ".join(f'"{name}"' for name in sorted([right, *wrong]))
        raise Wrong(f"It returned {describe(letter)}; return one of the letters {letters}.")
    if (letter := letter.strip().lower()) != right:
        raise Wrong(f"“{letter}” is not right. {wrong[letter]}")


# --- checking and grading ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet(out: TextIO) -> Iterator[None]:
    """Send what Python writes to stdout and stderr to the stream `out`, and discard what C++ writes to stderr."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(out))
        null = stack.enter_context(open(os.devnull, "w"))
        kept, disabled = os.dup(2), logging.root.manager.disable
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        stack.callback(logging.disable, disabled)
        os.dup2(null.fileno(), 2)
        logging.disable(logging.CRITICAL)  # a handler may still hold the old stderr
        yield


def judge(ask: Callable[[Callable], None], answer: Any) -> str | None:
    """What is wrong with an answer, or None. Whatever the answer does, this returns."""
    if not callable(answer):
        return f"Pass a function; this is {describe(answer)}. Give its name, without brackets."
    if str(getattr(answer, "__module__", "")).startswith("minimuse."):
        return "That is the library's own function. Write your own, then compare."
    try:
        ask(answer)
    except Wrong as wrong:
        return str(wrong)
    except (Exception, SystemExit) as error:
        return f"The check could not read what it returned ({type(error).__name__}: {error})."
    return None


def check(name: str, answer: Any = None) -> None:
    """Test an answer and print a tick, or one paragraph that explains what is wrong.

    name      the exercise, such as "ex06.cosine_rate"
    answer    your function
    """
    try:
        ask = find(name).ask
    except ValueError as error:
        print(error)
        return
    with quiet(sys.stdout), warnings.catch_warnings():
        warnings.simplefilter("default")  # show warnings of the answer, but only once
        wrong = judge(ask, answer)
    message = f"✓ {name}: right." if wrong is None else f"✗ {name}: not yet. {wrong}"
    print(textwrap.fill(message, WIDTH, break_long_words=False, break_on_hyphens=False))


def grade(name: str, answer: Any = None, points: int | None = None) -> float:
    """The marks of an answer as a plain float, all or none. For nbgrader and scripts: it prints nothing.

    points    what the exercise is worth; None takes the number in its check
    """
    found = find(name)
    with open(os.devnull, "w") as null, quiet(null), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = any(judge(ask, answer) is not None for ask in (found.ask, *hidden(name)))
    return 0.0 if wrong else float(found.points if points is None else points)


def hidden(name: str) -> list[Callable[[Callable], None]]:
    """The further check of an exercise in the folder $MINIMUSE_HIDDEN_CHECKS, if there is one."""
    folder = os.environ.get(HIDDEN)
    found = hidden_checks(Path(folder)).get(name) if folder else None
    return [found] if found else []


@functools.cache
def hidden_checks(folder: Path) -> dict[str, Callable[[Callable], None]]:
    """The further checks of a folder, by exercises such as ex06.cosine_rate; ValueError if one cannot be used.

    The folder holds files like those in checks/, with plain functions: ex06.py with a function cosine_rate(answer). The
    names of other functions there begin with an underscore.
    """
    paths = sorted(folder.glob("ex*.py"))
    if not paths:
        raise ValueError(f"{folder} holds no checks; they are files such as ex06.py.")
    found: dict[str, Callable[[Callable], None]] = {}
    for path in paths:
        there = exercises(path.stem) if path.stem in notebooks() else {}
        for name, value in vars(_hidden_module(path)).items():
            ask = getattr(value, "ask", value)
            if name.startswith("_") or getattr(ask, "__module__", "") != f"hidden_{path.stem}" or isinstance(ask, type):
                continue
            if name not in there:
                known = f"{path.stem} has {', '.join(there)}" if there else f"there are {', '.join(notebooks())}"
                raise ValueError(f"{place(ask)}: there is no exercise {path.stem}.{name}; {known}.")
            found[f"{path.stem}.{name}"] = ask
    return found


def place(ask: Callable, error: BaseException | None = None) -> str:
    """Where a further check stands, or where in its file an error was raised: file, line N."""
    code = inspect.unwrap(ask).__code__
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error and error.__traceback__)
        if frame.filename == code.co_filename
    ]
    return f"{code.co_filename}, line {lines[-1] if lines else code.co_firstlineno}"


def _hidden_module(path: Path) -> ModuleType:
    module = ModuleType(f"hidden_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except SyntaxError as error:
        raise ValueError(f"{error.filename}, line {error.lineno}: {error.msg}.") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {lines[-1]}" if lines else ""
        raise ValueError(f"{path}{line}: {type(error).__name__}: {error}.") from None
    return module
