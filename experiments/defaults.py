"""Which sampling defaults are best? `python -m experiments.defaults [ARM ...]`.

Every arm draws the same captions with the same seeds, so arms are compared caption by caption: `compare` has the
difference to the first arm with a bootstrap interval. The captions are in no other table. The paper's order and law,
Halton's and `exp`, and the checkpoint's own way run with three seeds, the other arms with one. Names of arms after the
command run only these arms.
"""

import json
import sys
from collections.abc import Iterable

import numpy as np

from experiments.small import experiment
from minimuse.config import data_dir
from minimuse.data import everyday
from minimuse.evaluate.fidelity import facts_true, faults
from minimuse.evaluate.metrics import paired_interval
from minimuse.evaluate.scorer import shipped_scorer
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

BASE = dict(steps=12, guidance=0.5, ramp=True, temperature=4.5, token_temperature=0.25, top_k=0)
BASE |= dict(law="cosine", order="confidence", guided_from=0.0, guided_to=1.0, revise=0, critic=False)
HALTON = dict(order="halton", law="exp")
REVISED = HALTON | dict(steps=16, revise=4)
OWN = "halton, exp, 16 steps, revise 4, token 0.1"
ARMS = {
    "confidence, cosine": {},
    "halton, exp": HALTON,
    OWN: REVISED | dict(token_temperature=0.1),
    "confidence, exp": dict(law="exp"),
    "halton, cosine": dict(order="halton"),
    "halton, exp, 8 steps": HALTON | dict(steps=8),
    "halton, exp, 16 steps": HALTON | dict(steps=16),
    "halton, exp, token 0.1": HALTON | dict(token_temperature=0.1),
    "halton, exp, 16 steps, revise 4": REVISED,
    "confidence, cosine, 16 steps, revise 4": dict(steps=16, revise=4),
    f"{OWN}, guided last half": REVISED | dict(token_temperature=0.1, guided_from=0.5),
    f"{OWN}, t 1": REVISED | dict(token_temperature=0.1, guidance=1.0),
}
SPLITS = ("val", "everyday")
FIRST, CAPTIONS, BATCH = 30_000, 600, 60  # captions of each split


def outcomes(muse: Muse, split: str, seed: int, options: dict, first: int, captions: int) -> dict[str, str]:
    """For every caption, from number `first` on, whether the picture is as `asked`, and `exact`: strings of 0 and 1."""
    asked, exact = "", ""
    for start in range(0, captions, BATCH):
        prompts = [everyday.example(split, first + start + i) for i in range(min(BATCH, captions - start))]
        images = muse.generate([caption for _, caption in prompts], seed=seed * 10_000 + start, **options)
        for (scene, caption), reading, image in zip(prompts, shipped_scorer().read(images), images):
            facts = [holds for kind in facts_true(scene, caption, reading).values() for holds in kind]
            asked += "01"[all(facts)]
            exact += "01"[not any(faults(scene, caption, reading, image))]
    return dict(asked=asked, exact=exact)


def run(arm: str, seed: int) -> dict:
    muse = Muse.from_pretrained("tiny", superres=False)
    options = BASE | ARMS[arm]
    found = {split: outcomes(muse, split, seed, options, FIRST, CAPTIONS) for split in SPLITS}
    return dict(options=options) | found


def compare(rows: list[dict], arms: Iterable[str] = ARMS, splits: Iterable[str] = SPLITS) -> list[str]:
    """One line per split and arm: the shares in percent, and in brackets the interval of the difference to the first
    arm, in points, over the seeds that both have."""
    found, first, lines = {(row["arm"], row["seed"]): row for row in rows}, next(iter(arms)), []
    for split in splits:
        for arm in arms:
            seeds = [seed for name, seed in found if name == arm and (first, seed) in found]
            if not seeds:
                continue
            line = f"{split:9} {arm:60}"
            for kind in ("asked", "exact"):
                bits = ("".join(found[name, seed][split][kind] for seed in seeds) for name in (arm, first))
                own, other = (np.array([*map(int, each)]) for each in bits)
                low, high = (100 * end for end in paired_interval(own, other))
                line += f"  {kind} {100 * own.mean():5.1f} ({low:+.1f} to {high:+.1f})"
            lines.append(line)
    return lines


if __name__ == "__main__":
    settings = dict(base=BASE, captions=CAPTIONS, first=FIRST, splits=SPLITS)
    only = [arm for arm in sys.argv[1:] if not arm.startswith("--")]
    weights, once = weights_of("tokenizer", "base"), list(ARMS)[3:]
    experiment("defaults", list(ARMS), run, settings, only=only, weights=weights, complete=True, once=once)
    path = data_dir() / "experiments" / "defaults.json"
    if "--about" not in sys.argv and path.is_file():
        print("\n".join(compare(json.loads(path.read_text())["rows"])))
