"""Values of answers as JSON, between the process that marks and the one that runs a student's code.

Nothing is unpickled: an array is its dtype, shape and bytes. An object of any other type arrives as a `Foreign`, which
has only a name and a text. So whatever arrives, no code of the student's runs in the process that marks.
"""

import base64
import builtins
import functools
import importlib
import marshal
import operator
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from minimuse.teach.asking import Wrong
from minimuse.teach.cells import used_by

LARGEST = 4_000_000  # bytes of an array
LONGEST, MOST = 1000, 2000  # characters of a text, and entries of a set or dictionary, that an answer may return
PLAIN = (bool, int, float, str)
DTYPES = {np.dtype(t).name: np.dtype(t) for t in (*np.typecodes["AllInteger"], *"?efdFD", "bfloat16")}


class Foreign:
    """An object that does not travel. Its class has the name of the object's own."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Untransferable(BaseException):
    """A value for an answer that exists only in this process, such as a tracer of JAX. No check may catch it."""


class Codec:
    """Values to JSON and back.

    functions   those sent from here, by number, which the other side may call
    strict   for the side of the checks: Untransferable for a type that does not travel; no code is taken, and nothing
             that would cost much to hold
    call     how a function of the other side is called: call(number, args, kwargs)
    """

    def __init__(self, strict: bool = False, call: Callable | None = None):
        self.functions: list[Callable] = []
        self.strict, self.call = strict, call
        self._texts = 0

    def encode(self, value: Any) -> Any:
        """A value as JSON."""
        if value is None or type(value) in PLAIN:
            return value if not isinstance(value, int) or value.bit_length() < 10_000 else self._foreign(value)
        if isinstance(value, PLAIN) and not isinstance(value, np.generic):  # an enumeration, a class of one's own
            return str.__str__(value) if isinstance(value, str) else (int if isinstance(value, int) else float)(value)
        if isinstance(value, complex) and not isinstance(value, np.generic):
            return dict(complex=[value.real, value.imag])
        if isinstance(value, list):
            return list(map(self.encode, value))
        if isinstance(value, (tuple, set, frozenset)):
            kind = next(kind.__name__ for kind in (tuple, set, frozenset) if isinstance(value, kind))
            return {kind: list(map(self.encode, value))}
        if isinstance(value, dict):
            return dict(dict=[[self.encode(k), self.encode(v)] for k, v in value.items()])
        if isinstance(value, bytes):
            return dict(bytes=_text(value))
        if isinstance(value, Tracer):
            return self._foreign(value)
        if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
            return dict(key=[str(jax.random.key_impl(value)), self.encode(np.asarray(jax.random.key_data(value)))])
        if isinstance(value, (np.ndarray, np.generic, jax.Array)):
            kind = "array" if isinstance(value, np.ndarray) else "scalar" if isinstance(value, np.generic) else "jax"
            array = np.asarray(value)
            name = array.dtype.name if array.dtype.name in DTYPES else array.dtype.str
            if (self.strict or array.nbytes <= LARGEST) and (name in DTYPES or array.dtype.kind in "US"):
                return {kind: [name, list(array.shape), _text(array.tobytes())]}
        if isinstance(value, np.random.Generator) and type(value.bit_generator) is np.random.PCG64:
            return dict(rng=value.bit_generator.state)
        if isinstance(value, FunctionType):
            return self._function(value)
        if self.strict and isinstance(inside := getattr(value, "__wrapped__", None), FunctionType):
            return self._function(inside)
        return self._foreign(value)

    def _foreign(self, value: Any) -> Any:
        if self.strict:
            raise Untransferable(f"a {type(value).__name__}")
        try:
            text = repr(value)[:200]
        except Exception:
            text = f"a {type(value).__name__}"
        return dict(foreign=[type(value).__name__, text])

    def _function(self, f: FunctionType) -> Any:
        """A function of a check that can be imported travels by its name, and one without a closure as code, so that
        JAX can trace them; any other is called where it is."""
        if hasattr(f, "comes_back"):
            return dict(back=f.comes_back)
        if self.strict and f.__module__.startswith("minimuse.teach.") and "<" not in f.__qualname__:
            return dict(name=[f.__module__, f.__qualname__])
        if f.__closure__ is None and self.strict:
            used = {name: f.__globals__[name] for name in set(used_by(f.__code__)) if name in f.__globals__}
            modules = {name: value.__name__ for name, value in used.items() if isinstance(value, ModuleType)}
            others = {name: self.encode(value) for name, value in used.items() if name not in modules}
            code, defaults = _text(marshal.dumps(f.__code__)), self.encode(f.__defaults__)
            return dict(code=[code, f.__name__, defaults, modules, others])
        self.functions.append(f)
        return dict(function=[len(self.functions) - 1, f.__name__])

    def decode(self, value: Any) -> Any:
        """JSON as a value; a ValueError, TypeError or another Exception if it is malformed."""
        if isinstance(value, list):
            return list(map(self.decode, value))
        if isinstance(value, str) and self.strict:
            self._texts += 1  # numpy gives each text of an array the size of the longest
            if len(value) > LONGEST or self._texts > 5 * MOST:
                raise ValueError(f"{self._texts:,} texts, the last one of {len(value):,} characters")
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if self.strict and kind in ("set", "frozenset", "dict") and len(content) > MOST:  # all may have one hash
            raise ValueError(f"a {kind} of {len(content):,}")
        if kind in ("tuple", "set", "frozenset"):
            return getattr(builtins, kind)(map(self.decode, content))
        if kind == "dict":
            return {self.decode(k): self.decode(v) for k, v in content}
        if kind == "bytes":
            return base64.b64decode(content)
        if kind == "complex":
            return complex(*content)
        if kind in ("array", "scalar", "jax"):
            return _array(kind, *content)
        if kind == "key":
            return jax.random.wrap_key_data(self.decode(content[1]), impl=content[0])
        if kind == "rng":
            rng = np.random.default_rng(0)
            rng.bit_generator.state = content
            return rng
        if kind == "function" and self.call is not None:
            return self._stub(*content)
        if kind == "back":
            return self.functions[content]
        if kind in ("code", "name") and not self.strict and self.call is not None:
            return self._defined(*content) if kind == "code" else _imported(*content)
        return _foreign(str(content[0])[:100])(str(content[1]))

    def _stub(self, number: int, name: str) -> Callable:
        call: Any = self.call

        def stub(*args: Any, **kwargs: Any) -> Any:
            leaves = jax.tree.leaves((args, kwargs))
            if not any(isinstance(leaf, Tracer) for leaf in leaves):
                return call(number, args, kwargs)
            like = jax.tree.map(lambda a: np.zeros(np.shape(a), a.dtype) if hasattr(a, "dtype") else a, (args, kwargs))
            shapes = jax.tree.map(jax.typeof, call(number, *like))
            on_host = lambda args, kwargs: call(number, args, kwargs)
            return jax.pure_callback(on_host, shapes, args, kwargs, vmap_method="sequential")

        made: Any = stub
        made.__name__, made.comes_back = str(name), number
        return made

    def _defined(self, code: str, name: str, defaults: Any, modules: dict, others: dict) -> Callable:
        used = {name: importlib.import_module(module) for name, module in modules.items()}
        used |= {name: self.decode(value) for name, value in others.items()}
        used["__builtins__"] = builtins
        return FunctionType(marshal.loads(base64.b64decode(code)), used, name, self.decode(defaults))


@functools.lru_cache(1000)
def _foreign(name: str) -> type[Foreign]:
    return type(name, (Foreign,), {})


def _imported(module: str, name: str) -> Any:
    return operator.attrgetter(name)(importlib.import_module(module))


def error(kind: str, text: str) -> Exception:
    """An exception like one of the other side: its name, its message, and its base if Python has it; or its Wrong."""
    if kind == "Wrong":
        return Wrong(text)
    base: Any = getattr(builtins, kind, Exception)
    base = base if isinstance(base, type) and issubclass(base, Exception) else Exception
    try:
        made: Any = type(kind, (base,), dict(__str__=lambda self: text))
        return made(text)
    except (TypeError, ValueError):
        return Exception(text)


def put_back(before: Any, after: Any) -> None:
    """Change arrays, lists, dictionaries and generators in place to what an answer made of its copies."""
    if isinstance(before, tuple) and isinstance(after, tuple):
        for one, other in zip(before, after):
            put_back(one, other)
    elif isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        if (before.shape, before.dtype) == (after.shape, after.dtype) and before.flags.writeable:
            before[...] = after
    elif isinstance(before, list) and isinstance(after, list):
        before[:] = after
    elif isinstance(before, dict) and isinstance(after, dict):
        before.clear()
        before.update(after)
    elif isinstance(before, np.random.Generator) and isinstance(after, np.random.Generator):
        before.bit_generator.state = after.bit_generator.state


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _array(kind: str, name: str, shape: list[int], content: str) -> Any:
    dtype = DTYPES[name] if name in DTYPES else np.dtype(name)
    if name not in DTYPES and dtype.kind not in "US":
        raise ValueError(f"arrays of {name} do not travel")
    array = np.frombuffer(base64.b64decode(content), dtype).reshape(shape).copy()
    if kind == "scalar":
        return array[()]
    return jax.numpy.asarray(array) if kind == "jax" and jax.dtypes.canonicalize_dtype(dtype) == dtype else array
