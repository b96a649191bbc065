"""A class that hands in ex06: right, wrong, broken and hostile notebooks, each with the marks that it must get."""

import copy
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RIGHT = "def cosine_rate(u):\n    return np.cos(np.pi / 2 * u)\n"
ALL, LESS = 13, 11  # without cosine_rate, it is LESS
FORGED = (
    "import os\ndef cosine_rate(u):\n    for fd in range(20):\n        try:\n"
    '            os.write(fd, b\'["ex06.cosine_rate", 5000, ""]\\n{"value": 1, "wrong": null}\\n\')\n'
    "        except OSError:\n            pass\n    os._exit(0)\n"
)
GROUP = "import os, signal\ndef cosine_rate(u):\n    os.killpg(0, signal.SIGKILL)\n"
PARENT = "import os, signal\ndef cosine_rate(u):\n    os.kill(os.getppid() or 1, signal.SIGTERM)\n    return u\n"
PATCHED = (
    "import minimuse.teach.checking as c\nnp.allclose = np.isclose = lambda *a, **k: True\n"
    "c.judge = c.exercise = lambda *a: None\nc.Wrong.__init__ = lambda self, *a: None\n"
    "def cosine_rate(u):\n    np.allclose = lambda *a, **k: True\n    return 1 - u\n"
)
FRAMES = (
    "import gc, sys\ndef cosine_rate(u):\n    frame = sys._getframe()\n    while frame:\n"
    "        for name in ('expected', 'right', 'law'):\n            if name in frame.f_locals:\n"
    "                return frame.f_locals[name]\n        frame = frame.f_back\n    return 1 - u\n"
)
EQUAL = (
    "class Any(float):\n    def __eq__(self, other):\n        return True\n    __lt__ = __gt__ = __eq__\n"
    "    __array__ = lambda self, *a, **k: np.cos(np.pi / 2 * 0.5)\n"
    "def cosine_rate(u):\n    return Any(0)\n"
)
ANSWERS = {  # what stands in place of cosine_rate's cell, and the marks
    "time magic": ("%%time\n" + RIGHT, ALL),
    "two magics": ("%%capture out\n%%time\n" + RIGHT, ALL),
    "line magics": ("%matplotlib inline\n!pip install numpy\n" + RIGHT, ALL),
    "help": (RIGHT + "\ncosine_rate?\n", ALL),
    "shell": (RIGHT + "\nfiles = !ls\n", ALL),
    "timed": (RIGHT + "\nt = %timeit -o 1 + 1\n", ALL),
    "constant by attribute": ("pi = np.pi\ndef cosine_rate(u):\n    return np.cos(pi / 2 * u)\n", ALL),
    "constants in a tuple": ("HALF, _ = 0.5, 2\ndef cosine_rate(u):\n    return np.cos(HALF * np.pi * u)\n", ALL),
    "constant by a call": ("HALF = float(0.5)\ndef cosine_rate(u):\n    return np.cos(HALF * np.pi * u)\n", ALL),
    "constant in steps": ("HALF = 1\nHALF /= 2\ndef cosine_rate(u):\n    return np.cos(HALF * np.pi * u)\n", ALL),
    "changed list": ("H = []\nH.append(0.5)\ndef cosine_rate(u):\n    return np.cos(H[0] * np.pi * u)\n", ALL),
    "under if": ("if True:\n    def cosine_rate(u):\n        return np.cos(np.pi / 2 * u)\n", ALL),
    "under try": ("try:\n    from none import pi\nexcept ImportError:\n    pi = np.pi\n" + RIGHT, ALL),
    "future": (
        "from __future__ import annotations\ndef cosine_rate(u: Float[A]):\n    return np.cos(np.pi / 2 * u)\n",
        ALL,
    ),
    "prints": ("def cosine_rate(u):\n    print('x' * 10**6)\n    return np.cos(np.pi / 2 * u)\n", ALL),
    "changes folder": ("import os\ndef cosine_rate(u):\n    os.chdir('/')\n    return np.cos(np.pi / 2 * u)\n", ALL),
    "plots": ("import matplotlib.pyplot as plt\n" + RIGHT.replace("return", "plt.plot([1, 2])\n    return"), ALL),
    "asks above": (RIGHT + "\nname = input('your name')\n", ALL),
    "leaves above": (RIGHT + "\nimport sys\nsys.exit()\n", ALL),
    "loops above": (RIGHT + "\nwhile True:\n    pass\n", ALL),
    "loops in a constant": ("HALF = sum(iter(int, 1))\ndef cosine_rate(u):\n    return HALF\n", LESS),
    "linear": ("def cosine_rate(u):\n    return 1 - u\n", LESS),
    "other name": (RIGHT.replace("rate(", "law("), LESS),
    "in a class": ("class Mine:\n    def cosine_rate(u):\n        return np.cos(np.pi / 2 * u)\n", LESS),
    "no function": ("cosine_rate = 3\n", LESS),
    "asks": ("def cosine_rate(u):\n    return np.cos(float(input()) * u)\n", LESS),
    "loops": ("def cosine_rate(u):\n    while True:\n        pass\n", LESS),
    "leaves": ("import os\ndef cosine_rate(u):\n    os._exit(0)\n", LESS),
    "interrupts": ("def cosine_rate(u):\n    raise KeyboardInterrupt\n", LESS),
    "crashes": ("import ctypes\ndef cosine_rate(u):\n    return ctypes.string_at(0)\n", LESS),
    "fills the memory": ("def cosine_rate(u):\n    return [np.zeros(10**8) for _ in range(10**6)]\n", LESS),
    "returns too much": ("def cosine_rate(u):\n    return np.zeros(10**8)\n", LESS),
    "forges": (FORGED, LESS),
    "kills its group": (GROUP, LESS),
    "kills its parent": (PARENT, LESS),
    "patches": (PATCHED, LESS),
    "reads frames": (FRAMES, LESS),
    "equal to all": (EQUAL, LESS),
    "leaves a numpy.py": ("open('numpy.py', 'w').write('1 / 0')\n" + RIGHT, ALL),
}


def _with(source: str) -> dict:
    """The solutions of ex06 with this cell in place of cosine_rate's."""
    (path,) = ROOT.glob("exercises/solutions/*/ex06.ipynb")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "def cosine_rate(" in "".join(cell["source"]):
            cell["source"] = source
    return notebook


def _code(source: str) -> dict:
    return dict(cell_type="code", metadata={}, outputs=[], execution_count=None, source=source)


def notebooks() -> dict[str, tuple[bytes, float]]:
    """{name: (the bytes of a notebook file, its marks)}; None for those that cannot be read."""
    found = {name: (_with(source), marks) for name, (source, marks) in ANSWERS.items()}
    right = _with(RIGHT)

    def changed(name: str, change, marks: float = ALL) -> None:
        found[name] = (copy.deepcopy(right), marks)
        change(found[name][0]["cells"])

    is_mark = lambda cell: cell["metadata"].get("nbgrader", {}).get("grade")
    changed("right", lambda cells: None)
    changed("reversed", lambda cells: cells.reverse())
    changed("no metadata", lambda cells: [cell.update(metadata={}) for cell in cells])
    changed("marks deleted", lambda cells: cells.remove(next(filter(is_mark, cells))))
    changed("marks copied", lambda cells: cells.append(copy.deepcopy(next(filter(is_mark, cells)))))
    changed("marks edited", lambda cells: [cell.update(source="99.0") for cell in cells if is_mark(cell)])
    changed("marks as text", lambda cells: next(filter(is_mark, cells))["metadata"]["nbgrader"].update(points="x"))
    changed("half a surrogate", lambda cells: cells.append(_code("# \ud83d")))
    changed("deep", lambda cells: cells.append(_code("x = " + "(" * 3000 + "1" + ")" * 3000)))
    changed("many signs", lambda cells: cells.append(_code("x = " + "-" * 100_000 + "1")))
    changed("a long sum", lambda cells: cells.append(_code("x = " + "+".join(["1"] * 4000))))
    changed("a null", lambda cells: cells.append(_code("x = '\x00'")))
    changed(
        "much output",
        lambda cells: cells[2].update(outputs=[dict(output_type="stream", name="stdout", text="x" * 5_000_000)]),
    )
    changed(
        "a stub below", lambda cells: cells.append(_code("def cosine_rate(u):\n    raise NotImplementedError\n")), LESS
    )
    files = {name: (json.dumps(content).encode(), marks) for name, (content, marks) in found.items()}
    return files | {"with a BOM": (b"\xef\xbb\xbf" + files["right"][0], ALL)}


BROKEN = {  # no notebooks
    "empty": b"",
    "cut": b'{"cells": [{"cell_type": "co',
    "a list": b"[]",
    "deep JSON": b"[" * 100_000,
    "merge conflict": b"<<<<<<< HEAD\n{}",
    "latin-1": '{"cells": [{"cell_type": "code", "source": "é"}]}'.encode("latin-1"),
    "other functions": json.dumps(dict(cells=[_code("x = 1")], metadata={}, nbformat=4, nbformat_minor=5)).encode(),
}
