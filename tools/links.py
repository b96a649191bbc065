"""Write the repository's address where it is needed: `python tools/links.py`, or `--check` to only compare.

The address is `Repository` in pyproject.toml. From it come the Colab badge (README.md, and the first cell of each
notebook and of the source of each exercise), the clone command (README.md), and each notebook's bootstrap cell (id and
tag "bootstrap"). Then `python tools/exercises.py` carries it into what students open.
"""

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "main"
FIRST = "notebooks/00_first_pictures.ipynb"

HERE = """\
    raise ModuleNotFoundError(
        "minimuse is not installed. In a clone of the repository, run `make lab`. For Colab, "
        "set Repository in pyproject.toml to your fork's address and run `python tools/links.py`."
    )
"""
COLAB = """\
    if "google.colab" not in sys.modules:
        raise ModuleNotFoundError("minimuse is not installed. In a clone of the repository, run `make lab`.")
    %pip install -q "minimuse @ git+{address}@{branch}"
"""
BOOTSTRAP = """\
# NBVAL_IGNORE_OUTPUT
# Written by tools/links.py. {comment}
import importlib.util{import_sys}

if importlib.util.find_spec("minimuse") is None:
{otherwise}import jax

import minimuse

minimuse.enable_compilation_cache()
print("minimuse", minimuse.__version__, "| jax", jax.__version__, "|", *{{d.device_kind for d in jax.devices()}})"""


def repository(root: Path = ROOT) -> str:
    """The address in pyproject.toml, without a slash or .git at its end."""
    with open(root / "pyproject.toml", "rb") as file:
        address = tomllib.load(file)["project"]["urls"]["Repository"].rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise SystemExit(
            f"Repository in pyproject.toml must look like https://github.com/YOU/minimuse, not {address!r}."
        )
    return address


def is_set(address: str) -> bool:
    """Whether the address is a real one, rather than the one of the template."""
    return "/OWNER/" not in address


def badge(address: str, notebook: str, readme: str) -> str:
    """One line of Markdown: the Colab badge of a notebook; readme is the way to README.md from where it stands."""
    target = f"{address.replace('https://github.com/', 'https://colab.research.google.com/github/')}/blob/{BRANCH}/{notebook}"
    line = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({target})"
    return line if is_set(address) else f"{line} once [the address is set]({readme}#your-own-fork); here: `make lab`"


def clone(address: str) -> str:
    """The two commands that README.md begins with."""
    return f"```bash\ngit clone {address}.git && cd {address.rsplit('/', 1)[1]}\nmake lab\n```"


def bootstrap(address: str) -> str:
    """The source of the bootstrap cell."""
    if not is_set(address):
        return BOOTSTRAP.format(
            comment="Says what to do where minimuse is not installed.", import_sys="", otherwise=HERE
        )
    otherwise = COLAB.format(address=address, branch=BRANCH)
    comment = "Installs minimuse on Colab, and leaves Colab's JAX as it is."
    return BOOTSTRAP.format(comment=comment, import_sys="\nimport sys", otherwise=otherwise)


def fill(text: str, name: str, content: str, where: str) -> str:
    """`text` with `content` between the comments <!-- name --> and <!-- /name -->."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(
            f"{where} has no lines <!-- {name} --> and <!-- /{name} -->; put them where the {name} shall be."
        )
    return re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, count=1, flags=re.DOTALL)


def readme(root: Path, address: str) -> str:
    """README.md as it should be."""
    text = (root / "README.md").read_text(encoding="utf-8")
    text = fill(text, "links", badge(address, FIRST, ""), "README.md")
    return fill(text, "clone", clone(address), "README.md")


def notebook(path: Path, address: str) -> str:
    """A notebook's file as it should be; outputs stay."""
    content = json.loads(path.read_text(encoding="utf-8"))
    first, *_ = content["cells"]
    opened, readme = f"notebooks/{path.name}", "../README.md"
    if path.parent.name != "notebooks":  # the source of an exercise; what is opened is made from it
        opened, readme = f"exercises/release/{path.parent.name}/{path.name}", "../../../README.md"
    text = fill("".join(first["source"]), "links", badge(address, opened, readme), path.name)
    first["source"] = text.splitlines(keepends=True)
    cells = [cell for cell in content["cells"] if cell.get("id") == "bootstrap"]
    if len(cells) != 1 or cells[0]["cell_type"] != "code":
        raise SystemExit(f"{path.name} must have one code cell with the id bootstrap; it has {len(cells)}.")
    cells[0]["source"] = bootstrap(address).splitlines(keepends=True)
    tags = cells[0]["metadata"].setdefault("tags", [])
    if "bootstrap" not in tags:
        tags.append("bootstrap")
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def wanted(root: Path = ROOT) -> dict[Path, str]:
    """Every file that holds the address, and its text as it should be."""
    address = repository(root)
    files = {root / "README.md": readme(root, address)}
    paths = [*(root / "notebooks").glob("*.ipynb"), *(root / "exercises/source").glob("*/*.ipynb")]
    return files | {path: notebook(path, address) for path in sorted(paths)}


def differing(root: Path = ROOT) -> dict[Path, str]:
    """The files of `wanted` that are not so; notebooks are compared by content, not by how their JSON is laid out."""

    def same(path: Path, text: str) -> bool:
        now = path.read_text(encoding="utf-8")
        return now == text or (path.suffix == ".ipynb" and _cells(now) == _cells(text))

    return {path: text for path, text in wanted(root).items() if not same(path, text)}


def _cells(text: str) -> dict:
    content = json.loads(text)
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"])
    return content


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if something differs")
    check = parser.parse_args(arguments).check
    files = differing(root)
    names = ", ".join(str(path.relative_to(root)) for path in files)
    if check and files:
        sys.exit(f"Not as tools/links.py writes it: {names}. Run `python tools/links.py`.")
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    print(f"Wrote {names}." if files else "Every link and bootstrap cell is as it should be.")


if __name__ == "__main__":
    main()
