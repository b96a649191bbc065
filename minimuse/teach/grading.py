"""Marks for whole notebooks, without nbgrader: `python -m minimuse grade submissions/*.ipynb --csv grades.csv`.

A notebook is not run. Its imports, functions, classes and plain constants are found in the syntax tree and defined, so
lost metadata, reordered cells and long training runs do no harm. This still runs code that students wrote: each
notebook gets a process of its own with a time limit. If you do not trust the code, use a machine that you can lose.
"""

import ast
import csv
import io
import json
import linecache
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from minimuse.files import write_text
from minimuse.teach import checking


class Mark(NamedTuple):
    """One row of grades.csv."""

    notebook: str
    exercise: str
    marks: float
    of: int
    message: str  # what `check` would print


def read(path: Path) -> dict[str, list[str]]:
    """The code cells of a notebook file, {"cells": [source]}, or a ValueError if it is not a notebook."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        return dict(cells=["".join(cell["source"]) for cell in cells])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} is not a Jupyter notebook in format 4.") from None


def statements(path: Path) -> list[tuple[ast.stmt, str]]:
    """The statements of all code cells that can run without the rest, each with the name of its cell."""
    found = []
    for number, source in enumerate(read(path)["cells"]):
        if source.lstrip().startswith("%%"):
            continue
        lines = [f"pass  # {line}" if line.startswith(("%", "!")) else line for line in source.splitlines()]
        name = f"{Path(path).name}, code cell {number + 1}"
        try:
            tree = ast.parse("\n".join(lines), name)
        except SyntaxError:
            continue  # a broken cell costs only what it defines
        linecache.cache[name] = (len(source), None, [f"{line}\n" for line in lines], name)  # for messages
        found += [(statement, name) for statement in tree.body if _defines(statement)]
    return found


def _defines(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        plain = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.UnaryOp, ast.BinOp, ast.Lambda, ast.Name)
        names = all(isinstance(target, ast.Name) for target in statement.targets)
        return names and isinstance(statement.value, plain) and not any(map(_calls, ast.walk(statement.value)))
    return isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def _calls(node: ast.AST) -> bool:
    return isinstance(node, (ast.Call, ast.Await, ast.NamedExpr))


def functions(path: Path) -> dict[str, Any]:
    """What a notebook defines, by name; if a name is defined twice, the last definition."""
    namespace: dict[str, Any] = dict(__name__="__notebook__")
    for statement, name in statements(path):
        try:
            exec(compile(ast.Module([statement], []), name, "exec"), namespace)
        except (Exception, SystemExit):  # a missing import, a default value that needs another cell
            continue
    return namespace


def exercises_of(path: Path) -> str:
    """Which exercise notebook this is, such as ex06: the one to which most of its functions belong."""
    names = {statement.name for statement, _ in statements(path) if isinstance(statement, ast.FunctionDef)}
    found = {notebook: len(names & set(checking.exercises(notebook))) for notebook in checking.notebooks()}
    best = max(found, key=lambda notebook: found[notebook])
    if not found[best]:
        raise ValueError(f"{path} has none of the functions that the exercises ask for; grade a released notebook.")
    return best


def _ask(path: Path, names: list[str]) -> None:
    """In the child process: print one line of JSON per exercise, as soon as its marks are known."""
    out = sys.stdout
    with checking.quiet(io.StringIO()):
        answers = functions(path)
        for name in names:
            answer, found = answers.get(name.partition(".")[2]), checking.find(name)
            wrong = "There is no function of that name." if answer is None else checking.judge(found.ask, answer)
            if wrong is None and any(checking.judge(ask, answer) for ask in checking.hidden(name)):
                wrong = "The further checks, which students do not have, found a mistake."
            print(json.dumps([name, 0 if wrong else found.points, wrong or ""]), file=out, flush=True)


def grade_notebook(path: Path, seconds: float = 300.0) -> list[Mark]:
    """The marks of all exercises of a notebook. An answer that takes longer than `seconds` gets no marks."""
    notebook = exercises_of(path)
    there = {exercise.name: exercise for exercise in checking.exercises(notebook).values()}
    marks, left = {}, list(there)
    while left:
        command = [sys.executable, "-m", "minimuse.teach.grading", str(path), *left]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds)
            printed, ended = done.stdout, "It ended the whole program."
        except subprocess.TimeoutExpired as late:
            printed, ended = late.stdout or b"", f"It had not finished after {seconds:g} seconds."
        for line in printed.decode("utf-8", "replace").splitlines():
            try:
                name, points, message = json.loads(line)
                marks[name] = Mark(str(path), name, float(points), there[name].points, message)
            except (ValueError, TypeError, KeyError):
                continue  # the answer printed this
        left = [name for name in left if name not in marks]
        if left:  # it stopped at the first of them
            name = left.pop(0)
            marks[name] = Mark(str(path), name, 0.0, there[name].points, ended)
    return [marks[name] for name in there]


def grade_all(paths: list[Path], table: Path | None = None, seconds: float = 300.0) -> list[Mark]:
    """The marks of many notebooks; `table` is a CSV file to write, one row per exercise."""
    rows = []
    for path in paths:
        try:
            marks = grade_notebook(path, seconds)
        except (ValueError, OSError) as error:
            marks = [Mark(str(path), "", 0.0, 0, str(error))]
        rows += marks
        total, of = sum(mark.marks for mark in marks), sum(mark.of for mark in marks)
        print(f"{path}: {total:g} of {of}" if of else f"{path}: {marks[0].message}", flush=True)
    if table is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([Mark._fields, *rows])
        write_text(table, text.getvalue())
    return rows


if __name__ == "__main__":
    _ask(Path(sys.argv[1]), sys.argv[2:])
