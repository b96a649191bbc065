"""Samplers at equal work (chapter 14): `python -m experiments.equal_work [ARM ...]`.

Work is counted in passes of the base over one picture's tokens: a guided step is two, one for the caption and one for
the unguided half; an unguided step is one, and so is a judgement of the token critic. All arms of a budget cost at most
the passes of so many guided steps. What the critic's own small head adds is not counted; `seconds` has the time of one
picture in a batch of 16.

With Halton's order the critic judges once per revising step, so two of these cost one step. With the order confidence
it judges after every step but the last, which leaves about two thirds of the steps. Every arm draws the same captions
with the same seed, so arms of a budget are compared caption by caption. The captions are in no other table. Names of
arms after the command run only these arms.
"""

import json
import sys

from experiments.defaults import compare
from experiments.race import seconds_per_picture
from experiments.small import experiment
from minimuse.config import Sampling, data_dir
from minimuse.data import everyday, scenes
from minimuse.decoding import guided_steps
from minimuse.evaluate.fidelity import draw, facts_true, faults
from minimuse.evaluate.metrics import distances
from minimuse.evaluate.scorer import shipped_scorer
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

BASE = dict(steps=12, guidance=0.5, ramp=True, temperature=4.5, token_temperature=0.1, top_k=0)
BASE |= dict(law="exp", order="halton", guided_from=0.0, guided_to=1.0, revise=0, critic=False)
BUDGETS = (4, 8, 12, 24)  # guided steps


def arms_of(budget: int) -> dict[str, dict]:
    """The arms that cost as much as `budget` guided steps. `confidence` has the token temperature that is best for it,
    see experiments.sampling."""
    found: dict[str, dict] = {}
    for order in ("confidence", "random", "raster", "halton"):
        heat = dict(token_temperature=0.25) if order == "confidence" else {}
        for law in ("cosine", "exp"):
            found[f"{order}, {law}"] = dict(order=order, law=law, steps=budget) | heat
    found["unguided"] = dict(steps=2 * budget, guidance=0.0)
    found["guided last half"] = dict(steps=4 * budget // 3, guided_from=0.5)
    found["revise"] = dict(steps=budget, revise=budget // 4)
    found["revise, critic"] = dict(steps=budget - 1, revise=2, critic=True)
    found["confidence, critic"] = dict(
        order="confidence", law="cosine", steps=(2 * budget + 1) // 3, critic=True, token_temperature=0.25
    )
    return {f"{budget}: {name}": options for name, options in found.items()}


ARMS = {arm: options for budget in BUDGETS for arm, options in arms_of(budget).items()}
SPLITS = ("val", "unseen_pairs")
FIRST, CAPTIONS = 40_000, 240  # captions of each split


def passes(options: dict) -> int:
    """Passes of the base over one picture's tokens."""
    sampling = Sampling(**options)
    guided = len(guided_steps(sampling)) if sampling.guidance else 0
    judged = sampling.revise if sampling.order != "confidence" else sampling.steps - 1
    return sampling.steps + guided + judged * sampling.critic


def outcomes(muse: Muse, split: str, seed: int, options: dict) -> dict:
    """Of one picture of every caption: whether it is as `asked`, and `exact`, as strings of 0 and 1; and the distance
    of all of them to true pictures, on random features."""
    prompts = [everyday.example(split, FIRST + i) for i in range(CAPTIONS)]
    images, _ = draw(muse, [caption for _, caption in prompts], seed, 60, split, **options)
    asked, exact = "", ""
    for (scene, caption), reading, image in zip(prompts, shipped_scorer().read(images), images):
        facts = [holds for kind in facts_true(scene, caption, reading).values() for holds in kind]
        asked += "01"[all(facts)]
        exact += "01"[not any(faults(scene, caption, reading, image))]
    true = scenes.render_batch([scene for scene, _ in prompts], images.shape[1])
    far = distances(images, true)["frechet_random"] if CAPTIONS > 1 else float("nan")
    return dict(asked=asked, exact=exact, frechet_random=round(far, 4))


def run(arm: str, seed: int) -> dict:
    muse, options = Muse.from_pretrained("tiny", superres=False), BASE | ARMS[arm]
    about = dict(options=options, passes=passes(options), seconds=seconds_per_picture(muse, 16, options))
    return about | {split: outcomes(muse, split, seed, options) for split in SPLITS}


if __name__ == "__main__":
    settings = dict(base=BASE, captions=CAPTIONS, first=FIRST, splits=SPLITS)
    only = [arm for arm in sys.argv[1:] if not arm.startswith("--")]
    weights = weights_of("tokenizer", "base", "critic")
    experiment("equal_work", list(ARMS), run, settings, (0,), only, weights=weights, complete=True)
    path = data_dir() / "experiments" / "equal_work.json"
    if "--about" not in sys.argv and path.is_file():
        rows = json.loads(path.read_text())["rows"]
        for budget in BUDGETS:
            print("\n".join(compare(rows, arms_of(budget), SPLITS)))
