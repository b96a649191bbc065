"""Measure the stored results, and write them into the pages: `python tools/results.py`, or `--check` to only compare.

    python tools/results.py --measure              all measurements
    python tools/results.py --measure tokenizer    one of them
    python tools/results.py --experiments          the experiments that notebooks show; hours, because some train models
    python tools/results.py --experiments race     one of these

What is stored for the same command, settings and weights is skipped, so a stopped command continues; `--again` measures
it again. `--plan` only prints what would be measured, and how long that takes. `--measure --experiments` is
`python -m minimuse evaluate all`.

Every measurement is a command of the repository. data/results/NAME.json keeps the command, the machine, the versions,
the fingerprint of the weights, the seconds that it took, and the command's output. From these files only, this script
writes docs/results.md and the blocks of README.md and benchmarks/README.md that stand between <!-- NAME --> and
<!-- /NAME -->.
"""

import argparse
import functools
import itertools
import json
import re
import shlex
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minimuse.evaluate.stored import Measurement, defaults_of, remake, shipped_weights, weights_of
from minimuse.files import write_text

ROOT = Path(__file__).resolve().parent.parent
CASCADE = ("tokenizer", "base", "superres_tokenizer", "superres", "superres_decoder")
COMMANDS = {
    "scorer": "python -m minimuse evaluate scorer --n 1200 --json",
    "tokenizer": "python -m minimuse evaluate tokenizer --preset tiny --n 1024 --json",
    "superres_tokenizer": "python -m minimuse evaluate tokenizer --stage superres --no-finetuned --n 1024 --json",
    "superres_decoder": "python -m minimuse evaluate tokenizer --stage superres --finetuned --n 1024 --json",
    "artwork_tokenizer": "python -m minimuse evaluate tokenizer --artwork unseen --n 256 --json",
    "artwork_superres_tokenizer": (
        "python -m minimuse evaluate tokenizer --stage superres --no-finetuned --artwork unseen --n 256 --json"
    ),
    "artwork_superres_decoder": (
        "python -m minimuse evaluate tokenizer --stage superres --finetuned --artwork unseen --n 256 --json"
    ),
    "val": "python -m minimuse evaluate generation --preset tiny --split val --n 1200 --json",
    "val_1": "python -m minimuse evaluate generation --preset tiny --split val --n 1200 --seed 1 --json",
    "val_2": "python -m minimuse evaluate generation --preset tiny --split val --n 1200 --seed 2 --json",
    "unseen_pairs": "python -m minimuse evaluate generation --preset tiny --split unseen_pairs --n 1200 --json",
    "unseen_words": "python -m minimuse evaluate generation --preset tiny --split unseen_words --n 1200 --json",
    "everyday": "python -m minimuse evaluate generation --preset tiny --split everyday --n 1200 --json",
    "typed": "python -m minimuse evaluate generation --split typed --n 60 --json",
    "typed_1": "python -m minimuse evaluate generation --split typed --n 60 --seed 1 --json",
    "typed_2": "python -m minimuse evaluate generation --split typed --n 60 --seed 2 --json",
    "cascade": "python -m minimuse evaluate generation --stage superres --split val --n 1200 --json",
    "editing": "python -m minimuse evaluate editing --json",
    "first_image": "python -m benchmarks.first_image",
    "train_rate": "python -m benchmarks.train_rate",
    "decoding": "python -m benchmarks.decoding --json",
    "mesh": "python -m benchmarks.mesh --simulate 8 --batch 4 --json",
    "train_memory": "python -m benchmarks.train_memory --preset colab --pieces 1 2 4",
    "superres_cost": "python -m benchmarks.superres --json",
    "chapters": "python tools/results.py --time-chapters",
    "grid": "python tools/results.py --draw-grid",
}
ON_A_GPU = {"paper_sizes": "python -m benchmarks.paper_sizes --measure --json"}  # only measured by name
PEERS = {  # only measured by name, with the Python of `make peers`
    "peers": "python -m benchmarks.peers --json",
    "peers_gpu": "python -m benchmarks.peers --json --device cuda",
}
ALL = COMMANDS | ON_A_GPU | PEERS
TYPED = ("typed", "typed_1", "typed_2")  # the same captions with three seeds
VAL = ("val", "val_1", "val_2")  # the same again
OPTIONAL = ("everyday", *TYPED, "val_1", "val_2")  # the pages leave out what is not measured yet
WEIGHTS = dict.fromkeys(ALL, dict) | {  # the fingerprint of commands that do not print it; without: no trained weights
    "first_image": lambda: weights_of(*CASCADE, scorer=False),
    "superres_cost": lambda: weights_of(*CASCADE, scorer=False),
    "chapters": shipped_weights,
    "grid": lambda: weights_of(*CASCADE, scorer=False),
}
EXPERIMENTS = (  # in data/experiments or data/curves; those from "style" on train models
    *("sampling", "race", "guidance", "negatives", "superres", "mask_free", "mask_reading", "defaults", "claims"),
    *("equal_work", "style", "fsq", "weights"),
    *("discriminator", "text_encoders", "mask_rates", "first_transformer", "cascade"),
)
Results = dict[str, dict[str, Any]]  # by name, what data/results/NAME.json holds
GRID = "notebooks/figures/first_pictures.png"
CAPTIONS = (  # each drawn once, with seed 0, not cherry-picked
    "a cat on a blue background",
    "a penguin and a pizza on a pink background",
    "three strawberries on a white background",
    "a circle that is red on a yellow background",
    "a dog left of a tree on a green background",
    "a green heart above a red square",
    "an owl on a purple background",
    "a rocket above a star on a purple background",
    "four donuts on a white background",
    "a purple book against an orange background",
    "a bus right of a house, grey background",
    "a blue circle left of a yellow square",
)
TASKS = {
    "one": "one object",
    "two": "two objects",
    "counting": "counting, 1 to 4",
    "colours": "colours",
    "position": "position",
    "binding": "colour binding",
}
EVERYDAY = {  # minimuse.data.everyday.TASKS
    "one": "one object",
    "size": "one big or small object",
    "colours": "colours",
    "number": "counting, 1 to 6",
    "two": "two objects",
    "counts": "two kinds with their numbers",
    "three": "three objects",
    "position": "position",
    "binding": "colour binding",
}
TOKENIZERS = {
    "tokenizer": "base, 64 px to 8 x 8 tokens",
    "superres_tokenizer": "super-resolution, 128 px to 32 x 32 tokens",
    "superres_decoder": "the same tokens, fine-tuned decoder",
}

# --- measuring ------------------------------------------------------------------------------------------------------


def measure(name: str) -> dict[str, Any]:
    """The output of one command, with what is needed to run it again."""
    from minimuse import __version__
    from minimuse.train import loop

    line, begun = ALL[name], time.monotonic()
    command = shlex.split(line)
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    took, about = round(time.monotonic() - begun, 1), loop.machine()
    machine = f"{about['processor']}, JAX on {about['devices']}, Python {about['python']}"
    versions, result = dict(minimuse=__version__) | about["versions"], json.loads(done.stdout)
    result.pop("machine", None)  # benchmarks also print it
    weights = result.pop("weights", None)
    if weights is None:
        weights = WEIGHTS[name]()
    used = dict(weights=weights, defaults=defaults_of(weights), took=took)
    return dict(command=line, date=time.strftime("%Y-%m-%d"), machine=machine, versions=versions, **used, result=result)


def repeat(name: str, fresh: bool = True) -> None:
    """Run one experiment. It continues from the rows that are stored, or, if `fresh`, these are first moved to
    runs/before; they come back if it fails before its first row."""
    away, moved = ROOT / "runs" / "before" / time.strftime("%Y-%m-%d-%H-%M-%S"), []
    for old in (ROOT / "data" / "experiments" / f"{name}.json", ROOT / "runs" / "experiments" / name):
        if fresh and old.exists():
            away.mkdir(parents=True, exist_ok=True)
            moved.append((old, old.rename(away / old.name)))
    try:
        subprocess.run([sys.executable, "-m", f"experiments.{name}"], cwd=ROOT, check=True)
    finally:
        for old, kept in moved:
            if old.suffix and not old.exists():  # the rows, not the runs
                kept.rename(old)


def about_experiment(name: str) -> dict[str, Any]:
    """What an experiment would store about itself now."""
    line = [sys.executable, "-m", f"experiments.{name}", "--about"]
    return json.loads(subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measurements(results: list[str], experiments: list[str]) -> list[Measurement]:
    """These results and experiments in the order of their dependence: what notebooks show before the notebooks are
    timed."""
    found, data = [], ROOT / "data"
    for name in results:
        path = data / "results" / f"{name}.json"
        store = lambda fresh, name=name, path=path: write_text(path, json.dumps(measure(name), indent=1) + "\n")
        found.append(Measurement(name, ALL[name], path, store))
    for name in experiments:
        folder = "curves" if name == "first_transformer" else "experiments"
        path, line = data / folder / f"{name}.json", f"python -m experiments.{name}"
        run, now = functools.partial(repeat, name), functools.cache(functools.partial(about_experiment, name))
        found.append(Measurement(f"experiments.{name}", line, path, run, now))
    return sorted(found, key=lambda each: each.name == "chapters")


def time_chapters(only: list[str]) -> dict[str, int]:
    """Seconds that each notebook takes from top to bottom, including the start of its kernel.

    only    numbers of the chapters to time; the rest keep their stored seconds; empty: all
    """
    stored = ROOT / "data" / "results" / "chapters.json"
    seconds = json.loads(stored.read_text())["result"] if only else {}
    paths = [path for path in (ROOT / "notebooks").glob("*.ipynb") if not only or number(path.stem) in only]
    for path in sorted(paths):
        # As `make test` runs it. nbconvert sometimes hangs where a cell fills an Output widget
        # (https://github.com/jupyter/nbclient/issues/312).
        command = ["-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", str(path)]
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
        seconds[path.stem] = round(time.perf_counter() - begun)
    return dict(sorted(seconds.items()))


def draw_grid() -> dict[str, Any]:
    """The picture at the top of README.md."""
    import numpy as np

    import minimuse as mm
    from minimuse.teach import figures

    mm.enable_compilation_cache()
    images = np.asarray(mm.Muse.from_pretrained("tiny").generate(list(CAPTIONS), seed=0))
    titles = [textwrap.fill(caption, 22) for caption in CAPTIONS]
    figures.image_grid(images, titles, columns=6).savefig(ROOT / GRID, dpi=100)
    return dict(captions=CAPTIONS, seed=0)


# --- the pages ------------------------------------------------------------------------------------------------------


def percent(share: float, digits: int = 0) -> str:
    """A share in percent. A share below 1 gets as many digits as it takes not to read 100%."""
    rounded = f"{100 * share:.{digits}f}"
    return f"{rounded}%" if share >= 1 or float(rounded) < 100 else percent(share, digits + 1)


def error(share: float, n: int) -> float:
    """Half of the 95% interval of a share of n, in points."""
    return 196 * (share * (1 - share) / n) ** 0.5


def prose(text: str, bullet: str = "") -> str:
    """`text` as one paragraph, or one item of a list, in lines of 120 characters."""
    lines = textwrap.TextWrapper(
        120, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_long_words=False, break_on_hyphens=False
    )
    return lines.fill(" ".join(text.split()))


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def grid(results: Results) -> str:
    """The block of README.md with the picture at its top."""
    said = "; ".join(results["grid"]["result"]["captions"])
    return f"""\
![Twelve pictures that minimuse drew, each under its caption: {said}.]({GRID})

Drawn by the weights in this repository: {len(CAPTIONS)} captions, seed 0, the first picture of each, not cherry-picked.
The emoji are [Noto Color Emoji](data/LICENSE-sprites.md)."""


def number(stem: str) -> str:
    """The number of a chapter by the name of its file: 05, or 01a for one between 01 and 02."""
    return stem.partition("_")[0]


def title(notebook: Path) -> str:
    """A notebook's title, without its number."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines()]
    return next(line for line in lines if line.startswith("# ")).split(" · ", 1)[1]


def chapters(results: Results) -> str:
    """The block of README.md that lists the chapters, in two columns."""
    seconds = results["chapters"]["result"]
    stems = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    titles = {stem: f"{number(stem)} {title(ROOT / 'notebooks' / f'{stem}.ipynb')}" for stem in stems}
    times = {stem: f"{seconds[stem]} s" if stem in seconds else "not measured yet" for stem in stems}
    cells = [[f"[{titles[stem]}](notebooks/{stem}.ipynb)", times[stem]] for stem in stems]
    half = (len(cells) + 1) // 2
    rows = [left + right for left, right in itertools.zip_longest(cells[:half], cells[half:], fillvalue=["", ""])]
    missing = sorted({f"{one:02}" for one in range(15)} - {number(stem) for stem in stems})
    planned = " ".join(f"Chapter {one} is planned." for one in missing)
    about = f"Run times are from top to bottom on {results['chapters']['machine']}. {planned}"
    return f"{table(['chapter', 'run time'] * 2, rows)}\n\n{prose(about)}"


def shares(result: dict[str, Any], task: str = "", digits: int = 0) -> str:
    """Fidelity of a result or of one of its tasks, and after a slash the exact share, if that was measured."""
    pair = [result["tasks"][task], result.get("exact_tasks", {}).get(task)] if task else []
    pair = pair or [result["overall"], result.get("exact")]
    return " / ".join(percent(share, digits) for share in pair if share is not None) or "-"


EXACT = "the objects are also the scene's, no more and no fewer, with nothing else on the canvas"


def typed(results: Results) -> dict[str, float]:
    """Means of `overall` and `exact` over the seeds of the split `typed`; {} unless all are measured."""
    rows = [results[name]["result"] for name in TYPED if name in results]
    if len(rows) < len(TYPED):
        return {}
    return {key: statistics.mean(row[key] for row in rows) for key in ("overall", "exact")}


def headline(results: Results) -> str:
    """The block of README.md with the shares of captions that are drawn as asked, and exactly."""
    val = results["val"]["result"]
    exact = f"; in **{percent(val['exact'])}** {EXACT}" if "exact" in val else ""
    bold = lambda result: f"**{percent(result['overall'])}** and **{percent(result['exact'])}**"
    people = ""
    if "everyday" in results and (hand := typed(results)):
        everyday = results["everyday"]["result"]
        people = f""" Where captions are worded as people type them, the two shares are {bold(everyday)} of
            {everyday["settings"]["n"]:,} captions of a wider grammar, and {bold(hand)} of
            {results["typed"]["result"]["settings"]["n"]} captions written by hand, all of which
            [chapter 12](notebooks/12_does_it_work.ipynb) shows with their pictures and faults."""
    return prose(
        f"""In **{percent(val["overall"])}** of {val["settings"]["n"]:,} pictures, drawn from captions of new scenes,
        every requested fact holds, as read by the scene scorer{exact}.{people} [docs/results.md](docs/results.md) has
        all results: unseen pairs and words, 128 px, editing, tokenizers, speed, and the paper's size."""
    )


def artwork_table(results: Results, measures: Sequence[str]) -> str:
    """What tokenizers make of the course's emoji and of drawings that no training saw, beside each other; two columns
    per measure (psnr, ssim or frechet_random)."""
    names = dict(psnr="PSNR", ssim="SSIM", frechet_random="random")
    forms = dict(psnr=lambda x: f"{x:.1f} dB", ssim=lambda x: f"{x:.3f}", frechet_random=lambda x: f"{x:.2g}")
    header = ["encoded and decoded"]
    for measure in measures:
        header += [f"{names[measure]}, the course's emoji", "unseen drawings"]
    rows = []
    for stored, name in TOKENIZERS.items():
        result = results[f"artwork_{stored}"]["result"]
        rows.append([name] + [forms[m](result[kind][m]) for m in measures for kind in ("seen", "unseen")])
    return table(header, rows)


def gain(results: Results, kind: str) -> str:
    """What the fine-tuned decoder gains, in dB, on `seen` or `unseen` artwork."""
    decoder, plain = (results[f"artwork_superres_{of}"]["result"][kind]["psnr"] for of in ("decoder", "tokenizer"))
    return f"{decoder - plain:+.1f} dB".replace("-", "−")


def artwork(results: Results) -> str:
    """The block of README.md about artwork that no training saw."""
    one = results["artwork_tokenizer"]["result"]
    about = f"""All 74 emoji of the course are in every training, so a tokenizer can learn them by heart. {one["n"]}
        scenes, drawn with these emoji, and with {one["artwork"]} drawings of another artist that no training saw:"""
    after = f"""The second column is the better guide to pictures of your own. There the fine-tuned decoder changes PSNR
        by {gain(results, "unseen")}, on the course's emoji by {gain(results, "seen")}."""
    return f"{prose(about)}\n\n{artwork_table(results, ('psnr',))}\n\n{prose(after)}"


def fidelity(results: Results) -> str:
    splits = {
        "val": "new scenes (`val`)",
        "unseen_pairs": "pairs never seen together (`unseen_pairs`)",
        "unseen_words": "words absent from training captions (`unseen_words`)",
    }
    drawn = {split: results[split]["result"] for split in splits}
    rows = [[name, *(shares(drawn[split], task) for split in splits)] for task, name in TASKS.items()]
    rows.append(["**overall**", *(f"**{shares(drawn[split])}**" for split in splits)])
    exact = f" After a slash, *exact*: {EXACT}." * any("exact" in of for of in drawn.values())
    cascade, scorer = results["cascade"]["result"], results["scorer"]["result"]
    measure = f"""*Asked* is the share of captions whose every requested fact holds in the picture, as read by the
        scene scorer ({drawn["val"]["settings"]["n"]:,} captions per split, one picture of the base stage
        each).{exact}"""
    seeds = [results[name]["result"] for name in VAL if name in results]
    spread = f"""`val` drawn with {len(seeds)} seeds: {", ".join(shares(of, digits=1) for of in seeds)}."""
    large = f"""At 128 px, drawn by the whole cascade, it is {shares(cascade, digits=1)} of
        {cascade["settings"]["n"]:,} captions of `val`."""
    n = drawn["val"]["settings"]["n"]
    each = n // len(TASKS)
    chance = f"""By chance, a share near 95% varies by {error(0.95, n):.1f} points to each side over {n:,} captions, and
        by {error(0.95, each):.1f} over the {each} of a task (95% interval)."""
    kinds = {kind: share for kind, share in drawn["val"]["facts"].items() if share is not None}
    single = f"""The single facts of `val` that hold, by kind:
        {", ".join(f"{kind} {percent(share, 1)}" for kind, share in kinds.items())}."""
    bound = f"""The scorer reads {percent(scorer["sharp"]["facts"], 1)} of the facts of rendered pictures that it
        never saw, and {percent(scorer["blur 1 px"]["facts"], 1)} when they are blurred by 1 px, so it overlooks little.
        How many flawed pictures it passes is not measured: no generated picture was labelled by hand."""
    training = """The transformers were trained for six minutes on one GPU, side by side, and the base was then
        continued on two CPU cores, with half as many pictures again; [data/README.md](../data/README.md) describes what
        that takes on different machines. [Chapter 12](../notebooks/12_does_it_work.ipynb) shows what goes wrong, and
        [chapter 07](../notebooks/07_parallel_decoding.ipynb) measures how many steps avoid it."""
    measured = table(["task", *splits.values()], rows)
    notes = [chance, *[spread] * (len(seeds) > 1), large, single, bound]
    notes = "\n".join(prose(note, "- ") for note in notes)
    parts = ["## Fidelity", prose(measure), measured, notes]
    return "\n\n".join([*parts, *people(results), prose(training), *time_to_exact(results)])


def time_to_exact(results: Results, enough: float = 0.97) -> list[str]:
    """The paragraphs about the seconds that each way of drawing takes until it is exact often `enough`; [] until
    `experiments.race` has measured that."""
    rows = results.get("experiments.race", {}).get("rows", [])
    if not rows or not all("exact" in row for row in rows):
        return []
    ways: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        options = row["options"]
        order = f", {options['order']}, {options['law']}" if row["drawer"] == "parallel" else ""
        ways.setdefault(row["drawer"] + order, []).append(row)
    lines = []
    for way, arms in ways.items():
        cells = [way]
        for batch in ("1", "16"):
            good = [arm for arm in arms if arm["exact"] >= enough]
            best = min(good, key=lambda arm: arm["seconds"][batch]) if good else max(arms, key=lambda arm: arm["exact"])
            label = best["arm"].removeprefix(way).strip(", ")
            reached = percent(best["exact"], 1) if good else f"only {percent(best['exact'], 1)}"
            cells.append(f"{best['seconds'][batch]:.3g} s ({label}: {reached})")
        lines.append(cells)
    captions = results["experiments.race"]["settings"]["captions"]
    about = f"""Seconds per picture of 64 px of the fastest setting with at least {percent(enough)} of {captions}
        pictures exact, or else of the most exact one (the 95% interval of such a share is about
        ±{error(enough, captions):.0f} points):"""
    header = ["way of drawing", "one at a time", "16 at a time"]
    settings = "; ".join(f"{way}: {len(arms)}" for way, arms in ways.items())
    limits = f"""Each is the best of all settings of its way that were tried ({settings}). Not everything else is
        equal. Parallel decoding draws with a base that saw half as many pictures again as the autoregressive and the
        diffusion twin, and half of the masks of its last training run were those of `halton` and `exp`. The diffusion
        twin is a weak rival: it has the masked model's learning rate, quantized codes as latents and plain DDIM as its
        sampler."""
    return ["### Time to quality", prose(about), table(header, lines), prose(limits)]


def people(results: Results) -> list[str]:
    """The paragraphs of the results page about captions as people type them, those that are measured."""
    found = []
    if "everyday" in results:
        result = results["everyday"]["result"]
        rows = [[name, shares(result, task)] for task, name in EVERYDAY.items()]
        rows.append(["**overall**", f"**{shares(result)}**"])
        wider = f"""The split `everyday` words captions as people type them: commands, digits, no article, "next to",
            numbers up to six, two kinds with their numbers, three objects, sizes
            ({result["settings"]["n"]:,} captions)."""
        found += [prose(wider), table(["task", "captions as people type them (`everyday`)"], rows)]
    if mean := typed(results):
        each = ", ".join(shares(results[name]["result"]) for name in TYPED)
        by_hand = f"""The {results["typed"]["result"]["settings"]["n"]} captions of the split `typed` were written by
            hand. With {len(TYPED)} seeds: {each}; mean **{shares(mean)}**.
            [Chapter 12](../notebooks/12_does_it_work.ipynb) shows all pictures of the first seed, with what is
            wrong."""
        found.append(prose(by_hand))
    return found


def ways_of_editing(results: Results) -> list[str]:
    """The paragraphs about the two ways of editing without a mask; [] until `experiments.mask_reading` has run."""
    stored = results.get("experiments.mask_reading", {})
    if not stored.get("rows"):
        return []
    kinds = list(stored["rows"][0]["kinds"])
    header = ["without a mask, 128 px", *(f"{kind}: made, kept" for kind in kinds), "all: made, kept"]
    pair = lambda of: f"{percent(of['success'], 1)}, {percent(of['preservation'], 1)}"
    rows = [[row["arm"], *(pair(row["kinds"][kind]) for kind in kinds), pair(row)] for row in stored["rows"]]
    about = f"""Two ways of editing without a mask, {stored["settings"]["edits"]} edits each: `read` finds a mask from
        the caption and redraws what is under it, `resample` is the paper's way as above. "Kept" is the share of the
        remaining facts that still hold:"""
    return [prose(about), table(header, rows)]


def editing(results: Results) -> str:
    edits = results["editing"]["result"]
    names = {
        "inpainting": "inpainting",
        "mask_free": f"without a mask, after {edits['mask_free']['iteration']} iterations (best on these edits)",
    }
    rows = [
        [name, percent(edits[kind]["success"]), percent(edits[kind]["preservation"])] for kind, name in names.items()
    ]
    shares = ", ".join(f"{kind} {percent(edit['success'])}" for kind, edit in edits["mask_free"]["kinds"].items())
    each, scale = edits["settings"]["n"] // len(edits["mask_free"]["kinds"]), edits["mask_free"]["settings"]["guidance"]
    split = f"""Without a mask means the paper's way with t = {scale:g} (the paper has 4, which
        [chapter 11](../notebooks/11_editing.ipynb) compares). The share of requested changes that it makes depends on
        the kind of edit: {shares}. With {each} edits of each kind, a share near 90% varies by {error(0.9, each):.0f}
        points to each side."""
    about = f"{edits['settings']['n']} edits made by rule, judged by the scene scorer:"
    measured = table(["edit", "requested change made", "remaining facts kept"], rows)
    return "\n\n".join(["## Editing", about, measured, prose(split), *ways_of_editing(results)])


def tokenizers(results: Results) -> str:
    found = {name: results[stored]["result"] for stored, name in TOKENIZERS.items()}
    judged = any("frechet_random" in of for of in found.values())  # stored before there was this judge: none
    rows = []
    for name, of in found.items():
        rows.append([name, f"{of['psnr']:.1f} dB", f"{of['ssim']:.3f}", f"{of['frechet']:.2g}"])
        rows[-1] += [f"{of['frechet_random']:.2g}" if "frechet_random" in of else "-"] * judged
        rows[-1] += [percent(of["readable"], 1), percent(of["usage"])]
    columns = """Fréchet is the Fréchet distance on the scorer's features (not FID), which the fine-tuned decoder was
        trained with; random is the same distance on features of fixed random kernels, which were in no loss. Facts is
        the share that the scorer still reads, and codes is the share of the codebook that occurs."""
    header = ["tokenizer", "PSNR", "SSIM", "Fréchet", *["random"] * judged, "facts", "codes"]
    one = results["artwork_tokenizer"]["result"]
    unseen = f"""All sprites of the course are in every training, so a tokenizer can learn them by heart. Here are
        {one["n"]} of these scenes, drawn with the sprites, and with {one["artwork"]} drawings of another artist, which
        no training saw:"""
    before, tuned = (results[f"artwork_superres_{of}"]["result"] for of in ("tokenizer", "decoder"))
    pair = lambda kind: f"{before[kind]['frechet_random']:.2g} to {tuned[kind]['frechet_random']:.2g}"
    after = f"""The fine-tuned decoder changes PSNR by {gain(results, "seen")} on the sprites, and by
        {gain(results, "unseen")} on the drawings that no training saw; the distance on random kernels goes from
        {pair("seen")} on the sprites, and from {pair("unseen")} on the drawings. It is larger, and it was also trained
        for longer and on more drawings: what each of these does is not measured."""
    compared = artwork_table(results, ("psnr", "ssim", "frechet_random"))
    parts = ["1,024 held-out pictures, encoded and decoded:", table(header, rows), prose(columns)]
    return "\n\n".join(["## Tokenizers", *parts, prose(unseen), compared, prose(after)])


def speed(results: Results) -> str:
    first, train, cost = (results[name]["result"] for name in ("first_image", "train_rate", "superres_cost"))
    items = [
        f"""One picture of 128 px takes {sum(cost["stages"].values()):.1f} s in a running process, and
        {cost["fresh process, warm cache"]:.1f} s from the command line with a warm compilation cache.""",
        f"""`generate` returns its first four pictures {first["cold"]:.0f} s after a cold start, and
        {first["warm"]:.0f} s after a start with a warm compilation cache.""",
        f"""The base transformer trains at {train["steps a second"]:.2g} steps per second with {train["batch"]} pictures
        each, which is {train["image tokens a second"]:,} image tokens per second, and
        {percent(train["share of the peak"])} of what one large matrix product reaches on the same machine
        ({train["peak gigaflops a second"]:.0f} gigaflops per second).""",
        """[benchmarks/README.md](../benchmarks/README.md#the-peers) compares drawing and training with two public
        packages in PyTorch, and [README.md](../README.md#chapters) has the run time of each chapter.""",
    ]
    return "## Speed\n\n" + "\n".join(prose(item, "- ") for item in items)


def paper_size(results: Results) -> str:
    measured = results["paper_sizes"]["result"]
    gpu = results["paper_sizes"]["machine"].split(" x ")[1].split(",")[0]
    weights, seconds = measured["weights"]["muse-3b"], measured["seconds_a_picture"]
    base, superres = (weights["here"][stage] / 1000 for stage in ("base", "superres"))
    rows = [[size, f"{took:.2f} s", f"{weights['paper']['seconds'][size]} s"] for size, took in seconds.items()]
    about = f"""Seconds per picture of the preset `muse-3b`: {base:.1f} billion (base) and {superres:.1f} billion
        (super-resolution) random weights, in bfloat16."""
    train = f"""A training step of its base reaches {percent(measured["training_step"]["share_of_peak"])} of what one
        large matrix product reaches on that GPU."""
    compared = table(["picture", f"minimuse, one {gpu}", "the paper, one TPUv4"], rows)
    limits = """These are two chips, and the paper gives seconds per batch without its size; here one picture is drawn,
        with T5-XXL, guidance, 24 and 8 steps. So the columns do not compare two programs, and no other kind of model of
        this size was timed beside them."""
    return f"## At the paper's size\n\n{prose(about)}\n\n{compared}\n\n{prose(limits)}\n\n{prose(train)}"


def sources(results: Results) -> str:
    rows = [
        [f"[`{name}`](../data/results/{name}.json)", f"`{stored['command']}`", stored["date"], stored["machine"]]
        for name, stored in results.items()
        if name in ALL
    ]
    about = """`python tools/results.py --measure NAME` measures one of these again if its command, its settings or the
        weights have changed; with `--again` in any case."""
    return f"## All measurements\n\n{prose(about)}\n\n{table(['name', 'command', 'date', 'machine'], rows)}"


def results_page(results: Results) -> str:
    """docs/results.md, whole."""
    about = f"""[`tools/results.py`](../tools/results.py) writes this page from [`data/results/`](../data/results). Each
        file there holds its command, versions and machine: {results["val"]["machine"]}, if no other is named here."""
    sections = (fidelity, editing, tokenizers, speed, paper_size, sources)
    return "\n\n".join(["# Results", prose(about), *(section(results) for section in sections)]) + "\n"


def peers(results: Results) -> str:
    """The block of benchmarks/README.md: what each package takes, and the ratio to minimuse."""
    stored = results["peers"]["result"]
    names, rows = list(stored["rows"][0]["best"]), []
    for row in stored["rows"]:
        task = {"decode": "drawing", "train": "a training step"}[row["task"]]
        cells = [task, f"{row['tokens'][0]} x {row['tokens'][1]}", f"{row['batch']}"]
        cells.append(f"{row['seconds']['minimuse']:.3g} s, {row['megabytes']['minimuse']} MB")
        for name in names:
            best = f"{name}, {row['best'][name]}"
            taken = f"{row['seconds'][best]:.3g} s, {row['megabytes'][best]} MB"
            cells.append(f"{taken}: **{row['times_ours'][name]:.2f} times**")
        rows.append(cells)
    sizes, versions = stored["settings"]["sizes"], [f"{name} {version}" for name, version in stored["peers"].items()]
    about = f"""{sizes["depth"]} layers of {sizes["width"]}, {stored["settings"]["steps"]} guided steps, random weights,
        float32. Each peer is eager or compiled, whichever is faster; **times** are its seconds divided by ours.
        Measured on {results["peers"]["machine"]}, {", ".join(versions)}."""
    return f"{table(['', 'tokens', 'batch', 'minimuse', *names], rows)}\n\n{prose(about)}"


def fill(text: str, name: str, content: str, where: str) -> str:
    """`text` with `content` between the comments <!-- name --> and <!-- /name -->."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"{where} lacks <!-- {name} --> or <!-- /{name} -->. Add both where the block belongs.")
    return re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, count=1, flags=re.DOTALL)


def pages(root: Path = ROOT) -> dict[str, str]:
    """The pages that show results, as they should be: path and text."""
    stored = {name: root / "data" / "results" / f"{name}.json" for name in (*COMMANDS, *ON_A_GPU, "peers")}
    present = {name: path for name, path in stored.items() if name not in OPTIONAL or path.is_file()}
    results = {name: json.loads(path.read_text()) for name, path in present.items()}
    for name in ("race", "mask_reading"):
        path = root / "data" / "experiments" / f"{name}.json"
        results |= {f"experiments.{name}": json.loads(path.read_text())} if path.is_file() else {}
    blocks = {"README.md": (grid, chapters, headline, artwork), "benchmarks/README.md": (peers,)}
    found = {"docs/results.md": results_page(results)}
    for path, makers in blocks.items():
        found[path] = (root / path).read_text(encoding="utf-8")
        for block in makers:
            found[path] = fill(found[path], block.__name__, block(results), path)
    return found


# --- the command ----------------------------------------------------------------------------------------------------


def update_pages(check: bool) -> None:
    """Write the pages that differ from data/results; with `check`, only name them and exit with 1."""
    text_of = lambda path: path.read_text(encoding="utf-8") if path.is_file() else None
    differing = {path: text for path, text in pages().items() if text != text_of(ROOT / path)}
    if check and differing:
        sys.exit(f"Not up to date with data/results: {', '.join(differing)}. Run `python tools/results.py`.")
    for path, text in differing.items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(f"Wrote {path}.")
    if not differing:
        print("All pages are up to date with data/results.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs="*", choices=[*ALL], metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--experiments", nargs="*", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--again", action="store_true", help="measure what is current, too")
    parser.add_argument("--plan", action="store_true", help="only print what would be measured")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page is not up to date")
    timing = "print the seconds that each notebook takes; with numbers, time only these and keep the stored rest"
    parser.add_argument("--time-chapters", nargs="*", metavar="NN", help=timing)
    parser.add_argument("--draw-grid", action="store_true", help=f"draw {GRID}")
    options = parser.parse_args()
    if options.draw_grid:
        print(json.dumps(draw_grid()))
        return
    if options.time_chapters is not None:
        print(json.dumps(time_chapters(options.time_chapters)))
        return
    failed = []
    if options.measure is not None or options.experiments is not None:
        chosen = [] if options.measure is None else options.measure or list(COMMANDS)
        more = [] if options.experiments is None else options.experiments or list(EXPERIMENTS)
        report = functools.partial(print, flush=True)
        try:
            failed = remake(measurements(chosen, more), again=options.again, plan=options.plan, report=report)
        except KeyboardInterrupt:
            sys.exit("Interrupted. The same command continues.")
    if not options.plan:
        update_pages(options.check)
    if failed:
        sys.exit(f"Not measured: {', '.join(failed)}. The same command tries again.")


if __name__ == "__main__":
    main()
