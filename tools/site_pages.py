"""Write the sources of the course's web site: `make site` runs this, then Sphinx.

Chapters, released exercises and pages keep their places, so links between them stay as they are. Links to other
files lead to the API reference or to the repository. Pictures leave their notebooks, so that a browser loads
only those that are seen. Nothing is run; answers to exercises are not read.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import struct
import sys
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from posixpath import normpath, relpath
from urllib.parse import urlencode

import site_api

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
PAGES = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "data/LICENSE-sprites.md")
PAGES += ("data/LICENSE-artwork.md", "benchmarks/README.md", "exercises/README.md")
MOVED = {"site/index.md": "index.md", "site/index.zh-CN.md": "zh-CN/index.md"}
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
FENCED = re.compile(r"(```.*?```)", re.DOTALL)
PICTURE = re.compile(r'<img src="data:image/(png|jpeg|svg\+xml);base64,([^"]+)"([^>]*)>')
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*")
WIDGET = "application/vnd.jupyter.widget-view+json"
OFFERED = re.compile(r"<!-- playground: (.*)\[\[(.*)\]\](.*) -->\n")  # an item of a list on first pages
NO_PLAYGROUND = "The playground, which does this in a browser, is not part of this copy of the site."


def address() -> str:
    """The address of the repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def number(path: Path) -> str:
    """The number of a chapter, which its file name begins with: 05, or 01a."""
    return path.stem.partition("_")[0]


def chapters() -> list[Path]:
    """All chapters, in the course's order."""
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def exercises() -> list[Path]:
    """The released exercises, in the order of the chapters that each names in its table."""
    chapter = re.compile(r"\| Chapter \| \[(\w+),")
    found = {}
    for path in (ROOT / "exercises" / "release").glob("*/ex*.ipynb"):
        match = chapter.search("".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]))
        if match is None:
            sys.exit(f"{path.relative_to(ROOT)} does not name its chapter; its first table needs a row | Chapter |.")
        found[path] = match[1]
    return sorted(found, key=lambda path: found[path])


def title_of(path: Path) -> str:
    """The first heading of a notebook."""
    text = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    return next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))


def pages() -> list[Path]:
    """All Markdown pages."""
    return [ROOT / name for name in PAGES if (ROOT / name).is_file()] + sorted((ROOT / "docs").glob("*.md"))


# --- links ---------------------------------------------------------------------------------------------------------


class Links:
    """Where links of the repository lead on the site."""

    def __init__(self, staged: set[str]):
        self.staged, self.address = staged | {*MOVED}, address()

    def rewrite(self, text: str, page: str) -> str:
        """Markdown of a page with its links rewritten, outside of code blocks; names of code lead to the reference."""
        named = re.compile(r"\[`([\w.]+)`\]\((?:\.\./)*minimuse/[\w/]+\.py\)")
        text = named.sub(r"{py:obj}`\1 <minimuse.\1>`", text)
        parts = FENCED.split(text)
        parts[::2] = [LINK.sub(lambda m: self.target(m[1], page), part) for part in parts[::2]]
        return "".join(parts)

    def target(self, link: str, page: str) -> str:
        if re.match(r"[a-z]+:", link):
            return link
        path, hash_, anchor = link.partition("#")
        anchor = anchor.lower()  # JupyterLab keeps capitals, the site and GitHub do not
        if not path:
            return hash_ + anchor
        name = normpath(f"{page.rpartition('/')[0]}/{path}".lstrip("/"))
        if name in self.staged or Path(name).suffix in (".png", ".svg"):
            name = MOVED.get(name, name)
        elif name == "minimuse":
            name = "api/index.md"
        elif name.startswith("minimuse/") and name.endswith(".py"):
            name = f"api/{site_api.dotted(name)}.md"
        else:
            kind = "tree" if (ROOT / name).is_dir() else "blob"
            return f"{self.address}/{kind}/main/{name}{hash_}{anchor}"
        here = Path(MOVED.get(page, page)).parent.as_posix()
        return f"{relpath(name, here)}{hash_}{anchor}"


# --- notebooks -----------------------------------------------------------------------------------------------------


def size_of(kind: str, content: bytes) -> tuple[int, int] | None:
    """Width and height of a picture in pixels, if its first bytes say so."""
    if kind == "png":
        return struct.unpack(">II", content[16:24])
    match = re.search(rb'<svg[^>]*\bwidth="(\d+)(?:px)?"[^>]*\bheight="(\d+)', content) if kind == "svg+xml" else None
    return (int(match[1]), int(match[2])) if match else None


def take_pictures(html: str, name: str, out: Path) -> str:
    """Write the pictures of an HTML output to files NAME-0.png, ...; returns the HTML that shows them."""
    count = 0

    def replace(match: re.Match) -> str:
        nonlocal count
        kind, content = match[1], base64.b64decode(match[2])
        path = out / f"{name}-{count}.{kind.removesuffix('+xml')}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        count += 1
        size = size_of(kind, content)
        size = f' width="{size[0]}" height="{size[1]}"' if size else ""
        return f'<img src="{path.relative_to(out).as_posix()}"{size} loading="lazy" decoding="async"{match[3]}>'

    return PICTURE.sub(replace, html)


def playground(place: dict, page: str, built: bool) -> str:
    """HTML of the place where a chapter opens the playground; without one, a sentence."""
    if not built:
        return f'<p class="playground-missing">{escape(NO_PLAYGROUND)}</p>'
    source = f"{relpath('playground/index.html', Path(page).parent.as_posix())}?{urlencode(place['settings'])}"
    title = escape(f"Playground: {place['title']}")
    return (
        f'<div class="playground" data-title="{title}" data-source="{escape(source)}">\n'
        f"<p><strong>{title}.</strong> {escape(place['about'])} It runs in your browser; a click loads it.</p>\n"
        f'<p class="buttons"><button type="button">Open it here</button> <a href="{escape(source)}">'
        "Open it on a page of its own</a></p>\n</div>"
    )


def offer_playground(text: str, page: str, built: bool) -> str:
    """A first page with its link to the playground, if there is one."""
    link = relpath("playground/index.html", Path(page).parent.as_posix())
    return OFFERED.sub(rf'- \1<a href="{link}">\2</a>\3' + "\n" if built else "", text)


def explorer(cell: dict) -> str:
    """What stands in place of controls that need a running notebook."""
    name = re.search(r"explorers\.(\w+)\(", "".join(cell["source"]))
    what = f"<code>{name[1]}</code>" if name else "An interactive cell"
    where = "open this chapter on Colab, or with <code>make lab</code>"
    return f'<p class="explorer">{what} needs a running notebook: {where}.</p>'


def html_output(html: str) -> dict:
    return dict(output_type="display_data", metadata={}, data={"text/html": [html]})


def of_notebook(path: Path, links: Links, out: Path, extra: Path, places: list[dict], built: bool) -> None:
    """The page of a notebook: its stored outputs, buttons under the title, pictures in files, the playground."""
    name = path.relative_to(ROOT).as_posix()
    notebook, used = json.loads(path.read_text(encoding="utf-8")), []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = BADGE.sub("", "".join(cell["source"]))
            if cell is notebook["cells"][0]:
                text = re.sub(
                    r"^(# .*)$", lambda m: m[1] + "\n\n" + buttons(name, links), text, count=1, flags=re.MULTILINE
                )
            cell["source"] = links.rewrite(text, name)
            continue
        source = "".join(cell["source"])
        cell["metadata"] = dict(tags=["hide-input"]) if cell["id"] == "bootstrap" else {}
        outputs = []
        for i, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            if WIDGET in data:
                outputs.append(html_output(explorer(cell)))
                continue
            if "text/html" in data:
                html = take_pictures(
                    "".join(data["text/html"]), f"{path.stem}/{cell['id']}-{i}", extra / path.parent.name
                )
                output = html_output(html)
            outputs.append(output)
        for place in places:
            if place["after"] in source:
                used.append(place["after"])
                outputs.append(html_output(playground(place, name, built)))
        cell["outputs"] = outputs
    for place in places:
        if (count := used.count(place["after"])) != 1:
            sys.exit(
                f"site/playground.toml: {place['after']!r} is in {count} code cells of {path.name}; "
                "name a text that is in one."
            )
    write(out / name, json.dumps(notebook, ensure_ascii=False))


def buttons(name: str, links: Links) -> str:
    """Links below the title of a notebook: Colab, a copy to download, the repository."""
    repository = links.address.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{name}"
    file = name.rpartition("/")[2]
    return (
        f'<p class="buttons"><a href="{colab}">Open in Colab</a> <a href="{file}" download>Download</a> '
        f'<a href="{links.address}/blob/main/{name}">View on GitHub</a></p>'
    )


# --- all pages -----------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def figures(staged: set[str]) -> Iterator[str]:
    """Picture files that pages name."""
    for name in staged:
        text = (ROOT / name).read_text(encoding="utf-8")
        if name.endswith(".ipynb"):
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        for link in LINK.findall(text):
            if not re.match(r"[a-z]+:", link) and Path(link).suffix in (".png", ".svg"):
                yield normpath(f"{name.rpartition('/')[0]}/{link}".lstrip("/"))


def toctree(caption: str, entries: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```", ""])


def contents() -> str:
    """The table of contents of the whole site, which the first page carries."""
    name = lambda path: path.relative_to(ROOT).with_suffix("").as_posix()
    short = lambda title: title.removeprefix("Exercises ")  # they stand below the word
    entry = lambda path: f"{short(title_of(path))} <{name(path)}>"
    project = ["CONTRIBUTING", "docs/tests", "docs/site", "data/README", "data/LICENSE-sprites", "data/LICENSE-artwork"]
    project += ["benchmarks/README", "CHANGELOG", "docs/citing"]
    listed = {"docs/glossary", "docs/results", "docs/install", *project}
    others = sorted(name(path) for path in pages() if path.parent.name == "docs" and name(path) not in listed)
    return "\n".join(
        [
            toctree("The course", ["Overview <README>", "docs/install"]),
            toctree("Chapters", [name(path) for path in chapters()]),
            toctree("Exercises", [*map(entry, exercises()), "For teachers <exercises/README>"]),
            toctree("Reference", ["docs/glossary", "docs/results", *others, "api/index"]),
            toctree("Project", [page for page in project if (ROOT / f"{page}.md").is_file()]),
            toctree("中文", ["首页 <zh-CN/index>", "概览 <README.zh-CN>"]),
        ]
    )


def stage(out: Path, web: Path) -> None:
    """Write all sources to a folder: `source` for Sphinx, and `extra` for files to be copied beside its pages."""
    if not (SITE / "node_modules" / "katex").is_dir():
        sys.exit("KaTeX is not in site/node_modules; make site installs it.")
    shutil.rmtree(out, ignore_errors=True)
    source, extra, built = out / "source", out / "extra", (web / "index.html").is_file()
    notebooks = [*chapters(), *exercises()]
    staged = {path.relative_to(ROOT).as_posix() for path in [*notebooks, *pages()]}
    links = Links(staged)
    places = tomllib.loads((SITE / "playground.toml").read_text(encoding="utf-8"))
    for path in notebooks:
        mine = places.get(number(path), []) if path.parent.name == "notebooks" else []
        of_notebook(path, links, source, extra, mine, built)
        copy(path, extra)
    for path in pages():
        name = path.relative_to(ROOT).as_posix()
        write(source / name, BADGE.sub("", links.rewrite(path.read_text(encoding="utf-8"), name)))
    for name in set(figures(staged)):
        copy(ROOT / name, source)
    site_api.write_pages(ROOT / "minimuse", source / "api")
    for name, page in MOVED.items():
        text = links.rewrite((ROOT / name).read_text(encoding="utf-8"), name)
        text = offer_playground(text, page, built)
        write(source / page, text + ("\n" + contents() if page == "index.md" else ""))
    if built:
        shutil.copytree(web, extra / "playground")
    copy_katex(SITE / "node_modules" / "katex" / "dist", out / "static" / "katex")


def copy_katex(katex: Path, out: Path) -> None:
    """The style of formulas, with fonts in the one format that all browsers read."""
    out.mkdir(parents=True)
    style = (katex / "katex.min.css").read_text(encoding="utf-8")
    (out / "katex.min.css").write_text(
        re.sub(r",url\([^)]*\.(woff|ttf)\) format\([^)]*\)", "", style), encoding="utf-8"
    )
    (out / "fonts").mkdir()
    for font in (katex / "fonts").glob("*.woff2"):
        shutil.copyfile(font, out / "fonts" / font.name)


def copy(path: Path, out: Path) -> None:
    target = out / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SITE / "build", help="a folder, which is emptied first")
    parser.add_argument("--web", type=Path, default=ROOT / "web" / "dist", help="the playground, if it is built")
    args = parser.parse_args()
    stage(args.out, args.web)


if __name__ == "__main__":
    main()
