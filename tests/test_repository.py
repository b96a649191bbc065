"""What surrounds the library agrees with itself: package lists, links, the address, what a wheel holds."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from minimuse.data.everyday import TASKS as everyday_tasks
from minimuse.evaluate.baselines import BASELINES
from minimuse.evaluate.stored import differing, weights_of
from minimuse.muse import STAGES

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load(name: str):
    """A script of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_notebooks = load("check_notebooks")
results = load("results")
run_notebooks = load("run_notebooks")
setup = load("setup")


ADDRESS = check_notebooks.project_address()
BOOTSTRAP = check_notebooks.bootstrap()
PIP = '%pip install -q "minimuse @ git+{address}@main"'


def our_files() -> list[Path]:
    """Every file that git tracks or would; without git, the tree less what is made there."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        files = [ROOT / name for name in listed]
    except (OSError, subprocess.CalledProcessError):
        made = re.compile(
            r"^(runs|dist|site/build|site/node_modules|\.git|\.venv|\.cache|\..*_cache)|__pycache__|\.egg-info|\.ipynb_checkpoints"
        )
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
        *(re.sub(r"\[\w+\]", "", line) for line in extras["test"]),  # conda has no extras; its pyright brings node
        "python" + PROJECT["requires-python"],
        "pip",
    ]
    assert sorted(conda) == sorted(wanted)
    assert pip == {"pip": ["-e ."]}
    assert environment["channels"] == ["conda-forge"]


def test_colab_meets_every_bound_and_there_are_no_upper_ones():
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


@pytest.mark.parametrize("name", ["colab.txt", "lowest.txt", "py311.txt"])
def test_constraints_hold_versions_only(name):
    names = [name for name, _ in pinned(ROOT / "constraints" / name)]
    assert len(set(names)) == len(names)
    assert {re.split(r"[>=]", line)[0] for line in PROJECT["dependencies"]} <= set(names)
    assert "://" not in (ROOT / "constraints" / name).read_text(encoding="utf-8")


def test_no_path_of_a_machine():
    # In pieces, so that this file does not find itself.
    machine = re.compile(r"(?<![\w.$}>/-])/(" + "|".join(["root", "home", "Users", "work", "private"]) + r")/\w+")
    found = []
    for path in our_files():
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            if match := machine.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join(found)


def notebooks() -> list[Path]:
    """All chapters, and all exercises: source, release and solutions."""
    return sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "exercises").glob("*/*/*.ipynb")])


def bootstrap_of(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if cell["id"] == "bootstrap"]
    return source


def badge_of(path: Path) -> str:
    """The first line of a notebook."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0].rstrip("\n")


def badge(address: str, name: str) -> str:
    """The Colab badge of a file of the repository at this address."""
    return check_notebooks.BADGE.format(
        target=f"{address.replace('https://github.com/', 'https://colab.research.google.com/github/')}/blob/main/{name}"
    )


def opened(path: Path) -> str:
    """What a notebook's badge opens: itself, or, from the source and the solutions of an exercise, the release."""
    return re.sub("^exercises/(source|solutions)/", "exercises/release/", path.relative_to(ROOT).as_posix())


def test_badges_lead_to_their_notebooks():
    for path in notebooks():
        assert badge_of(path) == badge(ADDRESS, opened(path)), path
        assert (ROOT / opened(path)).is_file()


def test_bootstrap_cells_are_the_same_everywhere():
    assert len(notebooks()) > 40
    assert {bootstrap_of(path) for path in notebooks()} == {BOOTSTRAP}


def test_bootstrap_is_short_and_keeps_jax():
    code = [line for line in BOOTSTRAP.splitlines() if line and not line.startswith("#")]
    assert len(code) <= 12
    assert BOOTSTRAP.startswith("# NBVAL_IGNORE_OUTPUT")
    assert "-U" not in BOOTSTRAP and "upgrade" not in BOOTSTRAP
    assert f'address = "{ADDRESS}"' in BOOTSTRAP
    assert BOOTSTRAP.index(PIP) < BOOTSTRAP.index("import jax")
    ast.parse(BOOTSTRAP.replace(PIP, "pass"))


@pytest.mark.parametrize("where", ["here", "colab"])
@pytest.mark.parametrize("owner", ["OWNER", "someone"])
def test_bootstrap_where_minimuse_is_not_installed(owner, where):
    source = BOOTSTRAP.replace(ADDRESS, f"https://github.com/{owner}/minimuse").replace(PIP, "sys.exit(address)")
    if where == "colab":
        source = f"import sys\nsys.modules['google.colab'] = sys\n{source}"
    # -S: without the packages of this environment; -I: without this folder and PYTHONPATH.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", source], cwd="/", capture_output=True, text=True)
    assert done.returncode == 1
    if (owner, where) == ("someone", "colab"):
        assert done.stderr.strip() == "https://github.com/someone/minimuse"
    else:
        *_, sentence = done.stderr.strip().splitlines()
        assert sentence.startswith("ModuleNotFoundError:") and "make lab" in sentence and "CONTRIBUTING.md" in sentence


def test_bootstrap_installs_from_its_address():
    """IPython puts the address into the line that installs."""
    from IPython.core.interactiveshell import InteractiveShell

    asked, shell = [], InteractiveShell()
    shell.register_magic_function(asked.append, magic_name="pip")
    shell.run_cell(f"address = 'https://github.com/someone/minimuse'\nif address:\n    {PIP}")
    assert asked == ['install -q "minimuse @ git+https://github.com/someone/minimuse@main"']


@pytest.mark.skipif(not (shutil.which("git") and shutil.which("sed")), reason="needs git and sed")
def test_a_fork_changes_its_address_by_one_command(tmp_path):
    """The command of CONTRIBUTING.md, run in a copy."""
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Your own fork")[2]
    command = re.search(r"```bash\n(.+?)\n```", section, re.DOTALL)[1]
    assert "YOU/minimuse" in command
    texts = [path.relative_to(ROOT) for path in our_files() if text_of(path) is not None]
    for name in texts:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for line in ("git init -q", "git add -A", command.replace("YOU/minimuse", "someone/minimuse")):
        subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    after = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert sorted(after) == sorted(texts), "something was left behind"
    owner = ADDRESS.removeprefix("https://github.com/")
    for name in texts:
        assert owner not in text_of(tmp_path / name), name
    fork = "https://github.com/someone/minimuse"
    assert f'Repository = "{fork}"' in (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    assert f"git clone --depth 1 {fork}.git" in (tmp_path / "README.md").read_text(encoding="utf-8")
    for path in notebooks():
        copy = tmp_path / path.relative_to(ROOT)
        assert badge_of(copy) == badge(fork, opened(path))
        assert bootstrap_of(copy) == BOOTSTRAP.replace(ADDRESS, fork)


def test_the_pages_show_what_was_measured():
    for page, text in results.pages().items():
        assert (ROOT / page).read_text(encoding="utf-8") == text, "run `python tools/results.py`"
    for name, command in (results.COMMANDS | results.ON_A_GPU).items():
        assert json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())["command"] == command


def stored_files() -> dict[str, dict]:
    """What is stored, by folder and name: results, experiments, and the curve that is an experiment."""
    paths = [path for folder in ("results", "experiments") for path in (ROOT / "data" / folder).glob("*.json")]
    paths.append(ROOT / "data" / "curves" / "first_transformer.json")
    return {f"{path.parent.name}/{path.stem}": json.loads(path.read_text(encoding="utf-8")) for path in paths}


def wrong_fingerprints(files: dict[str, dict]) -> list[str]:
    """What is wrong with the fingerprints of these files."""
    wrong = []
    for name, content in files.items():
        if "weights" not in content:
            wrong.append(f"{name} has no fingerprint: measure it with tools/results.py")
        elif names := differing(content["weights"]):
            wrong.append(f"{name} was measured with other weights ({', '.join(names)}): measure it again")
        elif content["weights"] == {} and not name.startswith("results/"):
            wrong.append(f"{name} names no weights")
    return wrong


def test_what_is_stored_was_measured_with_the_shipped_weights():
    wrong = wrong_fingerprints(stored_files())
    assert not wrong, "\n".join(wrong)


def test_a_stored_file_of_other_weights_is_refused():
    base = weights_of("base", text=False, scorer=False)
    other = dict.fromkeys(base, "0123456789ab")
    files = {"results/a": dict(weights=base), "results/b": dict(weights=other), "results/c": {}}
    files |= {"results/d": dict(weights={}), "experiments/e": dict(weights={})}
    assert [line.split()[0][-1] for line in wrong_fingerprints(files)] == ["b", "c", "e"]


def test_every_experiment_can_be_repeated_and_the_old_one_is_kept(tmp_path, monkeypatch):
    modules = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__", "small"}
    assert set(results.EXPERIMENTS) == modules
    stored = tmp_path / "data" / "experiments" / "race.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("old")
    (tmp_path / "runs" / "experiments" / "race" / "run").mkdir(parents=True)
    commands = []
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results.subprocess, "run", lambda command, **options: commands.append(command[1:]))
    results.repeat("race", fresh=False)
    assert stored.read_text() == "old" and not (tmp_path / "runs" / "before").exists()
    monkeypatch.setattr(
        results.subprocess, "run", lambda command, **options: commands.append(command[1:]) or stored.write_text("new")
    )
    results.repeat("race")
    assert stored.read_text() == "new"
    results.repeat("claims")  # nothing was there
    assert commands == [["-m", "experiments.race"]] * 2 + [["-m", "experiments.claims"]]
    (away,) = (tmp_path / "runs" / "before").iterdir()
    assert (away / "race.json").read_text() == "old" and (away / "race" / "run").is_dir()


def test_rows_come_back_if_an_experiment_fails_before_its_first(tmp_path, monkeypatch):
    stored = tmp_path / "data" / "experiments" / "race.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("old")
    monkeypatch.setattr(results, "ROOT", tmp_path)

    def fail(command, **options):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(results.subprocess, "run", fail)
    with pytest.raises(subprocess.CalledProcessError):
        results.repeat("race")
    assert stored.read_text() == "old"


def test_measurements_have_a_fingerprint_and_the_chapters_are_timed_last(monkeypatch):
    every = results.measurements(list(results.ALL), list(results.EXPERIMENTS))
    names = [each.name for each in every]
    assert len(set(names)) == len(results.ALL) + len(results.EXPERIMENTS) and names[-1] == "chapters"
    paths = {f"{each.path.parent.name}/{each.path.stem}" for each in every if "gpu" not in each.name}
    assert paths <= stored_files().keys()
    printed = {name for name, line in results.ALL.items() if "minimuse evaluate" in line}
    trained = {name for name in results.ALL if results.WEIGHTS[name]()}
    assert not printed & trained and trained == {"first_image", "superres_cost", "chapters", "grid"}
    for line, weights in (
        ("{}", results.weights_of(*results.CASCADE, scorer=False)),
        ('{"weights": {"a": "b"}}', {"a": "b"}),
    ):
        done = subprocess.CompletedProcess([], 0, stdout=line)
        monkeypatch.setattr(results.subprocess, "run", lambda command, done=done, **options: done)
        stored = results.measure("grid")
        assert stored["weights"] == weights and stored["result"] == {} and stored["took"] >= 0
        assert stored["command"] == results.ALL["grid"]


def test_pages_show_exact_and_the_second_judge_where_they_were_measured():
    stored = without_people()
    for name in ("val", "unseen_pairs", "unseen_words", "cascade"):
        result = {key: value for key, value in stored[name]["result"].items() if not key.startswith("exact")}
        stored[name] = stored[name] | dict(result=result | dict(overall=0.91))
    for name in ("tokenizer", "superres_tokenizer", "superres_decoder"):
        result = {key: value for key, value in stored[name]["result"].items() if key != "frechet_random"}
        stored[name] = stored[name] | dict(result=result)
    before = results.results_page(stored) + results.headline(stored)
    assert "91%" in before and "91% /" not in before and "| random |" not in before
    new = dict(overall=0.91, exact=0.87, exact_tasks=dict.fromkeys(results.TASKS, 0.5))
    stored["val"] = stored["val"] | dict(result=stored["val"]["result"] | new)
    stored["tokenizer"] = stored["tokenizer"] | dict(result=stored["tokenizer"]["result"] | dict(frechet_random=0.0123))
    page = results.results_page(stored)
    assert "**91% / 87%** | **91%** |" in page and "| random |" in page and "| 0.012 |" in page
    assert "**87%**" in results.headline(stored)


def test_a_share_below_1_does_not_read_100_percent():
    assert [results.percent(share) for share in (0.994, 0.995, 0.9996, 1.0)] == ["99%", "99.5%", "99.96%", "100%"]
    assert results.percent(0.9996, 1) == "99.96%"


def without_people() -> dict[str, dict]:
    """What the pages read, less the captions as people type them."""
    names = [*results.COMMANDS, *results.ON_A_GPU, "peers"]
    return {name: stored_files()[f"results/{name}"] for name in names if name not in results.OPTIONAL}


def test_the_results_page_shows_the_fastest_exact_setting_of_each_way():
    stored = without_people()
    assert "Time to quality" not in results.results_page(stored)
    options = dict(order="halton", law="exp")
    arms = {  # exact, seconds at batch 1 and 16
        "parallel, halton, exp, 8 steps": (0.96, 0.1, 0.05),
        "parallel, halton, exp, 12 steps": (0.98, 0.3, 0.125),
        "parallel, halton, exp, 24 steps": (0.99, 0.5, 0.25),
        "diffusion, 50 steps": (0.9, 0.75, 0.5),
        "diffusion, 25 steps": (0.8, 0.375, 0.25),
    }
    rows = []
    for arm, (exact, one, many) in arms.items():
        about = dict(arm=arm, drawer=arm.split(",")[0], options=options if arm.startswith("parallel") else {})
        rows.append(about | dict(exact=exact, seconds={"1": one, "16": many}))
    stored["experiments.race"] = dict(rows=rows, settings=dict(captions=256))
    page = results.results_page(stored)
    assert "| parallel, halton, exp | 0.3 s (12 steps: 98.0%) | 0.125 s (12 steps: 98.0%) |" in page
    assert "| diffusion | 0.75 s (50 steps: only 90.0%) | 0.5 s (50 steps: only 90.0%) |" in page
    assert "±2 points" in page


def test_the_results_page_compares_the_ways_of_editing_without_a_mask():
    stored = without_people()
    assert "`resample` is the paper's" not in results.results_page(stored)
    of = lambda success, kept: dict(success=success, preservation=kept)
    row = dict(arm="read", kinds=dict(object=of(0.9, 0.8), background=of(1.0, 0.7))) | of(0.95, 0.75)
    stored["experiments.mask_reading"] = dict(rows=[row], settings=dict(edits=300))
    assert "| read | 90.0%, 80.0% | 100.0%, 70.0% | 95.0%, 75.0% |" in results.results_page(stored)


def test_pages_show_captions_as_people_type_them_once_they_are_measured():
    stored = without_people()
    before = results.results_page(stored) + results.headline(stored)
    assert "`everyday`" not in before and "`typed`" not in before
    shares = dict.fromkeys(results.EVERYDAY, 0.5) | dict(counting=None, three=0.0)
    everyday = dict(overall=0.61, exact=0.43, tasks=shares, exact_tasks=shares, settings=dict(n=1200))
    stored["everyday"] = stored["val"] | dict(result=everyday)
    page = results.results_page(stored)
    assert "| **61% / 43%** |" in page and "| three objects | 0% / 0% |" in page and "`typed`" not in page
    assert "43%" not in results.headline(stored), "one of the two is not measured yet"
    for name, asked, exact in zip(results.TYPED, (0.7, 0.8, 0.9), (0.5, 0.6, 0.7)):
        stored[name] = stored["val"] | dict(result=dict(overall=asked, exact=exact, settings=dict(n=60)))
    page = " ".join(results.results_page(stored).split())
    assert "70% / 50%, 80% / 60%, 90% / 70%; mean **80% / 60%**" in page
    headline = " ".join(results.headline(stored).split())
    assert "**61%** and **43%** of 1,200 captions" in headline and "**80%** and **60%** of 60 captions" in headline
    assert {*results.EVERYDAY} == {*everyday_tasks}


def test_pages_show_seen_and_unseen_artwork_beside_each_other():
    stored = without_people()
    for name, seen, unseen in (
        ("tokenizer", 40.0, 21.0),
        ("superres_tokenizer", 32.0, 27.0),
        ("superres_decoder", 35.0, 26.5),
    ):
        result = dict(seen=dict(psnr=seen, ssim=0.9, frechet_random=0.1), n=256, artwork=224)
        result |= dict(unseen=dict(psnr=unseen, ssim=0.8, frechet_random=2.0))
        stored[f"artwork_{name}"] = stored[f"artwork_{name}"] | dict(result=result)
    for page in (results.artwork(stored), results.tokenizers(stored)):
        assert "| 40.0 dB | 21.0 dB |" in page and "| 35.0 dB | 26.5 dB |" in page
        assert "+3.0 dB" in page and "−0.5 dB" in page


def test_a_chapter_between_two_others_has_a_number_of_its_own(tmp_path, monkeypatch):
    assert check_notebooks.number(Path("01a_jax_primer.ipynb")) == "01a" and results.number("05_masked") == "05"
    assert sorted(["02_b", "01a_c", "01_a"]) == ["01_a", "01a_c", "02_b"]
    (tmp_path / "notebooks").mkdir()
    for stem in ("01_a", "01a_c", "02_b"):
        text = json.dumps(dict(cells=[dict(cell_type="markdown", source=[f"# {results.number(stem)} · Title"])]))
        (tmp_path / "notebooks" / f"{stem}.ipynb").write_text(text)
    (tmp_path / "data" / "results").mkdir(parents=True)
    stored = tmp_path / "data" / "results" / "chapters.json"
    stored.write_text(json.dumps(dict(result={"01_a": 5, "02_b": 6}, machine="a machine")))
    monkeypatch.setattr(results, "ROOT", tmp_path)
    page = results.chapters(dict(chapters=json.loads(stored.read_text())))
    assert "[01a Title](notebooks/01a_c.ipynb) | not measured yet" in page and "| 5 s |" in page
    asked = []
    monkeypatch.setattr(results.subprocess, "run", lambda command, **options: asked.append(Path(command[-1]).stem))
    assert list(results.time_chapters(["01a"])) == ["01_a", "01a_c", "02_b"] and asked == ["01a_c"]


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in our_files() if path.suffix == ".md")


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page can name, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
def test_links_to_files_resolve(name):
    page, text = ROOT / name, without_code(ROOT / name)
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:href|src)="([^"]+)"', text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_glossary_agrees_with_the_shipped_checkpoint_and_is_in_order():
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    symbols, terms = (
        [re.split(r" *\| *", line)[1:-1] for line in part.splitlines() if line.startswith("| ")][1:]
        for part in page.split("## Terms")
    )
    values = {
        symbol.strip("`"): [int(v.replace(",", "")) for v in re.findall(r"(?<![\d.])\d[\d,]*(?![\d.])", value)]
        for symbol, _, value, _ in symbols
    }
    found = json.loads((ROOT / "data" / "checkpoints" / "tiny" / "config.json").read_text(encoding="utf-8"))
    stages = found["base"], found["superres"]
    assert values["N"] == [stage["grid"][0] * stage["grid"][1] for stage in stages]
    assert values["D"][0] == stages[0]["width"] and values["D"][1] == stages[1]["width"]
    assert values["d"] == [stage["width"] // stage["heads"] for stage in stages]
    assert values["K"] == [stages[0]["codebook_size"]] and values["S"] == [stages[0]["text_length"]]
    assert values["f"] == [found[name]["factor"] for name in ("tokenizer", "superres_tokenizer")]
    assert values["T"] == [found["sampling"][name]["steps"] for name in ("base", "superres")]
    assert f"| {found['sampling']['base']['guidance']} |" in page and f"| {found['tokenizer']['beta']} |" in page
    names = [term for term, _, _ in terms]
    assert names == sorted(names, key=lambda term: term.strip("[]").lower()) and len(set(names)) == len(names)


def test_every_page_of_docs_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in PAGES if name.startswith("docs/") and f"]({name})" not in text]
    assert not missing, missing


def test_the_file_tree_of_the_readme_is_complete():
    """One line for every file on the top floor of minimuse/, and for every folder there and of the repository."""
    (tree,) = re.findall(r"```\n(minimuse/\n.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shown = re.findall(r"[\w.]+\.py\b|\w+/", tree)
    files = [path.relative_to(ROOT) for path in our_files()]
    top = {path.parts[0] + "/" for path in files if len(path.parts) > 1 and not path.parts[0].startswith(".")}
    inside = [path.parts[1:] for path in files if path.parts[0] == "minimuse" and path.suffix in (".py", ".typed")]
    rooms = {parts[0] + "/" if len(parts) > 1 else parts[0] for parts in inside} - {"py.typed"}
    nested = {parts[-1] for parts in inside if len(parts) > 1}  # may be named beside their folder
    assert rooms | top - {"constraints/"} <= set(shown) <= rooms | top | nested


def test_from_paper_to_code_resolves():
    """Each [`room.name`](minimuse/room.py) of the README is a name of that file."""
    rows = re.findall(r"\[`([\w.]+)`\]\(minimuse/([\w/]+)\.py\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(rows) > 30
    for name, file in rows:
        room = file.replace("/", ".")
        assert name.startswith(f"{room}."), f"{name} leads to {file}.py"
        body = ast.parse((ROOT / "minimuse" / f"{file}.py").read_text(encoding="utf-8")).body
        for part in name.removeprefix(f"{room}.").split("."):
            match = [node for node in body if part in _names(node)]
            assert match, f"minimuse/{file}.py has no {part}"
            body = getattr(match[0], "body", [])


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def test_a_wheel_holds_what_the_library_reads():
    builders = pytest.importorskip("hatchling.builders.wheel")
    held = {file.distribution_path for file in builders.WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"minimuse/__init__.py", "minimuse/py.typed", "minimuse/teach/doctor.py"} <= held
    data = ["sprites.parquet", "LICENSE-sprites.md", "unseen_artwork.parquet", "LICENSE-artwork.md"]
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
    config.pop("trained_before", None)  # as if everything were trained in one run
    config["trained"] = {phase: record | dict(start="") for phase, record in config["trained"].items()}
    (run / "config.json").write_text(json.dumps(config | dict(text="text")))
    shipped = [f"checkpoints/tiny ({', '.join(name for name in (*STAGES, *BASELINES) if name in config)})"]
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
    part["trained"] = dict(base=part["trained"]["base"] | dict(start="tiny", seed=8))  # the run went on from there
    (run / "config.json").write_text(json.dumps(part))
    ship_run.ship(run, data)
    again = json.loads((data / "checkpoints" / "tiny" / "config.json").read_text())
    assert again["trained"]["base"]["seed"] == 8 and again["trained_before"]["base"][-1] == merged["trained"]["base"]
    assert json.loads((data / "curves" / "base.json").read_text()) == curve
    assert (data / "curves" / "base_continued.json").is_file()
    with open(run / "base.safetensors", "ab") as file:
        file.truncate(ship_run.LARGEST + 1)
    with pytest.raises(SystemExit, match="16.0 MiB"):
        ship_run.ship(run, data)


def test_licences():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    content = (ROOT / "LICENSE-CONTENT").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in content and "Section 8" in content
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file(), name


@pytest.mark.slow
def test_a_notebook_runs_in_place_and_is_tidied(tmp_path):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    path = tmp_path / "one.ipynb"
    wide = "import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    print('inside')\nout"
    slowly = "import time\nfor row in 'ab':\n    print(row, flush=True)\n    time.sleep(0.5)"
    cells = [new_code_cell("1 + 1", id="bootstrap"), new_code_cell(wide), new_code_cell(slowly)]
    nbformat.write(new_notebook(cells=cells, metadata=dict(widgets=dict(state={}))), path)
    run_notebooks.run(path, timeout=60)
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["bootstrap", "cell-01", "cell-02"]
    assert "widgets" not in notebook.metadata
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    sum_, widget, table = (cell.outputs for cell in notebook.cells)
    assert sum_[0].data["text/plain"] == "2"
    assert len(widget) == 1 and run_notebooks.WIDGET in widget[0].data
    assert [output.text for output in table] == ["a\nb\n"]

    before = path.read_text()
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    failing = path.read_text()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        run_notebooks.run(path, timeout=60)
    assert path.read_text() == failing != before
