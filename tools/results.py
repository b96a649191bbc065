"""Measure what README.md tells, and write it there: `python tools/results.py`, or `--check` to only compare.

    python tools/results.py --measure              all of it, some minutes on two cores
    python tools/results.py --measure tokenizer    one of it
    python tools/results.py --experiments          the experiments that notebooks show, too; hours, as some train
    python tools/results.py --experiments race     one of these

Every measurement is a command of the repository. data/results/NAME.json keeps the command, the machine, the versions
and what it printed; the tables of README.md and benchmarks/README.md are made from these files alone.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from minimuse.files import write_text

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "scorer": "python -m minimuse evaluate scorer --n 1200 --json",
    "tokenizer": "python -m minimuse evaluate tokenizer --preset tiny --n 1024 --json",
    "superres_tokenizer": "python -m minimuse evaluate tokenizer --stage superres --no-finetuned --n 1024 --json",
    "superres_decoder": "python -m minimuse evaluate tokenizer --stage superres --finetuned --n 1024 --json",
    "val": "python -m minimuse evaluate generation --preset tiny --split val --n 1200 --json",
    "unseen_pairs": "python -m minimuse evaluate generation --preset tiny --split unseen_pairs --n 1200 --json",
    "unseen_words": "python -m minimuse evaluate generation --preset tiny --split unseen_words --n 1200 --json",
    "cascade": "python -m minimuse evaluate generation --stage superres --split val --n 300 --json",
    "editing": "python -m minimuse evaluate editing --json",
    "first_image": "python -m benchmarks.first_image",
    "train_rate": "python -m benchmarks.train_rate",
    "decoding": "python -m benchmarks.decoding --json",
    "mesh": "python -m benchmarks.mesh --simulate 8 --batch 4 --json",
    "superres_cost": "python -m benchmarks.superres --json",
    "chapters": "python tools/results.py --time-chapters",
    "grid": "python tools/results.py --draw-grid",
}
ON_A_GPU = {"paper_sizes": "python -m benchmarks.paper_sizes --measure --json"}  # measured when they are named
APART = {  # measured when they are named, with the Python of `make peers`
    "peers": "python -m benchmarks.peers --json",
    "peers_gpu": "python -m benchmarks.peers --json --device cuda",
}
EXPERIMENTS = (  # in data/experiments, or data/curves; the last five train models of their own
    *("sampling", "race", "guidance", "negatives", "superres", "mask_free", "claims"),
    *("discriminator", "text_encoders", "mask_rates", "first_transformer", "cascade"),
)
GRID = "notebooks/figures/first_pictures.png"
CAPTIONS = (  # each drawn once, with seed 0: nothing is picked
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


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(name: str) -> dict:
    """Run one command and keep what it printed, with what is needed to run it again."""
    from minimuse import __version__
    from minimuse.train import loop

    line = (COMMANDS | ON_A_GPU | APART)[name]
    command = shlex.split(line)
    print(f"{name}: {line}", flush=True)
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    about = loop.machine()
    machine = f"{about['processor']}, JAX on {about['devices']}, Python {about['python']}"
    versions, result = dict(minimuse=__version__) | about["versions"], json.loads(done.stdout)
    result.pop("machine", None)  # benchmarks tell it themselves
    return dict(command=line, date=time.strftime("%Y-%m-%d"), machine=machine, versions=versions, result=result)


def repeat(name: str) -> None:
    """Make one experiment anew. What was stored is moved away first: experiments go on where they find rows."""
    away = ROOT / "runs" / "before" / time.strftime("%Y-%m-%d-%H-%M-%S")
    for old in (ROOT / "data" / "experiments" / f"{name}.json", ROOT / "runs" / "experiments" / name):
        if old.exists():
            away.mkdir(parents=True, exist_ok=True)
            old.rename(away / old.name)
    print(f"{name}: python -m experiments.{name}; if it is stopped, that command goes on", flush=True)
    subprocess.run([sys.executable, "-m", f"experiments.{name}"], cwd=ROOT, check=True)


def time_chapters(only: list[str]) -> dict:
    """Seconds that each notebook takes from top to bottom, its kernel's start included.

    only    numbers of chapters that are timed, the others keep what is stored; none: all
    """
    stored = ROOT / "data" / "results" / "chapters.json"
    seconds = json.loads(stored.read_text())["result"] if only else {}
    paths = [path for path in (ROOT / "notebooks").glob("*.ipynb") if not only or path.stem[:2] in only]
    for path in sorted(paths):
        # As `make test` runs it. nbconvert waits for ever now and then, where a cell fills an Output widget
        # (https://github.com/jupyter/nbclient/issues/312).
        command = ["-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", str(path)]
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
        seconds[path.stem] = round(time.perf_counter() - begun)
    return dict(sorted(seconds.items()))


def draw_grid() -> dict:
    """The picture at the top of README.md."""
    import minimuse as mm
    from minimuse.teach import figures

    mm.enable_compilation_cache()
    images = mm.Muse.from_pretrained("tiny").generate(list(CAPTIONS), seed=0)
    titles = [textwrap.fill(caption, 22) for caption in CAPTIONS]
    figures.image_grid(images, titles, columns=6).savefig(ROOT / GRID, dpi=100)
    return dict(captions=CAPTIONS, seed=0)


# --- telling --------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def grid(results: dict) -> str:
    said = "; ".join(results["grid"]["result"]["captions"])
    return f"""![Twelve pictures that minimuse drew, each under its caption: {said}.]({GRID})

Drawn by the weights in this repository: {len(CAPTIONS)} captions, seed 0, the first picture of each, none picked. The
emoji are [Noto Color Emoji](data/LICENSE-sprites.md)."""


def title(notebook: Path) -> str:
    """A notebook's title, without its number."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines()]
    return next(line for line in lines if line.startswith("# ")).split(" · ", 1)[1]


def chapters(results: dict) -> str:
    rows = ["| chapter | run time |", "|---|---|"]
    for stem, seconds in results["chapters"]["result"].items():
        link = f"[{stem[:2]} {title(ROOT / 'notebooks' / f'{stem}.ipynb')}](notebooks/{stem}.ipynb)"
        rows.append(f"| {link} | {seconds} s |")
    done = {int(stem[:2]) for stem in results["chapters"]["result"]}
    missing = [f"{number:02}" for number in range(15) if number not in done]
    coming = f"Chapters {', '.join(missing)} are to come." if missing else ""
    return "\n".join([*rows, "", f"From top to bottom on {results['chapters']['machine']}. {coming}"])


def tables(results: dict) -> str:
    splits = {
        "val": "new scenes (`val`)",
        "unseen_pairs": "pairs never seen together (`unseen_pairs`)",
        "unseen_words": "words no caption had (`unseen_words`)",
    }
    drawn = {split: results[split]["result"] for split in splits}
    rows = [f"| task | {' | '.join(splits.values())} |", "|---|---|---|---|"]
    for task, name in TASKS.items():
        shares = [drawn[split]["tasks"][task] for split in splits]
        rows.append(f"| {name} | " + " | ".join("-" if s is None else percent(s) for s in shares) + " |")
    rows.append("| **overall** | " + " | ".join(f"**{percent(drawn[split]['overall'])}**" for split in splits) + " |")
    reads, first, trains = (results[name]["result"] for name in ("scorer", "first_image", "train_rate"))
    rebuilt = [
        f"| {name} | {values['psnr']:.1f} dB | {values['ssim']:.3f} | {values['frechet']:.2g} "
        f"| {100 * values['readable']:.1f} % | {percent(values['usage'])} |"
        for name, values in (
            ("base, 64 px to 8 x 8 tokens", results["tokenizer"]["result"]),
            ("super-resolution, 128 px to 32 x 32 tokens", results["superres_tokenizer"]["result"]),
            ("the same tokens, fine-tuned decoder", results["superres_decoder"]["result"]),
        )
    ]
    table, rebuilt_rows = "\n".join(rows), "\n".join(rebuilt)
    large, edits, cost = (results[name]["result"] for name in ("cascade", "editing", "superres_cost"))
    filled, free = edits["inpainting"], edits["mask_free"]
    paper, gpu = results["paper_sizes"]["result"], results["paper_sizes"]["machine"].split(" x ")[1].split(",")[0]
    sizes, waits = paper["weights"]["muse-3b"]["here"], paper["seconds_a_picture"]
    return f"""\
Fidelity is the share of captions of which every asked fact is true in the picture, as the scene scorer reads it
({drawn["val"]["settings"]["n"]:,} captions a split, one picture of the base stage each).

{table}

- At 128 px, drawn by the whole cascade, {percent(large["overall"])} of {large["settings"]["n"]} captions of `val`. One
  such picture takes {sum(cost["stages"].values()):.1f} s in a running process, and
  {cost["fresh process, warm cache"]:.1f} s from the command line with a warm compilation cache.
- Edits by rule ({edits["settings"]["n"]}): inpainting does what was asked in {percent(filled["success"])} and keeps
  {percent(filled["preservation"])} of the other facts; editing without a mask {percent(free["success"])} and
  {percent(free["preservation"])}, after {free["iteration"]} iterations.
- The scorer itself reads {100 * reads["sharp"]["facts"]:.1f} % of the facts of true pictures that it never saw, and
  {100 * reads["blur 1 px"]["facts"]:.1f} % when they are blurred by 1 px: that is the ceiling.
- `generate` gives its first four pictures {first["cold"]:.0f} s after a cold start, {first["warm"]:.0f} s with a warm
  compilation cache.
- The base transformer trains at {trains["steps a second"]:.2g} steps of {trains["batch"]} pictures a second, which is
  {trains["image tokens a second"]:,} image tokens, and {percent(trains["share of the peak"])} of what one large matrix
  product reaches on the same machine ({trains["peak gigaflops a second"]:.0f} gigaflops a second).
- At the paper's size (`muse-3b`, {sizes["base"] / 1000:.1f} and {sizes["superres"] / 1000:.1f} billion weights at
  random, bfloat16) one picture takes {waits["256 px"]:.2f} s at 256 px and {waits["512 px"]:.2f} s at 512 px on one
  {gpu}; the paper tells 0.5 s and 1.3 s on a TPUv4. A training step of its base makes use of
  {percent(paper["training_step"]["share_of_peak"])} of what one large matrix product reaches there.

1,024 held-out pictures, encoded and decoded (Fréchet distance on the scorer's features, which is no FID; facts that the
scorer still reads; codes that occur):

| tokenizer | PSNR | SSIM | Fréchet | facts | codes |
|---|---|---|---|---|---|
{rebuilt_rows}

[`tools/results.py`](tools/results.py) measures all this and writes this page; each file in
[`data/results/`](data/results) holds its command, versions and machine ({results["val"]["machine"]})."""


def peers(result: dict) -> str:
    """The race with other packages: what a peer takes, and how many times what ours takes."""
    about = result["result"]
    names = list(about["rows"][0]["best"])
    rows = [f"| | tokens | batch | minimuse | {' | '.join(names)} |", "|---|---|---|---|" + "---|" * len(names)]
    for row in about["rows"]:
        task = {"decode": "drawing", "train": "a training step"}[row["task"]]
        told = [f"{row['seconds']['minimuse']:.3g} s, {row['megabytes']['minimuse']} MB"]
        for peer in names:
            best = f"{peer}, {row['best'][peer]}"
            told.append(
                f"{row['seconds'][best]:.3g} s, {row['megabytes'][best]} MB: **{row['times_ours'][peer]:.2f} times**"
            )
        rows.append(f"| {task} | {row['tokens'][0]} x {row['tokens'][1]} | {row['batch']} | " + " | ".join(told) + " |")
    sizes, steps = about["settings"]["sizes"], about["settings"]["steps"]
    versions = ", ".join(f"{name} {version}" for name, version in about["peers"].items())
    rows.append("")
    rows.append(
        f"{sizes['depth']} layers of {sizes['width']}, {steps} guided steps, random weights, float32. Each peer is"
    )
    rows.append("eager or compiled, whichever is faster; **times** are its seconds over ours. Measured on")
    rows.append(f"{result['machine']}, {versions}.")
    return "\n".join(rows)


def fill(text: str, name: str, content: str, where: str) -> str:
    """`text` with `content` between the comments <!-- name --> and <!-- /name -->."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(
            f"{where} has no lines <!-- {name} --> and <!-- /{name} -->; put them where the {name} should be."
        )
    return re.sub(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, count=1, flags=re.DOTALL)


def pages(root: Path = ROOT) -> dict[str, str]:
    """The pages that tell results, as they should be."""
    named = [*COMMANDS, *ON_A_GPU, "peers"]
    results = {name: json.loads((root / "data" / "results" / f"{name}.json").read_text()) for name in named}
    fillings = {
        "README.md": dict(grid=grid(results), chapters=chapters(results), results=tables(results)),
        "benchmarks/README.md": dict(peers=peers(results["peers"])),
    }
    found = {}
    for page, contents in fillings.items():
        found[page] = (root / page).read_text(encoding="utf-8")
        for name, content in contents.items():
            found[page] = fill(found[page], name, content, page)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = [*COMMANDS, *ON_A_GPU, *APART]
    parser.add_argument("--measure", nargs="*", choices=named, metavar="NAME", help=", ".join(named))
    parser.add_argument("--experiments", nargs="*", choices=EXPERIMENTS, metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page differs")
    parser.add_argument(
        "--time-chapters",
        nargs="*",
        metavar="NN",
        help="print the seconds that each notebook takes; numbers time these anew and take the others as stored",
    )
    parser.add_argument("--draw-grid", action="store_true", help=f"draw {GRID}")
    options = parser.parse_args()
    if options.time_chapters is not None or options.draw_grid:
        print(json.dumps(draw_grid() if options.draw_grid else time_chapters(options.time_chapters)))
        return
    folder = ROOT / "data" / "results"
    folder.mkdir(exist_ok=True)
    if options.measure is not None:
        for name in options.measure or COMMANDS:
            write_text(folder / f"{name}.json", json.dumps(measure(name), indent=1) + "\n")
    if options.experiments is not None:
        for name in options.experiments or EXPERIMENTS:
            repeat(name)
    wrong = {page: text for page, text in pages().items() if text != (ROOT / page).read_text(encoding="utf-8")}
    if not wrong:
        print("README.md and benchmarks/README.md say what was measured.")
    elif options.check:
        sys.exit(f"{' and '.join(wrong)} differs from data/results. Run `python tools/results.py`.")
    for page, text in {} if options.check else wrong.items():
        (ROOT / page).write_text(text, encoding="utf-8")
        print(f"Wrote {page}.")


if __name__ == "__main__":
    main()
