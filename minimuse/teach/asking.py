"""The building blocks of the checks in checks/: what an exercise asks, and what is wrong with an answer.

An exercise is a function of an answer. It returns nothing if the answer is right, and raises `Wrong` if it is not, with
one friendly paragraph that names the likely mistake. Answers are functions as well, so they can be tried on several
seeds and shapes, and found in a notebook by name. Most checks call `compare`: it tries an answer on several inputs and
names a known mistake only if the answer makes it on two of them or more.
"""

import copy
import functools
import inspect
import linecache
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

WIDTH = 100  # characters per line of messages


class Wrong(Exception):
    """What is wrong with an answer: one paragraph, addressed to its author.

    table   {name: text}, printed below the paragraph, one line or more per name
    """

    def __init__(self, paragraph: str, table: Mapping[str, str] | None = None):
        super().__init__(paragraph)
        self.table = dict(table or {})

    def __str__(self) -> str:
        width = max(map(len, self.table), default=0)
        rows = [f"{name:>{width}}  " + text.replace("\n", "\n  " + " " * width) for name, text in self.table.items()]
        return "\n".join([super().__str__(), *rows])


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


def call(answer: Callable, *args: Any, **kwargs: Any) -> Any:
    """answer(*args, **kwargs) on copies; Wrong if it raises an error or changes what it is given."""
    given = copy.deepcopy((args, kwargs))
    try:
        value = answer(*given[0], **given[1])
    except Wrong:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, NotImplementedError) and (str(error).isidentifier() or not str(error)):  # not one of JAX's
            raise Wrong("It is not written yet. Replace the line `raise NotImplementedError` by your code.") from None
        shown = ", ".join([*map(describe, args), *(f"{key}={describe(value)}" for key, value in kwargs.items())])
        raise Wrong(f"Called with ({shown}) it raised {type(error).__name__}: {error}{_line(answer, error)}") from None
    for name, before, after in [*zip(_names(answer), args, given[0]), *((k, kwargs[k], given[1][k]) for k in kwargs)]:
        if not _unchanged(before, after):
            raise Wrong(
                f"It changes its argument `{name}`: whoever called it still needs that. Work on a copy, such as "
                f"`{name}.copy()`, or build a new array with `np.where`."
            )
    return value


class Elsewhere:
    """An answer in another process, as the checks see it while notebooks are marked.

    ask          ask(f, args, kwargs) calls the answer there; with a function f, f(answer, *args, **kwargs)
    parameters   the names of the answer's parameters, if they are known
    """

    def __init__(self, ask: Callable, name: str, module: str, parameters: list[str]):
        self.ask, self.__name__, self.__module__ = ask, name, module
        if len(set(parameters)) == len(parameters) and all(map(str.isidentifier, parameters)):
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            self.__signature__ = inspect.Signature([inspect.Parameter(one, kind) for one in parameters])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.ask(None, args, kwargs)


def beside(f: Callable, answer: Callable, *args: Any) -> Any:
    """f(answer, *args), computed where the answer runs: for what only JAX can do with it, such as a gradient.

    What f returns is to be compared by whoever called this; while notebooks are marked, f runs within reach of the
    student's code. So f and args must not hold what is right.

    f   a function at the top level of a file of checks
    """
    return answer.ask(f, args, {}) if isinstance(answer, Elsewhere) else f(answer, *args)


def _run_compiled(answer: Callable, static: tuple[int, ...], *args: Any) -> Any:
    return compiled(answer, static)(*args)


def compiled(answer: Callable, static: tuple[int, ...] = ()) -> Callable:
    """An answer under `jax.jit`; Wrong where JAX cannot trace it.

    static   the places of arguments that stay Python values
    """
    program = None if isinstance(answer, Elsewhere) else jax.jit(answer, static_argnums=static)

    @functools.wraps(answer)
    def run(*args: Any) -> Any:
        if program is None:
            return beside(_run_compiled, answer, static, *args)
        try:
            return program(*args)
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
            raise Wrong(
                f"`jax.jit` cannot compile it ({type(error).__name__}). Use `jnp` and `jax` only: no numpy, no "
                f"`float(...)`, and no `if`, loop or mask in brackets that depends on traced values."
                f"{_line(answer, error)}"
            ) from None

    return run


def compiles(answer: Callable, *args: Any) -> None:
    """Wrong unless `jax.jit` can compile an answer, to a program that returns the same as without it.

    Arrays and keys in args are traced; ints, pairs of ints and functions are constants.
    """
    fixed = [i for i, arg in enumerate(args) if not all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(arg))]
    value = call(compiled(answer, tuple(fixed)), *args)
    (found, form), (leaves, plain) = jax.tree.flatten(value), jax.tree.flatten(call(answer, *args))
    if form != plain or not all(map(close, found, leaves)):
        raise Wrong("Under `jax.jit` it returns other results. They may depend only on the arguments.")


def _names(f: Callable) -> Iterator[str]:
    """The names of a function's arguments, as far as they are known."""
    try:
        yield from inspect.signature(f).parameters
    except (TypeError, ValueError):
        pass
    while True:
        yield "argument"


def _unchanged(before: Any, after: Any) -> bool:
    """Whether arrays, lists and dictionaries are as they were. Generators of random numbers may move on."""
    before, after = (np.asarray(x) if hasattr(x, "dtype") and _array(x) is not None else x for x in (before, after))
    if isinstance(before, np.ndarray):
        same_kind = isinstance(after, np.ndarray) and (before.dtype, before.shape) == (after.dtype, after.shape)
        return same_kind and before.tobytes() == after.tobytes()
    if isinstance(before, (list, tuple)):
        return type(before) is type(after) and len(before) == len(after) and all(map(_unchanged, before, after))
    if isinstance(before, dict):
        return isinstance(after, dict) and _unchanged([*before.items()], [*after.items()])
    if isinstance(before, set):  # a copy may list its elements in another order
        return isinstance(after, set) and before == after
    return not isinstance(before, (bool, int, float, str)) or repr(before) == repr(after)


def _line(answer: Callable, error: BaseException) -> str:
    """The line in the answer's own file that raised an error."""
    own = getattr(getattr(inspect.unwrap(answer), "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    if not frames or not (text := linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()):
        return ""
    return f" In the line: {text}"


def describe(value: Any) -> str:
    """A value as messages show it: an array that is not tiny by its type and shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = _array(value) if np.size(value) <= 8 else None  # a key of JAX is not an array of numbers
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
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise Wrong(f"It returned {describe(value)}, a {type(value).__name__}; return {kind}s of shape {list(shape)}.")
    if array.dtype.kind not in KINDS[kind] and not (kind == "float" and array.dtype.name == "bfloat16"):
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


def compare(
    answer: Callable,
    cases: Iterable[tuple],
    right: Callable,
    mistakes: Mapping[str, Callable] | None = None,
    *,
    kind: str = "float",
    read: Callable[[Any], Any] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Try an answer on several inputs; Wrong unless it gives the right result for all of them.

    cases      tuples of arguments, the smallest first: the first that fails is shown
    right      the reference: a function of the same arguments, whose parameters name them in messages
    mistakes   {paragraph: a function of the same arguments that makes this mistake}. One is named if the answer agrees
               with it on all cases, and two of these differ from the right result; if it agrees on a third of
               those that do, the paragraph begins with "This looks like a known mistake".
    kind       "float", "int" or "bool": what the result holds
    read       what is compared of the returned value, such as its first part; None for all of it
    """
    cases = list(cases)
    expected = [np.asarray(right(*copy.deepcopy(case))) for case in cases]
    returned = [call(answer, *case) for case in cases]
    parts = [read(value) if read else value for value in returned]
    certain, likely = _known(cases, expected, parts, mistakes or {}, tolerance)
    for case, part, result in zip(cases, parts, expected):
        if certain is None:
            numbers(part, result.shape, kind)
        elif (array := _array(part)) is not None and close(array, result, tolerance):
            continue
        if certain is not None or not close(numbers(part, result.shape, kind), result, tolerance):
            names = [*inspect.signature(right).parameters]
            table = {name: show(value) for name, value in zip(names, case)}
            table |= dict(zip(("yours", "right"), _beside(np.asarray(part), result, tolerance)))
            raise Wrong(certain or likely or "Not all results are right. The smallest that is not:", table)


def _known(
    cases: list[tuple], expected: list[np.ndarray], parts: list[Any], mistakes: Mapping[str, Callable], tolerance: float
) -> tuple[str | None, str | None]:
    """The paragraph of the mistake that an answer certainly makes, or else of one that it may make, or None."""
    arrays, likely, most = [_array(part) for part in parts], None, 0
    for paragraph, mistake in mistakes.items():
        agree = distinct = differing = 0
        for case, array, result in zip(cases, arrays, expected):
            try:
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    made = np.asarray(mistake(*copy.deepcopy(case)))
            except Exception:  # a mistake that cannot be made here
                continue
            other = not close(made, result, tolerance)
            differing += other
            if array is not None and close(array, made, tolerance):
                agree += 1
                distinct += other
        if agree == len(cases) and distinct >= 2:
            return paragraph, None
        if distinct > most and 3 * distinct >= differing:
            likely, most = f"This looks like a known mistake, but it is not that everywhere: {paragraph}", distinct
    return None, likely


def in_any_order(ask: Callable, cases: Sequence) -> list:
    """ask(case) for each case, in an order that no answer can know, so that it cannot count its calls; the results in
    the order of the cases."""
    found = {i: ask(cases[i]) for i in np.random.default_rng().permutation(len(cases)).tolist()}
    return [found[i] for i in range(len(cases))]


def _array(value: Any) -> np.ndarray | None:
    """A returned value as an array of numbers, or None."""
    try:
        array = np.asarray(value)
    except Exception:  # an object's own __array__ may raise anything
        return None
    return array if array.dtype.kind in "biuf" else None


def show(value: Any) -> str:
    """A value for a table: small arrays entry by entry, one row of a matrix per line, others by type and shape."""
    array = _array(value)
    if array is None or array.ndim > 2 or array.size > 60 or (array.ndim and array.shape[-1] > 12):
        return describe(value)
    array = array.astype(int) if array.dtype.kind == "b" else array
    with np.printoptions(precision=4, suppress=True, linewidth=WIDTH):
        return str(array)


def _beside(got: np.ndarray, result: np.ndarray, tolerance: float) -> tuple[str, str]:
    """What was returned and what is right, for a table: whole if small, else the first entry that differs."""
    if got.shape != result.shape or (result.ndim <= 2 and result.size <= 60 and (result.shape or (1,))[-1] <= 12):
        return show(got), show(result)
    differ = ~np.isclose(got.astype(float), result.astype(float), rtol=tolerance, atol=tolerance)
    first = tuple(int(i) for i in np.argwhere(differ)[0])
    where = f"at {list(first)}, the first of {differ.sum()} that differ"
    return f"{describe(got[first])} {where}", f"{describe(result[first])} there"


def unless(
    got: np.ndarray, mistakes: Mapping[str, Any], right: ArrayLike | None = None, tolerance: float = 1e-4
) -> None:
    """Raise Wrong if the answer equals the result of a known mistake, for inputs on which no other mistake gives it.

    `compare` is safer, since it tries several inputs.

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
    if not isinstance(letter, str) or str.lower(str.strip(letter)) not in {right, *wrong}:  # not a subclass's methods
        letters = ", ".join(f'"{name}"' for name in sorted([right, *wrong]))
        raise Wrong(f"It returned {describe(letter)}; return one of the letters {letters}.")
    if (letter := str.lower(str.strip(letter))) != right:
        raise Wrong(f"“{letter}” is not right. {wrong[letter]}")
