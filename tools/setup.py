"""Create the environment: `make lab` and `make test` run this, and so can you, on Windows too: `python tools/setup.py`.

It creates a virtual environment in .venv, installs the library with the packages for notebooks and tests, and records
what it installed, so that the next run has nothing to do. An installation that was interrupted, or a folder that has
moved, starts again from an empty environment. The words parity, browser and peers add packages that few need.
`--requirements FILE` installs only the packages of that file, into an environment of their own.

This file uses the standard library only, and runs on Python 3.8 too, so that it can say which Python is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NAMES = ("python3.13", "python3.12", "python3.11", "python3")
EXTRAS = ("parity", "browser", "app", "peers")
PEERS = "benchmarks/peers.txt"


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    os.chdir(str(ROOT))
    if args.requirements:
        args.constraints = ""  # which are the library's
        if not Path(args.requirements).is_file():
            sys.exit(f"Cannot find {args.requirements!r}, a list of packages; site/requirements.txt is one.")
    if args.constraints and not Path(args.constraints).is_file():
        sys.exit(f"Cannot find {args.constraints!r}; constraints/ holds the lists that were tested.")
    venv = Path(args.venv)
    try:
        install(venv, args)
        for extra in args.extras:
            install_extra(venv, extra, args)
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; the same command starts again.")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line; the variables of the same names are their defaults, as the Makefile sets them."""
    default = lambda name, value: os.environ.get(name, "").strip() or value
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="extra", help=f"of {', '.join(EXTRAS)}")
    parser.add_argument("--venv", default=default("VENV", ".venv"), help="folder (default: %(default)s)")
    parser.add_argument("--python", default=default("PYTHON", ""), help="Python to create it with (default: newest)")
    parser.add_argument("--constraints", default=default("CONSTRAINTS", ""), help="file of exact versions")
    parser.add_argument("--requirements", default="", help="only the packages of this file, instead of the library")
    parser.add_argument("--torch", default=default("TORCH", "torch>=2.6"), help="for parity (default: %(default)s)")
    parser.add_argument("--disk-gb", type=int, default=default("DISK_GB", "3"), help="space needed (default: 3)")
    args = parser.parse_args(arguments)
    for extra in args.extras:
        if extra not in EXTRAS:
            parser.error(f"unknown extra {extra!r}: choose from {', '.join(EXTRAS)}")
    return args


# --- the environment -------------------------------------------------------------------------------------------------


def install(venv: Path, args: argparse.Namespace) -> None:
    """Create or update the environment, unless it is complete, was created for this folder and these packages, and its
    Python runs. The stamp is written last."""
    stamp, unfinished = venv / ".installed", venv / ".unfinished"
    key = wanted(args.requirements) if args.requirements else wanted("pyproject.toml", args.constraints)
    found = stamp.read_text(encoding="utf-8").strip() if stamp.is_file() else ""
    if found == key and runs(run_in(venv), "pass"):
        return
    if venv.exists() and not looks_like_an_environment(venv):
        sys.exit(f"{venv} exists and is not a Python environment; choose another folder for it with VENV.")
    python = find_python(args.python)
    check_disk(args.disk_gb)
    if unfinished.exists():
        print("The last installation did not finish; starting again.", flush=True)
        create(venv, python)
    elif found and not found.startswith(f"{ROOT} "):
        print(f"{venv} was created in another folder; recreating it.", flush=True)
        create(venv, python)
    elif not runs(run_in(venv), f"import pip, sys; sys.exit(sys.version_info < {OLDEST})"):
        create(venv, python)
    (venv / ".gitignore").write_text("*\n", encoding="utf-8")
    unfinished.touch()
    for old in [*venv.glob(".installed*"), *(venv / f".{extra}" for extra in EXTRAS)]:
        if old.exists():
            old.unlink()
    size = args.requirements or "about 1.5 GB"
    print(f"Installing ({size}, a minute or two) ...", flush=True)
    if pip(venv, args.constraints, *(["-r", args.requirements] if args.requirements else ["-e", ".[notebooks,test]"])):
        sys.exit("The installation failed; see the lines above. It needs the network once. Then run the command again.")
    stamp.write_text(key + "\n", encoding="utf-8")
    unfinished.unlink()
    quiet = args.requirements or "MAKELEVEL" in os.environ
    print("Installed." if quiet else f"Installed. Start with: {start(venv)}", flush=True)


def wanted(*lists: str) -> str:
    """What the environment is for: this folder and these packages (a digest: times change with every checkout)."""
    digest = hashlib.sha256()
    for name in lists:
        digest.update(Path(name).read_bytes() if name else b"")
    return f"{ROOT} {digest.hexdigest()}"


def looks_like_an_environment(venv: Path) -> bool:
    """Whether the folder may be emptied: it is an environment, the rest of one, or already empty."""
    signs = ("pyvenv.cfg", ".installed", ".unfinished")
    return venv.is_dir() and (any((venv / name).exists() for name in signs) or not any(venv.iterdir()))


def create(venv: Path, python: str) -> None:
    """An empty environment; the mark of an unfinished one comes first, so that an interruption is noticed."""
    print(f"Creating an environment in {venv} with {version(python)} ...", flush=True)
    if subprocess.call([python, "-m", "venv", "--clear", str(venv)]):
        sys.exit(f"{python} could not create {venv}; see the lines above.")
    (venv / ".unfinished").touch()


def run_in(venv: Path) -> str:
    """The environment's Python."""
    return str(venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def start(venv: Path) -> str:
    return f"{run_in(venv)} -m jupyterlab notebooks/00_first_pictures.ipynb"


def pip(venv: Path, constraints: str, *what: str) -> int:
    """Install packages with pip, or with the uv that the variable UV names; returns the exit status.

    uv takes a fifth of the time and links what it has downloaded before, but does not read pip's settings, which may
    name a CPU build of torch: so torch is left to pip.
    """
    if (uv := shutil.which(os.environ.get("UV", ""))) and not any(package.startswith("torch") for package in what):
        command = [uv, "pip", "install", "-q", "--python", run_in(venv)]
    else:
        command = [run_in(venv), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    return subprocess.call(command + (["-c", constraints] if constraints else []) + list(what))


# --- which Python, and how much space ------------------------------------------------------------------------------


def runs(python: str, code: str) -> bool:
    """Whether this Python runs this code without an error."""
    try:
        return (
            subprocess.run([python, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        )
    except OSError:
        return False


def version(python: str) -> str:
    """What `python --version` prints, or "not found"."""
    if shutil.which(python) is None:
        return "not found"
    done = subprocess.run([python, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return (done.stdout.decode(errors="replace").strip().splitlines() or ["does not run"])[0]


def find_python(name: str = "") -> str:
    """The Python to create environments with: the one that was named, or the first that is new enough and has venv."""
    new = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    # Who calls this file by name has chosen a Python already; make calls it with any.
    names = [*NAMES, sys.executable] if "MAKELEVEL" in os.environ else [sys.executable, *NAMES]
    usable = [python for python in ([name] if name else names) if runs(python, new)]
    if not usable:
        name = name or "python3"
        sys.exit(
            f"minimuse needs Python 3.11 or newer; {name!r} is: {version(name)}.\n"
            "Install one (python.org, your package manager, or conda with environment.yml), or name one that you have: "
            "make lab PYTHON=/path/to/python3.12"
        )
    for python in usable:
        if runs(python, "import venv, ensurepip"):
            return python
    sys.exit(
        f"{usable[0]} cannot create environments: its venv module is missing. On Debian or Ubuntu: "
        f"sudo apt install {Path(usable[0]).name}-venv; then run the same command again."
    )


def check_disk(needed: int) -> None:
    free = shutil.disk_usage(str(ROOT)).free // 2**30
    if free < needed:
        sys.exit(
            f"The environment needs about {needed} GB of disk space; {free} GB are free. "
            "Free some space, then run the same command again."
        )


# --- packages that few need ------------------------------------------------------------------------------------------


def install_extra(venv: Path, extra: str, args: argparse.Namespace) -> None:
    """Packages beside those of pyproject.toml, unless they are there already."""
    if extra == "peers":
        install_extra(venv, "parity", args)
        what, why = ["--no-deps", "-r", PEERS], "the packages to compare with"
        content = Path(PEERS).read_text(encoding="utf-8")
    elif extra == "parity":
        what, why = [args.torch], f"{args.torch}, to compare with (gigabytes, unless it is a CPU build)"
        content = args.torch
    elif extra == "app":
        install_extra(venv, "browser", args)
        what, why = ["gradio>=6.0"], "gradio, which the app's page is made with"
        content = "gradio"
    else:
        what, why = ["playwright"], "playwright, which controls Chromium"
        content = "playwright"
    mark = venv / f".{extra}"
    if mark.is_file() and mark.read_text(encoding="utf-8") == content:
        return
    print(f"Installing {why} ...", flush=True)
    if pip(venv, "" if extra == "peers" else args.constraints, *what):
        sys.exit(f"Installing {' '.join(map(shlex.quote, what))} failed; see the lines above.")
    mark.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
