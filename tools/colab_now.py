"""Colab's versions of today as a constraints file: `python tools/colab_now.py FOLDER > colab-now.txt`.

FOLDER is a clone of github.com/googlecolab/backend-info, where Colab publishes what its runtimes have. Kept are the
packages of constraints/colab.txt, those that minimuse uses or is tested with; the first line says which Python it is.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def canonical(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """NAME==VERSION lines, by canonical name; versions of builds that no index has (+cpu) without that part."""
    found = re.findall(r"^([\w.-]+)==([\w.!]+)", text, re.MULTILINE)
    return {canonical(name): f"{name}=={version}" for name, version in found}


def main(folder: str) -> None:
    """Print the constraints. SystemExit if the lists have another form than they had."""
    read = lambda name: (Path(folder) / name).read_text(encoding="utf-8")
    python = re.search(r"Python (3\.\d+)", read("os-info.txt"))
    now, ours = pinned(read("pip-freeze.txt")), pinned((ROOT / "constraints" / "colab.txt").read_text(encoding="utf-8"))
    if python is None or "jax" not in now:
        sys.exit(f"{folder} has no list of Colab's packages in the form that this reads.")
    print(f"# Python {python[1]}")
    print("\n".join(line for name, line in sorted(now.items()) if name in ours))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the clone of googlecolab/backend-info.")
    main(sys.argv[1])
