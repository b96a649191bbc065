"""Every notebook under the hardest conditions: `make anywhere`, or `python tests/check_anywhere.py 00 05` for some.

It copies minimuse to a folder whose path has spaces and non-ASCII letters, cuts the network off (in a separate
namespace, where the system allows one), and runs each notebook twice in a row, so that the second run meets what the
first left behind. A quarter of an hour on two cores.
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
NO_NETWORK = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]  # kernels communicate over loopback
OUT = "import socket; socket.create_connection(('1.1.1.1', 443), timeout=3)"


def copy_to(folder: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="chapter", help="its number (default: all)")
    chapters = parser.parse_args().chapters
    isolated = (
        subprocess.run([*NO_NETWORK, "true"], capture_output=True).returncode == 0 if shutil.which("unshare") else 0
    )
    before, begun = NO_NETWORK if isolated else [], time.monotonic()
    way_out = subprocess.run([*before, sys.executable, "-c", OUT], capture_output=True).returncode == 0
    print("The network is on: the system allows no namespace." if way_out else "The network is off.", flush=True)
    with tempfile.TemporaryDirectory(prefix="minimuse Übungen 習作 ", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        copy_to(folder)
        # PYTHONPATH comes before what is installed: the copy reads the copy's data.
        env = os.environ | dict(PYTHONPATH=str(folder), JAX_PLATFORMS="cpu", HF_HUB_OFFLINE="1")
        where = [*before, sys.executable, "-c", "import minimuse; print(minimuse.__file__)"]
        imported = subprocess.run(where, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
        assert Path(imported.strip()).is_relative_to(folder), imported
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
    print("All notebooks ran twice.")


if __name__ == "__main__":
    main()
