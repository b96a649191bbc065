"""What every notebook must keep to. This only reads them; `pytest --nbval-lax notebooks` runs them."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MEGABYTE = 1_000_000


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def of_type(notebook, kind: str) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def prose(notebook) -> str:
    """All Markdown, without its code blocks."""
    return re.sub(r"```.*?```", "", "\n\n".join(cell.source for cell in of_type(notebook, "markdown")), flags=re.DOTALL)


def outputs(notebook):
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            yield number, output


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_valid_and_small(path, notebook):
    nbformat.validate(notebook)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert path.stat().st_size < MEGABYTE
    assert len(notebook.cells) < 60
    assert len(prose(notebook).split()) < 4000
    assert "widgets" not in notebook.metadata, "drop the widgets' saved state: it makes every run a large difference"


def test_headings(path, notebook):
    levels = [(len(hashes), words) for hashes, words in re.findall(r"^(#+) (.+)", prose(notebook), re.MULTILINE)]
    assert [level for level, _ in levels].count(1) == 1 and levels[0][0] == 1, "one title, and first"
    assert levels[0][1].startswith(path.stem[:2] + " · ")
    for (before, _), (after, words) in zip(levels, levels[1:]):
        assert after <= before + 1, f"the heading {words!r} skips a level"


def test_code_cells_are_short(notebook):
    lengths = sorted(len(cell.source.splitlines()) for cell in of_type(notebook, "code"))
    assert lengths[-1] <= 40 and lengths[len(lengths) // 2] <= 10


def test_executed_in_order_without_errors(notebook):
    counts = [cell.execution_count for cell in of_type(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1)), "run the whole notebook from a fresh kernel before committing"
    for number, output in outputs(notebook):
        assert output.output_type != "error", f"cell {number} failed"
        assert output.get("name") != "stderr", f"cell {number} wrote to stderr: {output.text[:200]}"


def test_some_outputs_are_compared(notebook):
    marked = [cell for cell in of_type(notebook, "code") if "# NBVAL_CHECK_OUTPUT" in cell.source]
    assert marked and all(cell.outputs for cell in marked)


def test_every_image_has_alt_text(notebook):
    pages = [(number, cell.source) for number, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]
    for number, output in outputs(notebook):
        data = output.get("data", {})
        bare = [kind for kind in data if kind.startswith("image/") and "text/html" not in data]
        assert not bare, f"cell {number} shows a bare {bare}; use plots.with_alt"
        pages.append((number, data.get("text/html", "")))
    for number, page in pages:
        for alt in re.findall(r"!\[(.*?)\]\(", page):
            assert alt.strip(), f"cell {number} has an image without alt text"
        for tag in re.findall(r"<img\b[^>]*>", page):
            assert re.search(r'alt="[^"]*\w[^"]*"', tag), f"cell {number} has an image without alt text"


def test_links_to_files_resolve(path, notebook):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(notebook)) + re.findall(r'(?:href|src)="([^"]+)"', prose(notebook))
    for link in links:
        if not re.match(r"[a-z]+:|#", link):
            assert (path.parent / link.split("#")[0]).exists(), link


def test_nothing_of_this_machine(notebook):
    for number, output in outputs(notebook):
        text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        folders = "|".join(["home", "root", "tmp", "Users"])
        found = re.search(rf"(/({folders})/|\b[A-Z]:\\|{re.escape(str(ROOT))})\S*", text)
        assert not found, f"cell {number} shows {found}"


def test_marks_for_the_tools(notebook):
    assert re.search(r"<!-- links -->.*<!-- /links -->", notebook.cells[0].source, re.DOTALL)
    (bootstrap,) = [cell for cell in notebook.cells if cell.id == "bootstrap"]
    assert bootstrap.cell_type == "code" and "bootstrap" in bootstrap.metadata.tags
    assert not re.search(r"\bRUNTIME\b", prose(notebook)), "put the measured time in the card"


CARD = ("Goal", "Prerequisites", "Time to read", "Time to run", "Network", "Paper")
SECTIONS = ("Setup", "Where we are", "Predict first", "Paper check", "Check yourself", "Key takeaways", "If it failed")


def test_anatomy(notebook):
    """The card, objectives, and the sections that every chapter has, in order; a break on purpose before the paper."""
    text = prose(notebook)
    card = re.findall(r"^\| ([A-Z][a-z]+(?: to \w+)?) \| \S", text, re.MULTILINE)
    assert [row for row in card if row in CARD] == list(CARD)
    minutes = re.search(r"^\| Time to read \| \d+ minutes \|$", text, re.MULTILINE)
    assert minutes and "| Time to run | " in text
    objectives = re.search(r"^After this chapter you can\n\n((?:- .+\n(?:  .+\n)*)+)", text, re.MULTILINE)
    assert objectives and 3 <= objectives[1].count("\n- ") + 1 <= 6
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)
    assert titles.index("Break it on purpose") < titles.index("Paper check")


def test_questions_have_their_answers_folded(notebook):
    text = prose(notebook)
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") >= 4
    assert "<summary>Answer</summary>" in text


def test_the_library_is_held_against_what_was_derived(notebook):
    """A cell of the chapter asserts that what it derived equals the library's function."""
    code = [cell.source for cell in of_type(notebook, "code")]
    imported = re.findall(
        r"^from minimuse(?:\.\w+)? import (.+)$|^import minimuse as (\w+)$", "\n".join(code), re.MULTILINE
    )
    library = {name for found in imported for name in re.findall(r"\w+", " ".join(found))} | {"muse"}
    cells = [source for source in code if re.search(r"^\s*assert ", source, re.MULTILINE)]
    assert any(library & set(re.findall(r"\b\w+(?=[.(])", source)) for source in cells)


def test_chapters_lead_to_one_another(path, notebook):
    last, names = notebook.cells[-1].source, [other.name for other in NOTEBOOKS]
    number, found = (
        names.index(path.name),
        dict(re.findall(r"\*\*(Previous|Next)\*\*: (?:\[[^]]*\]\()?([^)\n]*)", last)),
    )
    before, after = (names[i] if 0 <= i < len(names) else "" for i in (number - 1, number + 1))
    assert found.get("Previous", "").startswith(before) if before else "Previous" not in found
    assert found["Next"].replace("\n", " ").startswith(after or "chapter"), found["Next"]
