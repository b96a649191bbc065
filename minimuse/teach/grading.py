"""Marks for whole notebooks: `python -m minimuse grade submissions/*.ipynb --csv grades.csv`. nbgrader_config.py and
`pytest exercises --nb` mark with it, too.

A notebook is not run. What its answers need is found in its cells (cells.py) and defined in a process of its own
(answering.py). The checks run here: they call an answer over a pipe, on which only arrays and plain values travel
(wire.py). So nothing that a student's code does can change what a check expects or decides. Marks are those of the
exercise, or 0.
"""

import contextlib
import csv
import functools
import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from minimuse.files import atomic_path
from minimuse.teach import cells, checking, wire
from minimuse.teach.asking import Elsewhere
from minimuse.teach.sandbox import Ended, Process, isolated

DEFINING = 60.0  # seconds to find out what the answers need
SAID = 600  # characters of an error of an answer's
FURTHER = "The further checks, which students do not have, found a mistake."


class Mark(NamedTuple):
    """One row of grades.csv."""

    notebook: str
    exercise: str
    marks: float
    of: int
    message: str  # what `check` would print


class Submission:
    """The answers in the code cells of a notebook.

    seconds    time for an answer, and for all that the answers need, a fifth of it for a statement
    covered    files that the answers must not read
    notebook   such as ex06; if not given, the one to which most of its functions belong
    """

    def __init__(
        self,
        sources: list[str],
        name: str,
        seconds: float = 300.0,
        covered: Sequence[str] = (),
        notebook: str | None = None,
    ):
        short = Path(name).name
        self._cells = {f"{short}, code cell {number}": source for number, source in enumerate(sources, 1)}
        self._name, self._seconds, self._left, self._covered = name, seconds, seconds, [*covered]
        self._skipped: set[int] = set()
        self._broken: dict[str, str] = {}  # name: why what binds it could not be run
        self._process: Process | None = None
        self.slips: list[str] = []  # where further checks failed with an error of their own
        try:
            self._begin()
            self.notebook = notebook or notebook_of(self._ask(dict(do="names"))["names"], name)
            self._define()
        except (Ended, KeyError, TypeError):
            self.close()
            raise ValueError(f"{name}: its cells could not be read.") from None
        except BaseException:
            self.close()
            raise

    def _timed(self, request: dict) -> dict:
        """The reply to a request that takes of the time for all that the answers need."""
        begun = time.monotonic()
        try:
            return self._ask(request, max(0.1, min(self._seconds / 5, self._left)))  # so one never takes all
        finally:
            self._left -= time.monotonic() - begun

    def _ask(self, request: dict, seconds: float = DEFINING, reply: Callable[[dict], dict] | None = None) -> dict:
        assert self._process is not None
        return self._process.ask(request, seconds, reply)

    def _begin(self) -> None:
        """A new process that has read the cells. A cell with which it ends is left out from then on."""
        while True:
            self.close()
            self._process = Process(self._covered)
            if not self._process.started():
                raise OSError("The process in which answers run could not be started.")
            for name, source in list(self._cells.items()):
                if self._left <= 0:
                    return
                try:
                    reply = self._timed(dict(do="cell", name=name, source=source))
                except Ended:
                    del self._cells[name]
                    break
                if "missing" in reply:
                    raise ModuleNotFoundError(f"{self._name}: {reply['missing']}")
            else:
                return

    def _define(self) -> None:
        """Run the statements that the answers need. One with which the process ends is left out from then on."""
        while True:
            todo = self._ask(dict(do="plan", names=[*checking.exercises(self.notebook)]))["todo"]
            todo = [row for row in todo if row[0] not in self._skipped]
            for _ in range(2):  # cells may be in any order: what failed is tried again after the others
                failed = []
                for number, cell, names in todo:
                    try:
                        no_time = dict(failed=f"{self._seconds:g} seconds were over.")
                        why = (self._timed(dict(do="run", number=number)) if self._left > 0 else no_time).get("failed")
                    except Ended as ended:
                        why = f"{ended}."
                        self._skipped.add(number)
                    for name in names:
                        self._broken.pop(name, None)
                        if why:
                            self._broken[name] = f"{cell} could not be run: {why}"
                    if number in self._skipped:
                        break
                    failed += [(number, cell, names)] if why else []
                else:
                    todo = failed
                    continue
                break
            else:
                return
            self._begin()

    def wrong(self, name: str, further: Callable | None = None) -> str | None:
        """What is wrong with the answer to an exercise such as ex06.cosine_rate, or None.

        further   another check, which is asked instead; what it finds is not in the message
        """
        for again in (True, False):  # the process may end because of what an earlier answer left behind
            try:
                if self._process is None or self._process.killed:
                    self._begin()
                    self._define()
                return self._found(name, further)
            except Ended as ended:
                if ended.late:
                    return f"It had not finished after {self._seconds:g} seconds."
                if not again:
                    return "It ended the whole program."
            except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
                return f"What it returned could not be read ({type(error).__name__})."
        raise AssertionError("not reached")

    def _found(self, name: str, further: Callable | None) -> str | None:
        function = name.partition(".")[2]
        about = self._ask(dict(do="about", name=function))
        if not about["there"]:
            late = f" All cells together took longer than {self._seconds:g} seconds." if self._left <= 0 else ""
            return self._broken.get(function, f"There is no function of that name.{late}")
        if further is not None:
            return None if self._judged(self._watched(further), name, about) is None else FURTHER
        said = self._judged(checking.find(name).ask, name, about)
        if said is None:
            return None
        return " ".join([said, *(why for broken, why in self._broken.items() if f"'{broken}'" in said)])

    def _watched(self, further: Callable) -> Callable:
        """A further check that notes where it fails with an error of its own."""

        @functools.wraps(further)
        def ask(answer: Callable) -> None:
            try:
                further(answer)
            except checking.Wrong:
                raise
            except (wire.Untransferable, Exception) as error:
                self.slips.append(f"{checking.place(further, error)}: {type(error).__name__}: {error}")
                raise

        return ask

    def _judged(self, ask: Callable, name: str, about: dict) -> str | None:
        end = time.monotonic() + self._seconds
        function = name.partition(".")[2]
        if not about["callable"]:
            value = wire.Codec(strict=True).decode(self._ask(dict(do="value", name=function))["value"])
            return checking.judge(ask, value)

        call = functools.partial(self._called, function, end)
        answer = Elsewhere(call, function, str(about["module"]), [str(one) for one in about["parameters"]])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return checking.judge(ask, answer)
        except wire.Untransferable as error:
            return f"The answer gets {error}, which cannot be sent to it."

    def _called(self, function: str, end: float, beside: Callable | None, args: tuple, kwargs: dict) -> Any:
        left = lambda: end - time.monotonic()

        def back(number: int, args: tuple, kwargs: dict) -> Any:  # the check calls a function of the notebook
            return value(self._ask(dict(do="back", number=number, args=codec.encode((args, kwargs))), left(), reply))

        def reply(message: dict) -> dict:  # the answer calls a function that it was given
            try:
                given, named = codec.decode(message["args"])
                return dict(value=codec.encode(codec.functions[message["ask"]](*given, **named)))
            except Exception as error:
                return dict(error=[type(error).__name__, str(error)])

        def value(message: dict) -> Any:
            if "error" in message:
                kind, text = map(str, message["error"])
                raise wire.error(kind, text[:SAID])
            return codec.decode(message["value"])

        codec = wire.Codec(strict=True, call=back)
        try:
            request = dict(do="call", name=function, args=codec.encode((args, kwargs)), beside=codec.encode(beside))
        except RecursionError:
            raise wire.Untransferable("too deep a list") from None
        got = self._ask(request, left(), reply)
        if "args" in got:
            after, named = codec.decode(got["args"])
            wire.put_back(args, after)
            wire.put_back(kwargs, named)
        return value(got)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None


def notebook_of(names: Iterable[str], about: str = "The notebook") -> str:
    """Which exercise notebook defines these names, such as ex06: the one to which most of them belong."""
    known = {notebook: len(set(names) & set(checking.exercises(notebook))) for notebook in checking.notebooks()}
    best = max(known, key=lambda notebook: known[notebook])
    if not known[best]:
        raise ValueError(f"{about} has none of the functions that the exercises ask for; grade a released notebook.")
    return best


def exercises_of(path: Path | str) -> str:
    """Which exercise notebook a file is."""
    statements = cells.parsed(path).statements
    return notebook_of({name for statement in statements for name in statement.binds}, str(path))


def functions(path: Path | str) -> dict[str, Any]:
    """What the answers of a notebook need, by name, defined in this process: only for notebooks that you trust."""
    notebook = cells.parsed(path)
    for number in notebook.needed(checking.exercises(exercises_of(path))):
        with contextlib.suppress(Exception):
            notebook.run(number)
    return vars(notebook.module)


# --- many notebooks ---------------------------------------------------------------------------------------------------


def grade_cells(
    sources: list[str],
    name: str,
    seconds: float = 300.0,
    further: Mapping[str, Callable] = MappingProxyType({}),
    covered: Sequence[str] = (),
    notebook: str | None = None,
) -> tuple[list[Mark], list[str]]:
    """The marks of all exercises of a notebook with these code cells, and the slips of further checks.

    further   {exercise: a further check}, as checking.hidden_checks returns them; the others are those of Submission
    """
    submission = Submission(sources, name, seconds, covered, notebook)
    try:
        there = checking.exercises(submission.notebook).values()
        said = {exercise.name: submission.wrong(exercise.name) for exercise in there}
        for exercise in there:  # afterwards, so that no message can show what the further checks ask
            if said[exercise.name] is None and exercise.name in further:
                said[exercise.name] = submission.wrong(exercise.name, further[exercise.name])
        marks = []
        for exercise in there:
            wrong = said[exercise.name]
            points = float(exercise.points) if wrong is None else 0.0
            message = "" if wrong is None else cells.printable(wrong)[:2000].strip() or "It raised Wrong."
            marks.append(Mark(name, exercise.name, points, exercise.points, message))
        return marks, submission.slips
    finally:
        submission.close()


def grade_notebook(
    path: Path | str, seconds: float = 300.0, further: Mapping[str, Callable] | None = None
) -> list[Mark]:
    """The marks of all exercises of a notebook file; `further` as in grade_cells."""
    return grade_cells(cells.read(path), cells.printable(path), seconds, further or {}, [str(path)])[0]


def grade_all(
    paths: list[Path], table: Path | None = None, seconds: float = 300.0, hidden: Path | None = None
) -> list[Mark]:
    """The marks of many notebooks. Each gets its rows, whatever the others are.

    table    a CSV file, one row per exercise, written again after each notebook
    hidden   a folder of further checks. ValueError before the first notebook if they cannot be used, and after the last
             one if a check failed with an error of its own.
    """
    if table is not None:
        _check_table(table)
    further = checking.hidden_checks(hidden.resolve()) if hidden else {}
    covered = [str(Path(path).absolute()) for path in [*paths, *([hidden] if hidden else [])]]
    if further:
        _try_on_solutions(further, seconds, covered)
    if not isolated():
        print("This system does not isolate the answers: they can use the network and change files.", file=sys.stderr)
    read = [_read(path) for path in paths]  # before any answer runs
    rows: list[list[Mark]] = [[] for _ in paths]
    slips: list[str] = []

    def one(number: int) -> None:
        name, sources = cells.printable(paths[number]), read[number]
        try:
            if isinstance(sources, Exception):
                raise sources
            rows[number], slipped = grade_cells(sources, name, seconds, further, covered)
            slips.extend(slipped)
        except ModuleNotFoundError:
            raise
        except (Exception, Ended) as error:
            rows[number] = [Mark(name, "", 0.0, 0, cells.printable(error))]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = {pool.submit(one, number): number for number in range(len(paths))}
        for done in as_completed(pending):
            done.result()
            marks = rows[pending[done]]
            total, of = sum(mark.marks for mark in marks), sum(mark.of for mark in marks)
            print(
                f"{marks[0].notebook}: {total:g} of {of}" if of else f"{marks[0].notebook}: {marks[0].message}",
                flush=True,
            )
            if table is not None:
                _write(table, [mark for marks in rows for mark in marks])
    if slips:
        raise ValueError(
            f"A further check failed with an error of its own, at {slips[0]}. Its marks are 0: mark again."
        )
    return [mark for marks in rows for mark in marks]


def _read(path: Path) -> list[str] | Exception:
    try:
        return cells.read(path)
    except (ValueError, OSError) as error:
        return error


def _check_table(table: Path) -> None:
    """An error now if the table cannot be written."""
    if table.suffix.lower() != ".csv" or table.is_dir() or not table.parent.is_dir():
        raise ValueError(f"--csv names a file in a folder that exists, such as grades.csv; it was {table}.")
    try:
        tempfile.TemporaryFile(dir=table.parent).close()
    except OSError:
        raise PermissionError(f"Nothing can be written to {table.parent}; choose another --csv.") from None


def _write(table: Path, rows: list[Mark]) -> None:
    text = io.StringIO()
    safe = lambda row: row._replace(message="'" * (row.message[:1] in set("=+-@\t\r")) + row.message)  # no formula
    csv.writer(text, lineterminator="\n").writerows([Mark._fields, *map(safe, rows)])
    with atomic_path(table) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8")


def _try_on_solutions(further: Mapping[str, Callable], seconds: float, covered: Sequence[str]) -> None:
    """ValueError if a further check refuses the course's own solution, where that is at hand."""
    for notebook in sorted({name.partition(".")[0] for name in further}):
        for path in Path(__file__).resolve().parents[2].glob(f"exercises/solutions/*/{notebook}.ipynb"):
            submission = Submission(cells.read(path), str(path), seconds, covered)
            try:
                for name in (name for name in further if name.startswith(f"{notebook}.")):
                    if submission.wrong(name) is None and submission.wrong(name, further[name]):
                        where = next(iter(submission.slips), checking.place(further[name]))
                        raise ValueError(f"The further check of {name} refuses the course's own solution, at {where}.")
            finally:
                submission.close()
