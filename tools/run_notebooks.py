"""Run notebooks in place, from a fresh kernel: `python tools/run_notebooks.py 05_masked_transformer`, or several.

It differs from `jupyter nbconvert --execute --inplace` in three ways. It does not hang where a cell fills an Output
widget (https://github.com/jupyter/nbclient/issues/312); it leaves out what would make every run a large difference:
the state of widgets, times, the pictures inside widgets; and what a cell prints is one output, however slowly it came,
so that a table stays whole. A notebook that fails stays as it was.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from minimuse.files import write_text

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


class Client(NotebookClient):
    """A client without widgets: what is drawn into an Output widget becomes output of its cell."""

    def handle_comm_msg(self, outs, msg, cell_index) -> None:
        pass


def tidy(notebook) -> None:
    """Put ids in order, drop the state of widgets, and keep only the widget in the output of a cell that shows one."""
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(notebook.cells):
        if cell.id != "bootstrap":
            cell.id = f"cell-{number:02d}"
        cell.metadata.pop("execution", None)
        shown = [output for output in cell.get("outputs", []) if WIDGET in output.get("data", {})]
        if shown:
            cell.outputs = shown


def run(path: Path, timeout: int) -> None:
    notebook = nbformat.read(path, as_version=4)
    where = dict(metadata=dict(path=path.parent))
    Client(notebook, timeout=timeout, kernel_name="python3", coalesce_streams=True, resources=where).execute()
    tidy(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="names of notebooks, without folder and extension")
    parser.add_argument("--timeout", type=int, default=600, help="seconds per cell (default: %(default)s)")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    paths = [FOLDER / f"{name}.ipynb" for name in args.names]
    for path in paths:
        if not path.is_file():
            names = ", ".join(sorted(other.stem for other in FOLDER.glob("*.ipynb")))
            sys.exit(f"Cannot find {path.stem!r} in notebooks/, which holds {names}.")
    for path in paths:
        begun = time.monotonic()
        run(path, args.timeout)
        print(f"{path.stem}: {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
