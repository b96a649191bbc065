"""What is around the library agrees with itself: package lists, links, generated cells, what a wheel holds."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from minimuse.evaluate.baselines import TWINS
from minimuse.weights import STAGES

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load(name: str):
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


links = load("links")
results = load("results")
run_notebooks = load("run_notebooks")


def our_files() -> list[Path]:
    """Every file that git tracks or would; without git, the tree less what is made there."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        files = [ROOT / name for name in listed]
    except (OSError, subprocess.CalledProcessError):
        made = re.compile(r"^(runs|dist|\.git|\.venv|\.cache|\..*_cache)|__pycache__|\.egg-info|\.ipynb_checkpoints")
        files = [path for path in ROOT.rglob("*") if not made.search(path.relative_to(ROOT).as_posix())]
    return [path for path in files if path.is_file()]


def text_of(path: Path) -> str | None:
    """The text of a file, or None if it is not text."""
    content = path.read_bytes()
    try:
        return None if b"\0" in content[:8000] else content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def test_environment_yml_has_the_same_packages():
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *extras["notebooks"],
        *extras["test"],
        "python" + PROJECT["requires-python"],
        "pip",
    ]
    assert sorted(conda) == sorted(wanted)
    assert pip == {"pip": ["-e ."]}
    assert environment["channels"] == ["conda-forge"]


def test_bounds_are_lower_ones_that_colab_meets():
    colab = dict(pinned(ROOT / "constraints" / "colab.txt"))
    numbers = lambda version: [int(part) for part in version.split(".")]
    for line in PROJECT["dependencies"]:
        name, bound = line.split(">=")
        assert re.fullmatch(r"[\d.]+", bound), f"{line}: one lower bound, no upper one"
        assert numbers(colab[name]) >= numbers(bound), f"Colab has {name} {colab[name]}"


def pinned(path: Path) -> list[tuple[str, str]]:
    """name, version of each line of a constraints file."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line), f"{path.name}: {line!r} is not name==version"
    return [(name.lower(), version) for name, version in (line.split("==") for line in lines)]


@pytest.mark.parametrize("name", ["colab.txt", "py311.txt"])
def test_constraints_hold_versions_only(name):
    names = [name for name, _ in pinned(ROOT / "constraints" / name)]
    assert len(set(names)) == len(names)
    assert {re.split(r"[>=]", line)[0] for line in PROJECT["dependencies"]} <= set(names)
    assert "://" not in (ROOT / "constraints" / name).read_text(encoding="utf-8")


def test_no_path_of_a_machine():
    # The pieces are apart so that this file does not find itself.
    machine = re.compile(r"(?<![\w.$}>/-])/(" + "|".join(["root", "home", "Users", "work", "private"]) + r")/\w+")
    found = []
    for path in our_files():
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            if match := machine.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def test_the_address_stands_in_one_place():
    address = links.repository(ROOT)
    generated = set(links.wanted(ROOT))
    for path in our_files():
        if path.name != "pyproject.toml" and path not in generated and "tests" not in path.parts:
            assert address not in (text_of(path) or ""), path


def test_links_and_bootstrap_cells_are_generated():
    files = [str(path.relative_to(ROOT)) for path in links.differing(ROOT)]
    assert not files, f"run `python tools/links.py`; it would change {files}"


def test_the_pages_tell_what_was_measured():
    for page, text in results.pages().items():
        assert (ROOT / page).read_text(encoding="utf-8") == text, "run `python tools/results.py`"
    for name, command in (results.COMMANDS | results.ON_A_GPU).items():
        assert json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())["command"] == command


def test_every_experiment_can_be_made_anew_and_the_old_one_is_kept(tmp_path, monkeypatch):
    modules = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__", "small"}
    assert set(results.EXPERIMENTS) == modules
    (tmp_path / "data" / "experiments").mkdir(parents=True)
    (tmp_path / "data" / "experiments" / "race.json").write_text("old")
    (tmp_path / "runs" / "experiments" / "race" / "run").mkdir(parents=True)
    commands = []
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results.subprocess, "run", lambda command, **options: commands.append(command[1:]))
    results.repeat("race")
    results.repeat("claims")  # nothing was there
    assert commands == [["-m", "experiments.race"], ["-m", "experiments.claims"]]
    (away,) = (tmp_path / "runs" / "before").iterdir()
    assert (away / "race.json").read_text() == "old" and (away / "race" / "run").is_dir()
    assert not (tmp_path / "data" / "experiments" / "race.json").exists()


@pytest.mark.parametrize("address", ["https://github.com/OWNER/minimuse", "https://github.com/someone/a.fork"])
def test_bootstrap_is_short_and_keeps_jax(address):
    source = links.bootstrap(address)
    code = [line for line in source.splitlines() if line and not line.startswith("#")]
    assert len(code) <= 12
    assert source.startswith("# NBVAL_IGNORE_OUTPUT")
    pip = source.find("%pip")
    assert "-U" not in source and "upgrade" not in source and pip < source.index("import jax")
    ast.parse(source.replace("%pip", "pass  #"))
    if links.is_set(address):
        assert f'"minimuse @ git+{address}@main"' in source
    else:
        assert pip == -1 and "make lab" in source and "tools/links.py" in source


def test_bootstrap_says_what_to_do(tmp_path):
    """Where minimuse is not installed and not on Colab."""
    import sys

    for address in ("https://github.com/OWNER/minimuse", "https://github.com/someone/fork"):
        script = tmp_path / "cell.py"
        script.write_text(links.bootstrap(address).replace("%pip", "pass  #"), encoding="utf-8")
        result = subprocess.run([sys.executable, "-S", str(script)], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 1
        assert "ModuleNotFoundError: minimuse is not installed" in result.stderr and "make lab" in result.stderr


@pytest.fixture
def fork(tmp_path):
    """The files that tools/links.py touches, copied."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, tmp_path / "notebooks")
    return tmp_path


def test_a_fork_changes_one_line(fork, capsys):
    pyproject = fork / "pyproject.toml"
    address = links.repository(fork)
    pyproject.write_text(pyproject.read_text("utf-8").replace(address, "https://github.com/someone/fork.git/"), "utf-8")
    with pytest.raises(SystemExit, match="Run `python tools/links.py`"):
        links.main(["--check"], root=fork)
    links.main([], root=fork)
    links.main(["--check"], root=fork)
    assert "as it should be" in capsys.readouterr().out
    readme = (fork / "README.md").read_text("utf-8")
    assert address not in readme and "git clone https://github.com/someone/fork.git && cd fork" in readme
    badge = "https://colab.research.google.com/github/someone/fork/blob/main/notebooks/"
    assert badge in readme
    for path in (fork / "notebooks").glob("*.ipynb"):
        assert badge + path.name in path.read_text("utf-8")


@pytest.mark.parametrize("address", ["", "http://example.org/x", "https://github.com/only"])
def test_an_address_that_is_none(fork, address):
    pyproject = fork / "pyproject.toml"
    pyproject.write_text(pyproject.read_text("utf-8").replace(links.repository(fork), address), "utf-8")
    with pytest.raises(SystemExit, match="must look like"):
        links.main([], root=fork)


def test_a_notebook_without_marks(fork):
    path = fork / "notebooks" / "99_new.ipynb"
    path.write_text('{"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# x"]}]}', "utf-8")
    with pytest.raises(SystemExit, match="99_new.ipynb has no lines <!-- links -->"):
        links.main([], root=fork)


@pytest.mark.parametrize("name", ["README.md", "data/LICENSE-sprites.md"])
def test_links_to_files_resolve(name):
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = [heading.lower() for heading in re.findall(r"^#+ (.+)", text, re.MULTILINE)]
    anchors = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not re.match(r"[a-z]+:", link):
            assert ((ROOT / name).parent / link.split("#")[0]).exists(), link


def test_from_paper_to_code_resolves():
    """Each [`room.name`](minimuse/room.py) of the README is a name of that file."""
    rows = re.findall(r"\[`([\w.]+)`\]\(minimuse/(\w+)\.py\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(rows) > 10
    for name, room in rows:
        head, *path = name.split(".")
        assert head == room, f"{name} leads to {room}.py"
        body = ast.parse((ROOT / "minimuse" / f"{room}.py").read_text(encoding="utf-8")).body
        for part in path:
            match = [node for node in body if part in _names(node)]
            assert match, f"minimuse/{room}.py has no {part}"
            body = getattr(match[0], "body", [])


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def test_a_wheel_holds_what_the_library_reads():
    builders = pytest.importorskip("hatchling.builders.wheel")
    held = {file.distribution_path for file in builders.WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"minimuse/__init__.py", "minimuse/py.typed", "minimuse/teach/doctor.py"} <= held
    data = ["sprites.parquet", "LICENSE-sprites.md"]
    for folder in ("t5-scenes", "checkpoints", "curves", "experiments", "results"):
        inside = [path for path in (ROOT / "data" / folder).rglob("*") if path.is_file()]
        assert inside, f"data/{folder} is empty"
        data += [path.relative_to(ROOT / "data").as_posix() for path in inside]
    assert {f"minimuse/_data/{name}" for name in [*data, "pipeline.svg"]} <= held
    assert all(name.startswith("minimuse/") for name in held)


def test_shipping_a_run_leaves_what_it_did_not_train(tmp_path):
    spec = importlib.util.spec_from_file_location("ship_run", ROOT / "data" / "ship_run.py")
    ship_run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ship_run)
    run, data = tmp_path / "run", tmp_path / "data"
    run.mkdir()
    assert ship_run.ship(run, data) == []
    shutil.copytree(ROOT / "data" / "checkpoints" / "tiny", run, dirs_exist_ok=True)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | dict(text="text")))
    shipped = [f"checkpoints/tiny ({', '.join(name for name in (*STAGES, *TWINS) if name in config)})"]
    assert ship_run.ship(run, data) == shipped
    assert json.loads((data / "checkpoints" / "tiny" / "config.json").read_text())["text"] == "t5-scenes"
    assert sorted(path.name for path in data.rglob("*") if path.is_file()) == sorted(
        path.name for path in run.iterdir()
    )
    (run / "base").mkdir()  # a log becomes a curve
    (run / "base" / "log.jsonl").write_text('{"step": 20, "seconds": 1.0, "loss": 2.0}\n')
    for name in ("settings.json", "machine.json"):
        (run / "base" / name).write_text("{}")
    assert ship_run.ship(run, data) == shipped
    curve = json.loads((data / "curves" / "base.json").read_text())
    assert curve["step"] == [20] and curve["metrics"]["loss"] == dict(low=[2.0], middle=[2.0], high=[2.0])
    whole = json.loads((data / "checkpoints" / "tiny" / "config.json").read_text())
    part = {key: config[key] for key in ("format", "preset", "text", "sampling", "base")}
    part |= dict(trained=dict(base=config["trained"]["base"] | dict(seed=7)))
    (run / "config.json").write_text(json.dumps(part))
    assert ship_run.ship(run, data) == ["checkpoints/tiny (base)"]
    merged = json.loads((data / "checkpoints" / "tiny" / "config.json").read_text())
    assert merged == whole | dict(trained=whole["trained"] | part["trained"]) != whole
    with open(run / "base.safetensors", "ab") as file:
        file.truncate(ship_run.LARGEST + 1)
    with pytest.raises(SystemExit, match="the repository takes 16 at most"):
        ship_run.ship(run, data)


def test_licences():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    content = (ROOT / "LICENSE-CONTENT").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in content and "Section 8" in content
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file(), name


def test_a_notebook_runs_in_place_and_is_tidied(tmp_path):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    path = tmp_path / "one.ipynb"
    wide = "import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    print('inside')\nout"
    cells = [new_code_cell("1 + 1", id="bootstrap"), new_code_cell(wide)]
    nbformat.write(new_notebook(cells=cells, metadata=dict(widgets=dict(state={}))), path)
    run_notebooks.run(path, timeout=60)
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["bootstrap", "cell-01"] and "widgets" not in notebook.metadata
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    sum_, widget = (cell.outputs for cell in notebook.cells)
    assert sum_[0].data["text/plain"] == "2"
    assert len(widget) == 1 and run_notebooks.WIDGET in widget[0].data

    before = path.read_text()
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    failing = path.read_text()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run_notebooks.run(path, timeout=60)
    assert path.read_text() == failing != before
