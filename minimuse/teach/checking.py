"""`check` tests an answer for people, `grade` for machines. Both call the same function in checks/.

The building blocks of those are in asking.py.

Nothing that an answer does, prints or raises gets out of here. `check` never shows a traceback. `grade` never writes to
stderr, because nbgrader then gives no marks, and always returns a plain float, because for anything else nbgrader gives
full marks.
"""

import _thread
import contextlib
import functools
import importlib
import inspect
import logging
import os
import signal
import sys
import textwrap
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from minimuse.teach.asking import WIDTH, Exercise, Wrong, describe

HIDDEN = "MINIMUSE_HIDDEN_CHECKS"  # environment variable: a folder of further checks, exNN.py, that students lack
SECONDS = 120.0  # time for one check


class OutOfTime(BaseException):
    """A check takes too long. Not an Exception, so that an answer's `except Exception` does not catch it."""


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


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the main thread when the time is up, and again every second in case an answer catches it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over, late = threading.Event(), threading.Event()

    def watch() -> None:
        if not over.wait(seconds):
            late.set()
            while not over.is_set():
                _thread.interrupt_main()
                over.wait(1.0)

    def interrupted(signum: int, frame: Any) -> None:
        if over.is_set():
            return
        raise OutOfTime if late.is_set() else KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def judge(ask: Callable[[Callable], None], answer: Any, seconds: float = SECONDS) -> str | None:
    """What is wrong with an answer, or None. Whatever the answer does, this returns, in the main thread in time."""
    if not callable(answer):
        return f"Pass a function; this is {describe(answer)}. Give its name, without brackets."
    if str(getattr(answer, "__module__", "")).startswith("minimuse."):
        return "That is the library's own function. Write your own, then compare."
    try:
        with within(seconds):
            ask(answer)
    except Wrong as wrong:
        return str(wrong)
    except OutOfTime:
        return f"It had not finished after {seconds:g} seconds. Does a loop in it never end?"
    except (Exception, SystemExit) as error:
        return f"The check could not read what it returned ({type(error).__name__}: {error})."
    return None


def check(name: str, answer: Any = None) -> None:
    """Test an answer and print a tick, or a paragraph that explains what is wrong, with the smallest failing input.

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
    paragraph, *table = message.split("\n")
    print(textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False), *table, sep="\n")


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
