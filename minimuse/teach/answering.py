"""The process in which a student's answers run: `python -m minimuse.teach.answering`, started by grading.py.

It defines what a notebook defines, and calls an answer when it is asked to. The checks, and what they expect, stay in
the other process. What JAX has to do with an answer, such as its gradient, is computed here and compared there.
"""

import functools
import json
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from minimuse.teach import sandbox


class Answers:
    """What can be asked for: the methods without an underscore. Each returns a dictionary."""

    def __init__(self, exchange: Callable[[dict], dict]):
        from minimuse.teach import cells, wire

        self._notebook, self._exchange, self._error = cells.Notebook(), exchange, wire.error
        self._codec = wire.Codec(call=self._ask)
        sys.modules["__main__"] = self._notebook.module

    def _ask(self, number: int, args: tuple, kwargs: dict) -> Any:
        """Call a function of the check's."""
        reply = self._exchange(dict(ask=number, args=self._codec.encode((args, kwargs))))
        if "error" in reply:
            raise self._error(*reply["error"])
        return self._codec.decode(reply["value"])

    def cell(self, name: str, source: str) -> dict:
        """Read a cell."""
        try:
            self._notebook.add(name, source)
        except ModuleNotFoundError as error:
            return dict(missing=str(error))
        except (Exception, SystemExit) as error:
            return dict(failed=f"{type(error).__name__}: {error}")
        return {}

    def names(self) -> dict:
        """All names that the cells bind."""
        return dict(names=sorted({name for statement in self._notebook.statements for name in statement.binds}))

    def plan(self, names: list[str]) -> dict:
        """The statements that these names depend on: number, cell and names."""
        there = self._notebook.statements
        return dict(todo=[[n, there[n].cell, sorted(there[n].binds)] for n in self._notebook.needed(names)])

    def run(self, number: int) -> dict:
        """Run a statement."""
        try:
            self._notebook.run(number)
        except BaseException as error:
            return dict(failed=f"{type(error).__name__}: {error}")
        return {}

    def about(self, name: str) -> dict:
        """What an answer is."""
        answer = vars(self._notebook.module).get(name)
        code = getattr(answer, "__code__", None)
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else []
        module = str(getattr(answer, "__module__", ""))
        return dict(there=answer is not None, callable=callable(answer), module=module, parameters=list(names))

    def value(self, name: str) -> dict:
        """An answer that is not a function."""
        return dict(value=self._codec.encode(vars(self._notebook.module).get(name)))

    def call(self, name: str, args: Any, beside: Any = None) -> dict:
        """Call an answer: its value, or the error that it raised; and its arguments if they have changed.

        beside   a function of the check's that is called instead, with the answer before the other arguments
        """
        self._codec.functions.clear()
        answer = vars(self._notebook.module)[name]
        return self._called(functools.partial(self._codec.decode(beside), answer) if beside else answer, args)

    def back(self, number: int, args: Any) -> dict:
        """Call a function that an answer gave to a function of the check's."""
        return self._called(self._codec.functions[number], args)

    def _called(self, f: Callable, args: Any) -> dict:
        given = self._codec.decode(args)
        before = json.dumps(self._codec.encode(given))
        try:
            reply = dict(value=self._codec.encode(f(*given[0], **given[1])))
        except BaseException as error:
            kind = type(error).__name__
            reply = dict(error=[kind, str(error) + ("" if kind in ("Wrong", "NotImplementedError") else _line(error))])
        after = json.dumps(self._codec.encode(given))
        return reply if before == after else reply | dict(args=json.loads(after))


def _line(error: BaseException) -> str:
    """The last line in a cell of the notebook on the way to an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if ", code cell " in frame.filename]
    text = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip() if frames else ""
    return f" In the line: {text}" if text else ""


def main() -> None:
    """Answer requests until there are no more. Each reply begins with the mark of its request, which is not known
    before."""
    inward, outward = sandbox.channel()
    first = json.loads(inward.readline())
    if first["locked"]:
        sandbox.lock(first["folder"], first["covered"])
    sandbox.limit()
    os.chdir(first["folder"])
    mark = b""

    def serve(content: bytes) -> None:
        nonlocal mark
        before, mark, request = mark, content[:16], json.loads(content[16:])
        try:
            reply = getattr(answers, request.pop("do"))(**request)
            if len(json.dumps(reply)) > sandbox.LARGEST // 2:
                reply = dict(error=["MemoryError", "what it returned is too large"])
        except BaseException as error:
            reply = dict(error=[type(error).__name__, str(error)])
        sandbox.send(outward, mark, reply)
        mark = before

    def exchange(message: dict) -> dict:
        sandbox.send(outward, mark, message)
        while True:
            content = sandbox.receive(inward) or b""
            if b'"do"' not in content[16:24]:
                return json.loads(content[16:])
            serve(content)

    answers = None if first["probe"] else Answers(exchange)
    outward.write(b"\n")
    outward.flush()
    while (content := sandbox.receive(inward)) is not None:
        serve(content)


if __name__ == "__main__":
    main()
