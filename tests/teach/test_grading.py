"""Marks for whole notebooks, whatever is handed in."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import handed_in
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse import cli
from minimuse.teach import cells, checking, grading, sandbox, wire
from minimuse.teach.checks import formulas, tracing

ROOT = Path(__file__).resolve().parents[2]


def notebook_of(*sources: str) -> str:
    code = [dict(cell_type="code", source=source, metadata={}, outputs=[], execution_count=None) for source in sources]
    return json.dumps(dict(cells=code, metadata={}, nbformat=4, nbformat_minor=5))


def defined(*sources: str, name: str = "answer"):
    """What a notebook with these cells defines under a name."""
    notebook = cells.Notebook()
    for number, source in enumerate(sources):
        notebook.add(f"code cell {number}", source)
    for number in notebook.needed([name]):
        notebook.run(number)
    return vars(notebook.module).get(name)


# --- what a notebook defines ------------------------------------------------------------------------------------------

WAYS = [
    "def answer():\n    return 3",
    "%%time\ndef answer():\n    return 3",
    "%%capture out\n%%time\n\ndef answer():\n    return 3",
    "%matplotlib inline\n!ls\nfiles = !ls\nt = %timeit -o 1\nanswer?\ndef answer():\n    return 3\nanswer?",
    "a, (b, *c) = 1, (2, 3)\nanswer = lambda: a + b",
    "import math\nk = math.tau\nk /= math.tau\nanswer = lambda: 3 * k",
    "k = [1]\nk.append(2)\nk[0] = 2\nanswer = lambda: k[0] + k[1] - 1",
    "if True:\n    if True:\n        def answer():\n            return 3",
    "try:\n    import nothing\nexcept ImportError:\n    k = 3\nanswer = lambda: k",
    "import contextlib\nwith contextlib.suppress(OSError) as k:\n    def answer():\n        return 3",
    "for k in range(4):\n    pass\nanswer = lambda: k",
    "def made(k):\n    return lambda: k\nanswer = made(3)",
    "from functools import cache\n@cache\ndef helper():\n    return 3\ndef answer():\n    return helper()",
    "class K:\n    k = 3\nanswer = lambda: K.k",
    "from math import *\nanswer = lambda: floor(pi)",
    "def start():\n    global k\n    k = 3\nstart()\nif start():\n    pass\nk = 3\nanswer = lambda: k",
    'def answer():\n    """A text.\n!ls\n%time\n    """\n    return 3',
]


@pytest.mark.parametrize("source", WAYS)
def test_what_jupyter_defines_is_defined(source):
    assert defined(source)() == 3


def test_only_what_the_answer_needs_is_run():
    sources = ("x = 1 / 0", "losses = train()", "answer = lambda x: [x for losses in [x]]", "import none")
    assert defined(*sources)(2) == [2]
    with pytest.raises(ZeroDivisionError):
        defined("k = 1 / 0", "answer = lambda: k")
    assert defined("%%timeit\ndef answer():\n    return 3") is None  # Jupyter does not keep it either
    assert defined("%%bash\nanswer=3") is None


def test_without_ipython_magics_are_said_to_need_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.core.inputtransformer2", None)
    assert defined("def answer():\n    return 3")() == 3
    with pytest.raises(ModuleNotFoundError, match="pip install ipython"):
        defined("%time answer = 3")


@pytest.mark.parametrize("content", handed_in.BROKEN.values(), ids=handed_in.BROKEN)
def test_what_is_no_notebook_is_a_value_error(content, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ValueError, match="a.ipynb"):
        grading.notebook_of([], str(tmp_path / "a.ipynb")) if cells.read(tmp_path / "a.ipynb") else None
    with pytest.raises(ValueError, match="a.ipynb"):
        grading.exercises_of(tmp_path / "a.ipynb")


def test_notebooks_in_other_forms_are_read(tmp_path):
    for content in (
        notebook_of("a", "b").encode("utf-16"),
        b"\xef\xbb\xbf" + notebook_of("a", "b").encode(),
        json.dumps(
            dict(worksheets=[dict(cells=[dict(cell_type="code", input=list("a")), dict(cell_type="code", input="b")])])
        ).encode(),
    ):
        (tmp_path / "a.ipynb").write_bytes(content)
        assert cells.read(tmp_path / "a.ipynb") == ["a", "b"]
    (tmp_path / "a.ipynb").write_text(notebook_of("# \ud83d"))
    assert cells.read(tmp_path / "a.ipynb")[0].encode()


# --- values on the pipe -----------------------------------------------------------------------------------------------


class Text(str):
    __eq__ = lambda self, other: True
    __hash__ = str.__hash__


VALUES = [
    None, True, 3, 10**40, -0.5, "é", b"\x00", 2j, [1, [2]], (1, (2,)), {1, 2}, {"a": {0: (1,)}},
    np.float32(2.5), np.arange(6).reshape(2, 3), np.zeros((0, 2), bool), np.array(["a", "bc"]), np.array(1.5),
]  # fmt: skip


def travel(value):
    return wire.Codec().decode(json.loads(json.dumps(wire.Codec().encode(value))))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_values_arrive_as_they_were(value):
    arrived = travel(value)
    assert type(arrived) is type(value)
    if isinstance(value, (np.ndarray, np.generic)):
        assert arrived.dtype == value.dtype and arrived.shape == value.shape and (arrived == value).all()
    else:
        assert arrived == value


def test_jax_arrays_keys_and_generators_arrive():
    for array in (jnp.arange(3), jnp.ones((2, 1), jnp.bfloat16)):
        assert isinstance(travel(array), jax.Array) and travel(array).dtype == array.dtype
        assert (travel(array) == array).all()
    key = jax.random.key(3)
    assert jax.random.bits(travel(key)) == jax.random.bits(key)
    assert travel(np.random.default_rng(3)).integers(99) == np.random.default_rng(3).integers(99)


def test_an_object_arrives_as_its_name_only():
    assert type(travel(Text("a"))) is str and travel(Text("a")) != "b"
    odd = travel([object(), len, np.array([None]), (i for i in "ab")])
    assert [type(one).__name__ for one in odd] == [
        "object",
        "builtin_function_or_method",
        "ndarray",
        "generator",
    ]
    assert all(isinstance(one, wire.Foreign) and not callable(one) for one in odd)


@pytest.mark.parametrize(
    "message",
    [
        {"array": ["object", [1], "AAAAAAAAAAA="]},
        {"array": ["float64", [3], "AAAA"]},
        {"array": ["float64", [10**12], ""]},
        {"rng": {"bit_generator": "PCG64"}},
        {"key": ["none", [1]]},
        {"set": [[]]},
        {"a": 1, "b": 2},
        {},
        {"code": 3},
    ],
)
def test_malformed_values_are_errors(message):
    with pytest.raises((ValueError, TypeError, KeyError)):
        wire.Codec().decode(message)


@pytest.mark.parametrize(
    "costly",
    ["x" * 10_000, [["x"] * 6000] * 2, {"set": [*range(5000)]}, {"dict": [[one, 0] for one in range(5000)]}],
    ids=["a long text", "many texts", "a set", "a dictionary"],
)
def test_what_costs_much_to_hold_is_refused_by_the_checks(costly):
    with pytest.raises(ValueError, match="a set|a dict|texts"):
        wire.Codec(strict=True).decode(costly)


def test_functions_without_a_closure_travel_from_the_checks_only():
    here, there = wire.Codec(strict=True), wire.Codec(call=lambda number, args, kwargs: ("called", number, args))
    k = 3
    plain, closed = wire.Codec(strict=True).encode([lambda x: np.sin(x), lambda x: x + k])
    assert (
        there.decode(plain)(1.0) == np.sin(1.0)
        and jax.grad(there.decode(wire.Codec(strict=True).encode(square)))(2.0) == 4
    )
    assert there.decode(closed)(1) == ("called", 0, (1,))
    assert there.decode(here.encode(tracing.weights)) is tracing.weights
    formula = there.decode(here.encode(formulas.SQUARE))
    assert formula(3.0, 2.0) == 18 and not hasattr(formula, "by")  # without the gradient by hand
    for codec in (here, wire.Codec()):  # on the side of the checks, nothing is imported
        assert isinstance(codec.decode(dict(name=["os", "abort"])), wire.Foreign)
        assert isinstance(codec.decode(plain), wire.Foreign)
    with pytest.raises(wire.Untransferable):
        jax.jit(lambda x: wire.Codec(strict=True).encode(x))(1.0)


def square(x):
    return jnp.square(x)


def test_changes_are_put_back():
    array, many, named, rng = np.zeros(2), [1], dict(a=1), np.random.default_rng(0)
    after = np.random.default_rng(0)
    after.random()
    wire.put_back((array, many, named, rng), (np.ones(2), [2, 3], dict(b=2), after))
    assert array.tolist() == [1, 1] and many == [2, 3] and named == dict(b=2)
    assert rng.random() == np.random.default_rng(0).random(2)[1]


# --- marks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    """write(source, ...) -> the path of a notebook with these cells."""

    def to(*sources: str, name: str = "mine.ipynb") -> Path:
        (tmp_path / name).write_text(notebook_of(*sources))
        return tmp_path / name

    return to


def names_of(notebook: str) -> list[str]:
    return [exercise.name for exercise in checking.exercises(notebook).values()]


@pytest.mark.slow
def test_a_class_gets_its_marks_whatever_is_handed_in(tmp_path, capsys):
    given = handed_in.notebooks() | {name: (content, 0) for name, content in handed_in.BROKEN.items()}
    if not sandbox.isolated():
        del given["kills its parent"]
    for name, (content, _) in given.items():
        (tmp_path / f"{name}.ipynb").write_bytes(content)
    (tmp_path / "a folder.ipynb").mkdir()
    (tmp_path / os.fsdecode(b"\xff.ipynb")).write_bytes(given["right"][0])
    paths, table = sorted(tmp_path.glob("*.ipynb")), tmp_path / "grades.csv"
    rows = grading.grade_all([*paths, tmp_path / "none.ipynb"], table, seconds=30)
    with open(table, encoding="utf-8") as file:
        written = [
            grading.Mark(row["notebook"], row["exercise"], float(row["marks"]), int(row["of"]), row["message"])
            for row in csv.DictReader(file)
        ]
    assert sorted(written) == sorted(rows)
    assert all(mark.marks in (0, mark.of) for mark in rows)
    got = {path.stem: sum(mark.marks for mark in rows if mark.notebook == cells.printable(path)) for path in paths}
    assert got.pop("a folder") == 0 and got.pop(os.fsdecode(b"\xff")) == 13
    assert got == {name: marks for name, (_, marks) in given.items()}
    assert len({mark.notebook for mark in rows}) == len(paths) + 1  # none is lost
    by_name = {(Path(mark.notebook).stem, mark.exercise): mark.message for mark in rows}
    assert "30 seconds" in by_name["loops", "ex06.cosine_rate"]
    assert "ZeroDivisionError" not in str(by_name) and "StopIteration" not in str(by_name)
    assert "code cell" in by_name["loops in a constant", "ex06.cosine_rate"]


def test_a_notebook_is_marked_with_messages(write):
    path = write(
        "import numpy as np\nimport none",
        "def cosine_rate(u):\n    return np.cos(np.pi / 2 * u)",
        "def exact_mask(rates, n, rng)\n    broken",
        "def hidden_after(steps, n):\n    return none.some(3)",
        "def which_law(rates):\n    raise KeyError('law')",
        "def fewest_steps(*args):\n    raise NotImplementedError('fewest_steps')",
    )
    marks = {mark.exercise.partition(".")[2]: mark for mark in grading.grade_notebook(path, 60)}
    assert [mark.marks for mark in marks.values()] == [2, 0, 0, 0, 0] and sum(mark.of for mark in marks.values()) == 13
    assert "function" in marks["exact_mask"].message
    assert "'none'" in marks["hidden_after"].message and "none.some(3)" in marks["hidden_after"].message
    assert "KeyError" in marks["which_law"].message and "not written yet" in marks["fewest_steps"].message


@pytest.mark.slow
def test_solutions_get_all_marks():
    for path in sorted(ROOT.glob("exercises/solutions/*/*.ipynb")):
        submission = grading.Submission(cells.read(path), path.name)
        assert [submission.wrong(name) for name in names_of(submission.notebook)] == [None] * len(names_of(path.stem))
        submission.close()


PATCHES = """
import jax, jax.numpy as jnp, numpy as np
from minimuse.teach import asking, checking, wire
from minimuse.teach.checks import ex04, tracing
np.allclose = np.isclose = jnp.allclose = lambda *a, **k: True
asking.close = checking.judge = ex04.compare = lambda *a, **k: None
asking.compare = asking.numbers = tracing.constant_length = lambda *a, **k: None
asking._run_compiled = lambda answer, static, *args: args[0]
tracing._gradient = lambda answer, wrt, *args: np.zeros(np.shape(args[wrt]))
ex04.t5_norm.ask.__code__ = (lambda answer: None).__code__
jax.grad = lambda f, *a, **k: lambda x, *rest: x * 0
wire.Codec._foreign = lambda self, value: dict(foreign=["Anything", "right"])
"""


@pytest.mark.slow
def test_patches_of_jax_and_of_the_checks_give_no_marks(write):
    path = write(
        f"{PATCHES}\nNAMED = asking, checking, ex04, jax, jnp, np, tracing, wire",
        "def t5_norm(x, g, epsilon):\n    return [x, NAMED][0]",
        "def weights_on_real(scores, mask):\n    return [scores, t5_norm][0]",
    )
    marks = {mark.exercise: mark.marks for mark in grading.grade_notebook(path, 60)}
    assert marks and not any(marks.values())


@pytest.mark.slow
def test_answers_have_no_network_and_cannot_write(write, tmp_path):
    if not sandbox.isolated():
        pytest.skip("this system has no namespaces for it")
    server = socket.create_server(("127.0.0.1", 0))
    private = tmp_path / "private.txt"
    private.write_text("secret")
    (folder := tmp_path / "private").mkdir()
    (folder / "ex06.py").write_text("secret")
    path = write(
        f"""
import os, socket, subprocess
def cosine_rate(u):
    def fails(f):
        try:
            f()
        except Exception as error:
            return type(error).__name__
        return "no error"
    raise RuntimeError([
        fails(lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=5)),
        fails(lambda: open({str(tmp_path / "new.txt")!r}, "w")),
        fails(lambda: open("/dev/ptmx", "rb+")),
        open("/dev/null", "wb").write(b"1"), len(open("/dev/urandom", "rb").read(3)),
        fails(lambda: subprocess.run(["umount", {str(private)!r}], check=True, stderr=-3)),
        open({str(private)!r}).read(), os.listdir({str(folder)!r}),
        os.listdir(), sorted(os.environ), len(os.listdir("/proc/self/fd")) < 12,
        [one for one in os.listdir("/proc") if one.isdigit()],
    ])
"""
    )
    said = grading.grade_cells(cells.read(path), "mine", covered=[str(private), str(folder)])[0][0].message
    found = "'OSError', 'OSError', 'PermissionError', 1, 3, 'CalledProcessError', '', [], []"
    assert found in said.replace("ConnectionRefusedError", "OSError")
    assert "TOKEN" not in said and checking.HIDDEN not in said and "True, ['1']" in said
    assert not (tmp_path / "new.txt").exists()


STAYS = """
import ctypes, fcntl, os, threading, time
held = []
def cosine_rate(u):
    held.append(open({path!r}))
    fcntl.flock(held[0], fcntl.LOCK_SH)
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # not to end with its parent
    if len(held) == 1:
        os.setsid()  # nor with its group
    threading.Thread(target=lambda: time.sleep(60)).start()
    raise ValueError(str(len(held)))
"""


@pytest.mark.slow
def test_nothing_outlives_the_marking(write, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    if not sandbox.isolated():
        pytest.skip("this system has no namespaces for it")
    (tmp_path / "held").touch()
    assert "1" in grading.grade_notebook(write(STAYS.format(path=str(tmp_path / "held"))))[0].message
    with open(tmp_path / "held") as file:
        for _ in range(50):  # the system needs a moment
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
    raise AssertionError("what an answer left behind still holds its lock")


@pytest.mark.slow
def test_the_cells_of_a_notebook_share_their_time(write):
    lines = "\n".join(f"a{i} = time.sleep(0.5)" for i in range(60))
    path = write(f"import time\n{lines}\ndef cosine_rate(u):\n    return {', '.join(f'a{i}' for i in range(60))}")
    begun = time.monotonic()
    said = grading.grade_cells(cells.read(path), "mine", seconds=5, notebook="ex06")[0][0]
    assert not said.marks and "5 seconds" in said.message and time.monotonic() - begun < 40


def test_names_that_cannot_be_read_are_a_value_error():
    with pytest.raises(ValueError, match="mine"):
        grading.Submission([f"cosine_rate = {'a' * 9_000_000} = 1"], "mine", notebook=None)


@pytest.mark.slow
def test_messages_are_no_formulas_and_never_empty_for_a_wrong_answer(write, tmp_path):
    path = write(
        "class Wrong(Exception):\n    pass",
        "def cosine_rate(u):\n    raise Wrong('=1+1')",
        "def which_law(rates):\n    raise Wrong('')",
    )
    rows = grading.grade_all([path], tmp_path / "grades.csv")
    assert rows[0].message == "=1+1" and rows[3].message and not rows[3].marks
    with open(tmp_path / "grades.csv", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["message"] == "'=1+1"


TELLS = """
import numpy as np
seen = []
class Wrong(Exception):
    pass
def cosine_rate(u):
    seen.append(u)
    return np.cos(np.pi / 2 * u)
def which_law(rates):
    raise Wrong(str(seen[-1]) + str(cosine_rate))
"""


@pytest.mark.slow
def test_no_message_tells_what_a_further_check_asks(write, tmp_path):
    (tmp_path / "ex06.py").write_text("def cosine_rate(answer):\n    answer(0.123456)\n")
    marks = grading.grade_notebook(write(TELLS), further=checking.hidden_checks(tmp_path))
    assert marks[0].marks == 2 and marks[3].message and "0.123456" not in marks[3].message


@pytest.mark.slow
def test_pytest_marks_a_notebook_as_grade_does(write):
    path = write("%%time\nimport numpy as np\nHALF = np.pi / 2\ndef cosine_rate(u):\n    return np.cos(HALF * u)")
    command = ["-m", "pytest", "exercises", "-q", "-p", "no:cacheprovider", "--nb", str(path), "-k", "law or rate"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "which_law" in done.stdout and "Traceback" not in done.stdout
    command[6] = str(path.with_name("none.ipynb"))
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "none.ipynb" in done.stderr and "Traceback" not in done.stderr


# --- further checks, and what is refused before anything is marked ----------------------------------------------------

WRONG = "from minimuse.teach.checking import Wrong\n"


@pytest.mark.slow
def test_further_checks_count_and_stay_secret(write, tmp_path):
    path = write(
        "import numpy as np\ndef cosine_rate(u):\n    return 0.5 if np.ndim(u) == 0 else np.cos(np.pi / 2 * u)"
    )
    (tmp_path / "ex06.py").write_text(
        f"{WRONG}def cosine_rate(answer):\n    if answer(0.3) == 0.5:\n        raise Wrong('seen')"
    )
    (tmp_path / "ex00.py").write_text(
        f"{WRONG}import jax\nfrom minimuse.teach.asking import beside\n"
        "def _slope(answer, z):\n    return jax.grad(lambda z: answer(z, 2.0))(z)\n"
        "def rounded_to_grid(answer):\n    if beside(_slope, answer, 1.0) != 1:\n        raise Wrong('seen')\n"
    )
    further = checking.hidden_checks(tmp_path)
    assert grading.grade_notebook(path)[0].marks == 2
    marked = grading.grade_notebook(path, further=further)[0]
    assert marked.marks == 0 and marked.message and "seen" not in marked.message
    (solution,) = ROOT.glob("exercises/solutions/*/ex00.ipynb")
    assert all(mark.marks for mark in grading.grade_notebook(solution, further=further))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ex06.py", "def cosine_rate(answer)\n    pass", "ex06.py, line 1"),
        ("ex06.py", "\nimport none", "ex06.py, line 2"),
        ("ex06.py", "x = 1\n\ndef cosine_law(answer):\n    pass", "ex06.py, line 3"),
        ("ex60.py", "def cosine_rate(answer):\n    pass", "ex60.py, line 1"),
        ("notes.txt", "", "ex06.py"),
    ],
)
def test_further_checks_that_cannot_be_used_end_before_the_first_mark(name, content, words, write, tmp_path, capsys):
    (folder := tmp_path / "private").mkdir()
    (folder / name).write_text(content)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["grade", str(write("x = 1")), "--hidden", str(folder)])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and words in printed.err and not printed.out


@pytest.mark.slow
def test_a_further_check_with_an_error_of_its_own_is_reported(write, tmp_path, capsys):
    (folder := tmp_path / "private").mkdir()
    for slip in ("1 / 0", "jax.jit(answer)(0.5)"):  # what JAX traces exists in this process only
        (folder / "ex06.py").write_text(f"import jax\n\ndef cosine_rate(answer):\n    {slip}\n")
        with pytest.raises(SystemExit) as stopped:  # the course's own solution is tried first
            cli.main(["grade", str(write("def cosine_rate(u): pass")), "--hidden", str(folder)])
        printed = capsys.readouterr()
        assert stopped.value.code == 2 and "ex06.py, line 4" in printed.err and not printed.out


@pytest.mark.parametrize("table", ["grades.txt", "none/grades.csv", "folder.csv", "/proc/grades.csv"])
def test_a_table_that_cannot_be_written_ends_before_the_first_mark(table, write, tmp_path, capsys):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["grade", str(write("x = 1")), "--csv", str(tmp_path / table)])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and "--csv" in printed.err and not printed.out
