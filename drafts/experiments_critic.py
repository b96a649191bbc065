"""Is the token critic worth its passes? `python -m experiments.critic [ARM ...]`.

All arms of one budget cost the same number of passes of the base, counted in half-batches: a guided step is two, as it
computes the caption's half and the unguided one; a judgement of the critic is one. A budget of 12 is that of 12 guided
steps, 24 halves. With Halton's order the critic judges once per revising step, so two or four of these cost one or two
steps. With the order confidence it judges after every step but the last, which leaves about two thirds of the steps.
What the critic's own small head adds is not counted; `seconds` has the time of a picture in a batch of 16.

Every arm draws the same captions with the same seeds, so arms are compared caption by caption, those of one budget with
its first. The captions are in no other table. Names of arms after the command run only these arms.
"""

import json
import sys

from experiments.defaults import compare, outcomes
from experiments.race import seconds_per_picture
from experiments.small import experiment
from minimuse.config import Sampling, data_dir
from minimuse.decoding import guided_steps
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

BASE = dict(steps=12, guidance=0.5, ramp=True, temperature=4.5, token_temperature=0.25, top_k=0)
BASE |= dict(law="exp", order="halton", guided_from=0.0, guided_to=1.0, revise=0, critic=False)
PAPER = dict(law="cosine", order="confidence")
BUDGETS = {12: 8, 16: 11, 24: 16}  # guided steps, and the steps in the order confidence that the critic leaves of them


def arms_of(budget: int) -> dict[str, dict]:
    """The arms that cost as much as `budget` guided steps."""
    found = {"plain": dict(steps=budget)}
    for passes in (2, 4):
        found[f"revise {passes}"] = dict(steps=budget, revise=passes)
        found[f"revise {passes}, critic"] = dict(steps=budget - passes // 2, revise=passes, critic=True)
    found["confidence"] = PAPER | dict(steps=budget)
    found["confidence, critic"] = PAPER | dict(steps=BUDGETS[budget], critic=True)
    return {f"{budget}: {name}": options for name, options in found.items()}


ARMS = {arm: options for budget in BUDGETS for arm, options in arms_of(budget).items()}
SPLITS = ("val", "unseen_pairs")
FIRST, CAPTIONS = 40_000, 300  # captions of each split


def halves(options: dict) -> int:
    """Passes of the base in half-batches: two for a guided step, one for another step and for a judgement."""
    sampling = Sampling(**options)
    guided = len(guided_steps(sampling)) if sampling.guidance else 0
    judged = sampling.revise if sampling.order != "confidence" else sampling.steps - 1
    return sampling.steps + guided + judged * sampling.critic


def run(arm: str, seed: int) -> dict:
    muse, options = Muse.from_pretrained("tiny", superres=False), BASE | ARMS[arm]
    found = {split: outcomes(muse, split, seed, options, FIRST, CAPTIONS) for split in SPLITS}
    return dict(options=options, halves=halves(options), seconds=seconds_per_picture(muse, 16, options)) | found


if __name__ == "__main__":
    settings = dict(base=BASE, captions=CAPTIONS, first=FIRST, splits=SPLITS)
    only = [arm for arm in sys.argv[1:] if not arm.startswith("--")]
    weights = weights_of("tokenizer", "base", "critic")
    experiment("critic", list(ARMS), run, settings, only=only, weights=weights, complete=True)
    path = data_dir() / "experiments" / "critic.json"
    if "--about" not in sys.argv and path.is_file():
        rows = json.loads(path.read_text())["rows"]
        for budget in BUDGETS:
            print("\n".join(compare(rows, arms_of(budget), SPLITS)))
