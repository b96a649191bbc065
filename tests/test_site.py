"""The web site's sources, the reference of the library, links and weights, and translations that cannot drift apart."""

import base64
import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRANSLATIONS = ("README.zh-CN.md",)
PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x07\0\0\0\x05\x08\x02\0\0\0"  # the head of 7 x 5 pixels
).decode()


def load(name: str):
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


site_api = load("site_api")
site_pages = load("site_pages")
check_site = load("check_site")


# --- translations --------------------------------------------------------------------------------------------------


def facts(text: str) -> dict[str, Counter]:
    """What a translation has to keep: code, links, and numbers outside of both."""
    fenced = re.findall(r"```.*?```", text, re.DOTALL)
    rest = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    plain = re.sub(r"`[^`]+`|\]\([^)]*\)", "", rest)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", rest) if not link.startswith("README.")]
    return dict(
        blocks=Counter(fenced),
        code=Counter(re.findall(r"`([^`]+)`", rest)),
        links=Counter(links),
        numbers=Counter(re.findall(r"[+−-]?\d[\d,.]*\d|\d", plain)),
    )


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_translated_readme_has_the_same_code_links_and_numbers(name):
    ours, theirs = ((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", name))
    for kind, wanted in facts(ours).items():
        found = facts(theirs)[kind]
        assert not wanted - found, f"{name} lacks these {kind} of README.md: {list(wanted - found)}"
        assert not found - wanted, f"{name} has {kind} that README.md lacks: {list(found - wanted)}"
    assert f"]({name})" in ours and "](README.md)" in theirs


def test_facts_notice_what_a_translation_may_not_change():
    english = "Takes 1.5 GB and **98%**, −0.5 dB: `make lab`, [here](docs/a.md).\n```bash\nls\n```\n"
    assert facts(english)["numbers"] == Counter(["1.5", "98", "−0.5"])
    for old, new, kind in (("1.5", "1,5", "numbers"), ("make lab", "make", "code"), ("a.md", "b.md", "links")):
        assert facts(english)[kind] != facts(english.replace(old, new))[kind], kind
    assert facts(english)["blocks"] != facts(english.replace("ls", "cd"))["blocks"]


# --- sources -------------------------------------------------------------------------------------------------------


def test_the_exercises_follow_the_chapters_and_no_answer_is_staged():
    order = [path.stem for path in site_pages.exercises()]
    assert order.index("ex01") + 1 == order.index("ex00") == order.index("ex02") - 1
    assert order[-1] == max(order)
    staged = [*site_pages.chapters(), *site_pages.exercises(), *site_pages.pages()]
    assert all(path.is_file() for path in staged)
    assert not [path for path in staged if {"solutions", "source"} & set(path.parts)]
    assert len({*site_pages.exercises()}) == len(list((ROOT / "exercises" / "release").glob("*/ex*.ipynb")))


def test_links_lead_to_pages_to_the_reference_and_to_the_repository():
    links = site_pages.Links({"docs/glossary.md", "notebooks/08_guidance.ipynb"})
    address = site_pages.address()
    for page, link, target in (
        ("notebooks/08_guidance.ipynb", "../docs/glossary.md#Terms", "../docs/glossary.md#terms"),
        ("notebooks/08_guidance.ipynb", "../minimuse/decoding.py", "../api/minimuse.decoding.md"),
        ("docs/glossary.md", "../tools/setup.py", f"{address}/blob/main/tools/setup.py"),
        ("docs/glossary.md", "../minimuse/data", f"{address}/tree/main/minimuse/data"),
        ("README.md", "minimuse", "api/index.md"),
        ("site/index.md", "../docs/glossary.md", "docs/glossary.md"),
        ("site/index.md", "index.zh-CN.md", "zh-CN/index.md"),
        ("site/index.zh-CN.md", "../notebooks/08_guidance.ipynb", "../notebooks/08_guidance.ipynb"),
        ("docs/glossary.md", "https://arxiv.org/abs/2301.00704", "https://arxiv.org/abs/2301.00704"),
        ("docs/glossary.md", "#Terms", "#terms"),
    ):
        assert links.rewrite(f"see [it]({link})", page) == f"see [it]({target})"
    code = "```bash\n[a](../tools/setup.py)\n```"
    assert links.rewrite(code, "docs/glossary.md") == code
    named = links.rewrite("[`decoding.guide`](minimuse/decoding.py)", "README.md")
    assert named == "{py:obj}`decoding.guide <minimuse.decoding.guide>`"


def notebook(
    tmp_path: Path, monkeypatch, cells: list[dict], places: list[dict], built: bool
) -> tuple[list[dict], Path]:
    """The cells of a chapter once it is staged, and the folder of extra files."""
    monkeypatch.setattr(site_pages, "ROOT", tmp_path)
    path = tmp_path / "notebooks" / "07_a.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)), encoding="utf-8")
    links = site_pages.Links.__new__(site_pages.Links)
    links.staged, links.address = {"notebooks/07_a.ipynb"}, "https://github.com/someone/minimuse"
    site_pages.of_notebook(path, links, tmp_path / "out", tmp_path / "extra", places, built)
    return json.loads((tmp_path / "out" / "notebooks" / "07_a.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ], tmp_path / "extra"


def code_cell(source: str, *data: dict) -> dict:
    outputs = [dict(output_type="display_data", metadata={}, data=each) for each in data]
    return dict(
        cell_type="code", id=source[:4].strip("."), source=[source], metadata={}, outputs=outputs, execution_count=1
    )


BADGE = "[![Open in Colab](https://x.org/badge.svg)](https://colab.research.google.com/y)\n\n"
TITLE = dict(cell_type="markdown", id="a", metadata={}, source=[BADGE, "# 07 · A\n", "\n", "text"])
PLACE = dict(after="explorers.a(", title="a & b", about="<i>", settings=dict(caption="a cat & a dog", steps=12))


def test_a_chapter_keeps_alternative_texts_and_gives_its_pictures_away(tmp_path, monkeypatch):
    html = f'<img src="data:image/png;base64,{PIXEL}" alt="seven by five" style="max-width: 100%">'
    widget = {site_pages.WIDGET: {}, "text/plain": ["VBox()"]}
    cells = [TITLE, code_cell("draw()", {"text/html": [html]}), code_cell("explorers.a(1)", widget)]
    (title, picture, explorer), extra = notebook(tmp_path, monkeypatch, cells, [PLACE], built=False)
    text = "".join(title["source"])
    assert "badge.svg" not in text and text.index("# 07") < text.index("Open in Colab") < text.index("text")
    assert "github/someone/minimuse/blob/main/notebooks/07_a.ipynb" in text and 'href="07_a.ipynb" download' in text
    (shown,) = picture["outputs"][0]["data"]["text/html"]
    assert 'alt="seven by five"' in shown and 'width="7" height="5"' in shown and 'loading="lazy"' in shown
    file = re.search(r'src="([^"]+)"', shown)[1]
    assert (extra / "notebooks" / file).read_bytes() == base64.b64decode(PIXEL)
    assert site_pages.WIDGET not in json.dumps(explorer) and "VBox" not in json.dumps(explorer)
    assert "iframe" not in json.dumps(explorer) and "data-source" not in json.dumps(explorer)


def test_a_chapter_opens_the_playground_with_its_caption(tmp_path, monkeypatch):
    cells = [TITLE, code_cell("explorers.a(1)")]
    (_, explorer), _ = notebook(tmp_path, monkeypatch, cells, [PLACE], built=True)
    html = explorer["outputs"][-1]["data"]["text/html"][0]
    assert 'data-source="../playground/index.html?caption=a+cat+%26+a+dog&amp;steps=12"' in html
    assert 'data-title="Playground: a &amp; b"' in html and "<i>" not in html and "<button" in html
    with pytest.raises(SystemExit, match="explorers.a"):
        notebook(tmp_path, monkeypatch, [TITLE, code_cell("explorers.b(1)")], [PLACE], built=True)


def test_first_pages_offer_a_playground_only_where_there_is_one():
    for name, page in site_pages.MOVED.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        found = re.findall(r'href="([^"]+)"', site_pages.offer_playground(text, page, built=True))
        assert found == [site_pages.relpath("playground/index.html", Path(page).parent.as_posix())]
        assert "playground" not in site_pages.offer_playground(text, page, built=False)


def test_every_place_of_the_playground_is_in_one_cell_of_its_chapter():
    places = site_pages.tomllib.loads((ROOT / "site" / "playground.toml").read_text(encoding="utf-8"))
    assert {"00", "06", "07", "08", "11"} <= set(places)
    of = {site_pages.number(path): path for path in site_pages.chapters()}
    for number, mine in places.items():
        cells = json.loads(of[number].read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        for place in mine:
            assert sum(place["after"] in source for source in sources) == 1, (number, place["after"])
            # The explorer of chapter 06 has no caption.
            assert number == "06" or place["settings"]["caption"] in "\n".join(sources), (number, place["settings"])


# --- the reference -------------------------------------------------------------------------------------------------


SOURCE = '''"""A module.

Costs $5 and <b>.
"""
LAW = "cosine"  # how $r$ falls
_hidden = 1


def draw(n: int = 4, *, seed: int | None = None) -> "list[int]":
    """Pictures [B, H, W]; `a < b` stays."""


class Sampling:
    """Settings."""

    steps: int = 12  # T

    def __init__(self, steps: int):
        self.steps = steps

    def __call__(self, x):
        """Apply."""

    def _private(self):
        """Not shown."""

    @property
    def many(self) -> bool:
        """Whether there are many."""
'''


def test_the_reference_has_what_is_public():
    page = site_api.page(SOURCE, "minimuse.a")
    assert "# minimuse.a" in page and "{py:module} minimuse.a" in page
    assert "{py:function} draw(n: int=4, *, seed: int | None=None) -> 'list[int]'" in page
    assert "{py:data} LAW" in page and '''value: "'cosine'"''' in page and "how \\$r\\$ falls" in page
    assert "Costs \\$5 and \\<b>." in page and "`a < b` stays" in page
    assert "{py:class} Sampling(steps: int)" in page and "{py:method} __call__(x)" in page
    assert "{py:property} many" in page and "{py:attribute} steps" in page
    assert "_hidden" not in page and "_private" not in page


def test_the_reference_covers_the_library_but_not_the_checks_of_exercises(tmp_path):
    found = site_api.write_pages(ROOT / "minimuse", tmp_path)
    assert {"minimuse", "minimuse.muse", "minimuse.decoding", "minimuse.train.step"} <= set(found)
    assert not [name for name in found if "checks" in name]
    index = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert all(f"({name}.md)" in index and (tmp_path / f"{name}.md").is_file() for name in found)


# --- links and weights ---------------------------------------------------------------------------------------------


def problems(tmp_path: Path, **pages: str) -> list[str]:
    for name, body in pages.items():
        (tmp_path / f"{name}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return check_site.Site(tmp_path).problems()


def test_a_site_that_is_right_has_no_problems(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text('<a href="../one.html#%E7%AB%A0">up</a><p id="x">', encoding="utf-8")
    body = '<a href="sub/#x">a</a><a href="#章">b</a><h1 id="章">c</h1><a href="https://arxiv.org/abs/2301.00704">d</a>'
    assert problems(tmp_path, one=body + '<a href="mailto:a@b.org">e</a><a href="one.html?q=1#top">f</a>') == []


@pytest.mark.parametrize(
    "body",
    [
        '<a href="nowhere.html">a</a>',
        '<a href="#nowhere">a</a>',
        '<a href="one.html#nowhere">a</a>',
        '<img src="nowhere.png" alt="">',
        '<a href="../../etc/passwd">a</a>',
        '<a href="https://arxiv/abs">a</a>',
        '<a href="https://x.org/a b">a</a>',
        '<a href="htps://x.org">a</a>',
        '<script src="https://x.org/a.js"></script>',
        '<link rel="stylesheet" href="nowhere.css">',
        '<div data-source="nowhere/index.html"></div>',
    ],
)
def test_a_wrong_link_is_named(tmp_path, body):
    (problem, *more) = problems(tmp_path, one=body)
    wrong = re.search(r'(?:href|src|data-source)="([^"]+)"', body)[1]
    assert wrong in problem and problem.startswith("one.html") and not more


def test_a_page_that_weighs_too_much_is_named(tmp_path):
    (tmp_path / "font.woff2").write_bytes(bytes(check_site.LIMIT // 2))
    (tmp_path / "style.css").write_text('a { src: url("font.woff2") }', encoding="utf-8")
    style = '<link rel="stylesheet" href="style.css">'
    assert problems(tmp_path, one=style) == []
    (tmp_path / "picture.png").write_bytes(bytes(check_site.LIMIT // 2))
    assert problems(tmp_path, one=style, two='<img src="picture.png" alt="">') == []
    (problem,) = problems(tmp_path, one=style + 2 * '<img src="picture.png" alt="">')
    assert "one.html" in problem and "1,500," in problem
