"""The scripts of tools/: setup.py decides right without installing, and the checks of notebooks and prose work."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
SETUP = ROOT / "tools" / "setup.py"


def load(name: str):
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup, check_notebooks, check_prose = load("setup"), load("check_notebooks"), load("check_prose")


# --- tools/setup.py -----------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a pyproject.toml, in which setup.py works; pip is recorded, not run, nor installed."""

    def create(command: list[str]) -> int:
        assert command[1:-1] == ["-m", "venv", "--clear"]
        venv.create(command[-1], clear=True, symlinks=os.name != "nt")
        (packages,) = Path(command[-1]).rglob("site-packages")
        (packages / "pip.py").touch()
        return 0

    root = tmp_path / "a folder"
    root.mkdir()
    (root / "pyproject.toml").write_text("packages", encoding="utf-8")
    monkeypatch.setattr(setup, "ROOT", root)
    monkeypatch.setattr(setup, "pip", lambda venv, constraints, *what: installed.append((constraints, *what)) or 0)
    monkeypatch.setattr(setup.subprocess, "call", create)
    monkeypatch.chdir(root)
    for name in ("VENV", "PYTHON", "CONSTRAINTS", "TORCH", "DISK_GB", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    installed = []
    root_installed[root] = installed
    yield root
    del root_installed[root]


root_installed: dict[Path, list] = {}
PACKAGES = ("-e", ".[notebooks,test]")


def run(project: Path, *arguments: str) -> list:
    """Run setup.py; return what it installed this time."""
    installed = root_installed[project]
    installed.clear()
    setup.main(list(arguments))
    return list(installed)


def test_setup_installs_once_and_again_when_the_packages_change(project, capsys):
    assert run(project) == [("", *PACKAGES)]
    marker = project / ".venv" / "mine"
    marker.touch()
    assert run(project) == []
    (project / "pyproject.toml").write_text("other packages", encoding="utf-8")
    assert run(project) == [("", *PACKAGES)]
    (project / "exact.txt").write_text("a==1", encoding="utf-8")
    assert run(project, "--constraints", "exact.txt") == [("exact.txt", *PACKAGES)]
    assert run(project, "--constraints", "exact.txt") == []
    assert run(project) == [("", *PACKAGES)]
    assert marker.exists(), "an environment that works is updated in place"
    assert (project / ".venv" / ".gitignore").read_text() == "*\n"


def test_setup_starts_again_after_an_interruption(project, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup, "pip", interrupted)
        with pytest.raises(SystemExit, match="Interrupted"):
            setup.main([])
    rest = project / ".venv" / "half"
    rest.touch()
    assert run(project) == [("", *PACKAGES)]
    assert not rest.exists() and not (project / ".venv" / ".unfinished").exists()
    assert "did not finish" in capsys.readouterr().out
    assert run(project) == []


def test_setup_reports_a_failed_installation(project, monkeypatch):
    monkeypatch.setattr(setup, "pip", lambda *arguments: 1)
    with pytest.raises(SystemExit, match="failed"):
        setup.main([])
    assert not (project / ".venv" / ".installed").exists()


def test_setup_recreates_the_environment_of_a_folder_that_moved(project, monkeypatch, capsys):
    run(project)
    moved = project.with_name("elsewhere")
    project.rename(moved)
    monkeypatch.setattr(setup, "ROOT", moved)
    (moved / ".venv" / "old").touch()
    assert run(project) == [("", *PACKAGES)]
    assert not (moved / ".venv" / "old").exists()
    assert "in another folder" in capsys.readouterr().out


def test_setup_empties_no_folder_of_the_user(project):
    (project / "pictures").mkdir()
    (project / "pictures" / "cat.png").touch()
    with pytest.raises(SystemExit, match="pictures"):
        run(project, "--venv", "pictures")
    assert (project / "pictures" / "cat.png").exists()


def test_setup_adds_packages_once(project):
    assert run(project, "parity") == [("", *PACKAGES), ("", "torch>=2.6")]
    assert run(project, "parity") == []
    assert run(project, "parity", "--torch", "torch==2.13.0") == [("", "torch==2.13.0")]
    assert run(project, "browser", "parity", "--torch", "torch==2.13.0") == [("", "playwright")]
    (project / "benchmarks").mkdir()
    (project / setup.PEERS).write_text("peer==1", encoding="utf-8")
    peers = ("", "--no-deps", "-r", setup.PEERS)
    assert run(project, "peers") == [("", "torch>=2.6"), peers]
    (project / setup.PEERS).write_text("peer==2", encoding="utf-8")
    assert run(project, "peers") == [peers]


def test_setup_installs_a_list_of_packages_alone(project):
    (project / "list.txt").write_text("sphinx", encoding="utf-8")
    only = ("--venv", "other", "--requirements", "list.txt")
    assert run(project, *only) == [("", "-r", "list.txt")]
    (project / "pyproject.toml").write_text("more packages", encoding="utf-8")
    assert run(project, *only) == []
    (project / "list.txt").write_text("sphinx and more", encoding="utf-8")
    assert run(project, *only) == [("", "-r", "list.txt")]
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    "arguments, value",
    [
        (("--requirements", "nowhere.txt"), "'nowhere.txt'"),
        (("--python", "no-such-python"), "'no-such-python' is: not found"),
        (("--constraints", "nowhere.txt"), "'nowhere.txt'"),
        (("--disk-gb", "999999999"), "999999999 GB"),
    ],
)
def test_setup_refuses(project, arguments, value):
    with pytest.raises(SystemExit, match=value):
        run(project, *arguments)
    assert not (project / ".venv").exists()


def python(folder: Path, script: str) -> str:
    """A program that stands for a Python."""
    folder.mkdir(exist_ok=True)
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_setup_refuses_a_python_that_is_too_old_or_has_no_venv(project):
    old = python(project / "old", 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')
    with pytest.raises(SystemExit, match="Python 3.9.2"):
        run(project, "--python", old)
    bare = python(project / "bare", 'case "$2" in *ensurepip*) exit 1;; esac')
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        run(project, "--python", bare)


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_setup_installs_with_the_uv_that_is_named(tmp_path, monkeypatch):
    """But torch with pip, whose settings may name a CPU build."""
    uv, own, started = python(tmp_path / "uv", ""), setup.run_in(tmp_path), []
    monkeypatch.setattr(setup.subprocess, "call", lambda command: started.append(command[0]) or 0)
    for value in (uv, "no-such-uv", ""):
        monkeypatch.setenv("UV", value)
        for package in ("gradio>=6.0", "torch==2.13.0"):
            assert setup.pip(tmp_path, "", package) == 0
    assert started == [uv, own, own, own, own, own]


def test_setup_is_read_by_python_3_8():
    """It must be able to say that 3.11 is needed, so its syntax and annotations are those of 3.8."""
    import ast

    source = SETUP.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    assert "from __future__ import annotations" in source and not any(isinstance(n, ast.Match) for n in ast.walk(tree))
    with pytest.raises(SyntaxError):  # the check sees what 3.8 cannot read
        ast.parse("match 1:\n    case _: pass", feature_version=(3, 8))


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_passes_its_variables_on():
    line = ["make", "-s", "install", "PYTHON=no-such-python", "VENV=.venv-none"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "'no-such-python'" in done.stderr
    done = subprocess.run([*line, "CONSTRAINTS=no-such-list"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "'no-such-list'" in done.stderr
    assert not (ROOT / ".venv-none").exists()


# --- tools/check_notebooks.py -------------------------------------------------------------------------------------


FIRST = min((ROOT / "notebooks").glob("*.ipynb"))


def replace(old: str, new: str):
    """A change of every cell's source."""

    def change(notebook) -> None:
        assert any(old in cell.source for cell in notebook.cells), old
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return change


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output(kind: str, **content):
    return lambda notebook: code(notebook)[2].outputs.append(nbformat.v4.new_output(kind, **content))


CHANGES = {
    "saved state": lambda notebook: notebook.metadata.update(widgets={}),
    "59": lambda notebook: notebook.cells.extend(nbformat.v4.new_markdown_cell("more") for _ in range(60)),
    "3999": lambda notebook: notebook.cells[0].update(source=notebook.cells[0].source + " word" * 4000),
    "id of two cells": lambda notebook: notebook.cells[4].update(id=notebook.cells[3].id),
    "one title": replace("## Setup", "# Setup"),
    "title": replace("# 00 · ", "# 99 · "),
    "skips a level": replace("## Setup", "#### Setup"),
    "limit is 40": lambda notebook: code(notebook)[1].update(source="x = 1\n" * 41),
    "median": lambda notebook: [cell.update(source="x = 1\n" * 11) for cell in code(notebook)],
    "execution count": lambda notebook: code(notebook)[3].update(execution_count=99),
    "failed: ValueError": output("error", ename="ValueError", evalue="", traceback=[]),
    "stderr": output("stream", name="stderr", text="noise"),
    "NBVAL_CHECK_OUTPUT": replace("# NBVAL_CHECK_OUTPUT", "#"),
    "no output": lambda notebook: [cell.update(outputs=[]) for cell in code(notebook)],
    "bare image/png": output("display_data", data={"image/png": "AAAA"}),
    "alternative text": output("display_data", data={"text/html": '<img src="x.png" alt="">'}),
    "nowhere.md": replace("## Setup", "[a link](nowhere.md)\n\n## Setup"),
    "path of this machine": output("stream", name="stdout", text="/" + "tmp/secret"),
    "badge": replace("[![Open in Colab]", "[![Colab]"),
    "bootstrap'": lambda notebook: [cell.metadata.pop("tags", None) for cell in notebook.cells],
    "RUNTIME": replace("## Setup", "RUNTIME\n\n## Setup"),
    "card": replace("| Goal |", "| Aim |"),
    "number of minutes": replace("20 minutes", "a while"),
    "objectives": replace("After this chapter you can", "Later you can"),
    "sections": replace("## Key takeaways", "## Results"),
    "Break it on purpose": replace("## Break it on purpose", "## Break it"),
    "<details>": replace("<details>", ""),
    "Answer</summary>": replace("<summary>Answer</summary>", "<summary>Look</summary>"),
    "the library's function": replace("assert ", "print "),
    "**Next**": replace("**Next**", "Next"),
    "glossary.md in its card": replace("| [terms and symbols](../docs/glossary.md) |", "| none |"),
    "glossary.md in its last line": lambda notebook: notebook.cells[-1].update(
        source="**Next**: [chapter 01](01.ipynb)"
    ),
}


def problems(tmp_path: Path, change=lambda notebook: None) -> list[str]:
    notebook = nbformat.read(FIRST, as_version=4)
    change(notebook)
    path = tmp_path / FIRST.name
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return check_notebooks.problems(check_notebooks.chapter(path))


def test_a_sound_notebook_has_no_problems(tmp_path):
    assert problems(tmp_path) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", CHANGES)
def test_each_rule_finds_its_problem(tmp_path, part):
    found = problems(tmp_path, CHANGES[part])
    assert any(part in problem for problem in found), found
    assert all(problem.startswith(FIRST.name) for problem in found)


def test_a_chapter_links_to_its_exercises(tmp_path):
    (path,) = FIRST.parent.glob("06_*.ipynb")
    found = check_notebooks.exercises(check_notebooks.chapter(path))
    assert [*found] == []
    text = path.read_text(encoding="utf-8")
    path = tmp_path / path.name
    path.write_text(text.replace("/ex06.ipynb", "/none.ipynb"), encoding="utf-8")
    assert "ex06.ipynb" in next(check_notebooks.exercises(check_notebooks.chapter(path)))


def test_a_bootstrap_cell_of_its_own_is_a_problem(tmp_path):
    found = problems(tmp_path, replace("import importlib.util", "import importlib.util as iu"))
    assert any("bootstrap" in problem and "chapter 00" in problem for problem in found)


def test_the_lint_ends_with_the_problems(tmp_path):
    path = tmp_path / FIRST.name
    path.write_text(FIRST.read_text(encoding="utf-8").replace("## Setup", "#### Setup"), encoding="utf-8")
    command = [sys.executable, str(ROOT / "tools" / "check_notebooks.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "'Setup'" in done.stderr


def test_numbers_in_the_text_must_be_in_an_output(tmp_path):
    text = "It took 612.4 s, and 98.7% were 3.14159 wide. The paper has 77.7%. By hand: 0.123 · 2 = 0.246.\n\n## Setup"
    notebook = nbformat.read(FIRST, as_version=4)
    replace("## Setup", text)(notebook)
    path = tmp_path / FIRST.name
    found = []
    notebook.cells.append(nbformat.v4.new_code_cell(id="last"))
    for shown in ("", "1 of 0.987, in 612.38 s"):
        notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=shown)]
        path.write_text(nbformat.writes(notebook), encoding="utf-8")
        chapter = check_notebooks.chapter(path)
        found.append([number for number, _ in check_notebooks.unexplained_numbers(chapter)])
    assert found == [["612.4", "98.7%", "3.14159"], ["3.14159"]]
    assert "3.14159" in next(check_notebooks.numbers(chapter))


def test_the_source_of_a_number_is_computed_or_read():
    said = {"12.5": "(3**2 + 4**2) / 2", "79%": "0.786", "3.536": "sqrt(12.5)", "0.3": "words"}
    assert all(check_notebooks.holds(number, source) for number, source in said.items())
    assert check_notebooks.holds("59", "tools/check_notebooks.py")
    assert not check_notebooks.holds("12.6", "(3**2 + 4**2) / 2")
    assert not check_notebooks.holds("5.1234", "tools/check_notebooks.py")


# --- tools/check_prose.py -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", check_prose.RULES, ids=lambda rule: rule["name"])
def test_each_rule_of_english_finds_its_examples_and_no_others(rule):
    assert rule["wrong"] and rule["right"] and rule["instead"]
    assert all(check_prose.found_by(rule, text) for text in rule["wrong"])
    assert not any(check_prose.found_by(rule, text) for text in rule["right"])


def test_prose_is_found_in_every_kind_of_file_but_code_is_not(tmp_path):
    wrong = "This is drawn anew."
    cells = [dict(id="a", cell_type="markdown", source=[f"One.\n\n{wrong}\n"])]
    cells.append(dict(id="b", cell_type="code", source=[f"%pip list\nx = 1  # {wrong}\n"]))
    texts = {
        "page.md": f"# Page\n\n`anew` and\n\n```\nanew\n```\n\n{wrong}\n",
        "chapter.ipynb": json.dumps(dict(cells=cells)),
        "code.py": f'"""Title.\n\n{wrong}\n"""\nanew = 1\n# {wrong}\nprint(f"{{anew}}: this is drawn anew")\n',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = {name: [line.split(": anew")[0] for _, line in check_prose.problems(tmp_path / name)] for name in texts}
    lines = {"page.md": [9], "chapter.ipynb": ["a", "b"], "code.py": [6, 3, 7]}
    assert found == {name: [f"{tmp_path / name}:{line}" for line in where] for name, where in lines.items()}


def test_the_english_of_the_repository_follows_the_rules_and_the_allowance_only_shrinks():
    allowed = json.loads(check_prose.ALLOWED.read_text(encoding="utf-8"))
    names = {rule["name"] for rule in check_prose.RULES}
    assert all((ROOT / path).is_file() and counts.keys() <= names for path, counts in allowed.items())
    assert all(path.startswith("notebooks/") for path in allowed)
