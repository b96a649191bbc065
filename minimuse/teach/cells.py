"""What the code cells of a submitted notebook define, without running the notebook.

A notebook holds more than answers: training runs, plots, calls of `check`. So only the statements are run that the
answers need: those that bind a name that an answer uses, what these use in turn, and so on. That holds wherever the
statement stands: at the top of a cell, under `if`, `try` or `with`, or in a cell with a magic such as `%%time`.
"""

import __future__

import ast
import contextlib
import dis
import json
import linecache
import re
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

BODIES = {"time", "capture", "prun"}  # cell magics that run the rest of the cell as a part of the notebook
MISSING = "It uses magics such as %time, which only IPython can read. Install it: pip install ipython."
LARGEST = 100_000_000  # bytes of a notebook; more is not read


def read(path: Path | str) -> list[str]:
    """The sources of a notebook's code cells; a ValueError of one sentence if it is not a notebook."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError
        content = json.loads(path.read_bytes())
        sheets = [content] if "cells" in content else content["worksheets"]  # format 4; format 3
        cells = [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source" if "source" in cell else "input"]) for cell in cells]
        return [source.encode("utf-8", "replace").decode() for source in sources]  # half a surrogate becomes "?"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError):
        raise ValueError(f"{printable(path)} is not a Jupyter notebook.") from None


def printable(value: object) -> str:
    """A text that can be written as UTF-8, also for a path whose bytes are not."""
    return str(value).encode("utf-8", "replace").decode()


def plain(source: str) -> str:
    """The Python of a cell: its magics and shell commands as IPython reads them."""
    try:
        ast.parse(source)
        return source
    except SyntaxError:
        pass
    try:
        from IPython.core.inputtransformer2 import TransformerManager
    except ImportError:
        raise ModuleNotFoundError(MISSING, name="IPython") from None
    source = TransformerManager().transform_cell(source)
    magic = re.match(r"get_ipython\(\)\.run_cell_magic\(", source)
    if magic is None:
        return source
    call: Any = ast.parse(source).body[0]
    name, _, body = (argument.value for argument in call.value.args)
    return plain(body) if name in BODIES else ""


class Statement:
    """A statement at the top of a cell, with the names that it binds and those that it uses."""

    def __init__(self, node: ast.stmt, cell: str, flags: int):
        self.cell = cell
        self.code = compile(ast.Module([node], []), cell, "exec", flags, dont_inherit=True)
        self.uses = set(used_by(self.code))
        self.binds = {i.argval for i in dis.get_instructions(self.code) if i.opname == "STORE_NAME"}
        self.binds |= set(_globals_stored(self.code))
        self.imports = isinstance(node, (ast.Import, ast.ImportFrom))
        self.star = isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        self.changes = set(_changed(node))  # of these names, the value is changed in place


def used_by(code: CodeType) -> Iterable[str]:
    """The names that code looks up outside of its own functions."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield instruction.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from used_by(inner)


def _globals_stored(code: CodeType) -> Iterable[str]:
    """The names that functions declare as global and bind."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals_stored(inner)


def _changed(node: ast.AST) -> Iterable[str]:
    """The names whose value a statement changes: `a[0] = 1`, `a.b = 1`, `a.append(1)`."""
    todo = [node]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        todo += ast.iter_child_nodes(node)
        changed: Any = node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            changed = node.value.func
        elif not (isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store)):
            continue
        if isinstance(changed, (ast.Attribute, ast.Subscript)):
            while isinstance(changed, (ast.Attribute, ast.Subscript)):
                changed = changed.value
            if isinstance(changed, ast.Name):
                yield changed.id


class Notebook:
    """The statements of a notebook's cells, and a module in which they are run."""

    def __init__(self):
        self.statements: list[Statement] = []
        self.module = ModuleType("__main__")  # as in Jupyter
        self.failed: dict[str, str] = {}  # name: why the statement that binds it could not be run
        self._flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def add(self, cell: str, source: str) -> None:
        """Read a cell; whatever is wrong with it is raised, and costs only what the cell defines."""
        source = plain(source)
        lines = source.splitlines(keepends=True)
        linecache.cache[cell] = (len(source), None, lines, cell)  # for messages
        nodes = ast.parse(source, cell).body
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                for alias in node.names:
                    self._flags |= getattr(__future__, alias.name).compiler_flag
        self.statements += [Statement(node, cell, self._flags) for node in nodes]

    def needed(self, names: Iterable[str]) -> list[int]:
        """The numbers of the statements on which these names depend, in the notebook's order."""
        imported = {name for statement in self.statements if statement.imports for name in statement.binds}
        found, todo, seen = set(), list(names), set()
        while todo:
            if (name := todo.pop()) in seen:
                continue
            seen.add(name)
            for number, statement in enumerate(self.statements):
                changes = statement.changes if name not in imported else ()
                if number not in found and (name in statement.binds or name in changes):
                    found.add(number)
                    todo += statement.uses
        return sorted(found | {number for number, statement in enumerate(self.statements) if statement.star})

    def run(self, number: int) -> None:
        """Run a statement; what it raises is kept in `failed`, and raised again."""
        statement = self.statements[number]
        try:
            exec(statement.code, self.module.__dict__)
        except BaseException as error:
            why = f"{statement.cell} could not be run ({type(error).__name__}: {error})."
            self.failed |= dict.fromkeys(statement.binds, why)
            raise
        for name in statement.binds:
            self.failed.pop(name, None)


def parsed(path: Path | str) -> Notebook:
    """A notebook file with all cells that can be read."""
    notebook = Notebook()
    for number, source in enumerate(read(path), 1):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            notebook.add(f"{Path(path).name}, code cell {number}", source)
    return notebook
