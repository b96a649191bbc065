"""Every notebook where it is hardest: `make anywhere`, or `python tests/check_anywhere.py 00 05` for some of them.

A copy of minimuse in a folder whose path has spaces and letters beyond ASCII, without a network (in a namespace of its
own, where the system lets us make one), and each notebook twice in a row, so that what the first run left behind meets
the second. A quarter of an hour on two cores.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("minimuse", "notebooks", "data", "exercises")  # what notebooks read
NO_NETWORK = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]  # kernels talk over loopback
OUT = "import socket; socket.create_connection(('1.1.1.1', 443), timeout=3)"


def copy_to(folder: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="chapter", help="its number; else all")
    chapters = parser.parse_args().chapters
    alone = subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode == 0 if shutil.which("unshare") else 0
    before, begun = NO_NETWORK if alone else [], time.monotonic()
    way_out = subprocess.run([*before, sys.executable, "-c", OUT], capture_output=True).returncode == 0
    print(
        "The network is on: there is no namespace to be had." if way_out else "No way out to the network.", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="minimuse Übungen 習作 ", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        copy_to(folder)
        # PYTHONPATH comes before what is installed: the copy reads the copy's data.
        env = os.environ | dict(PYTHONPATH=str(folder), JAX_PLATFORMS="cpu", HF_HUB_OFFLINE="1")
        where = [*before, sys.executable, "-c", "import minimuse; print(minimuse.__file__)"]
        told = subprocess.run(where, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
        assert Path(told.strip()).is_relative_to(folder), told
        paths = sorted((folder / "notebooks").glob("*.ipynb"))
        for path in (path for path in paths if not chapters or path.name[:2] in chapters):
            for turn in ("first", "second"):
                options = ["-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
                options += ["--nbval-cell-timeout=300"]
                command = [*before, sys.executable, "-m", "pytest", *options, str(path.relative_to(folder))]
                done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{done.stdout[-6000:]}\n{path.name} failed in its {turn} run.")
            print(f"{path.name}: twice, {time.monotonic() - begun:.0f} s since the start", flush=True)
    print("All well.")


if __name__ == "__main__":
    main()
