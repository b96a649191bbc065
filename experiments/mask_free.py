"""Editing without a mask (chapter 11): `python -m experiments.mask_free`.

Each arm changes guidance or the share of tokens that an iteration hides, of the defaults of mask_free.Resampling. The
edits are not those of `python -m minimuse evaluate editing`. Names of arms after the command run only these arms.
"""

import dataclasses
import sys

from experiments.small import experiment
from minimuse.evaluate.edits import evaluate_mask_free
from minimuse.evaluate.stored import weights_of
from minimuse.mask_free import Resampling
from minimuse.muse import Muse

ARMS = {f"t {t:g}": dict(guidance=t) for t in (1.0, 2.0, 4.0)} | {"half of the tokens": dict(fraction=0.5)}
EDITS, SEED = 60, 1


def run(arm: str, seed: int) -> dict:
    muse = Muse.from_pretrained("tiny", superres=False)
    return evaluate_mask_free(muse, n=EDITS, batch=EDITS, seed=SEED + seed, **ARMS[arm])


if __name__ == "__main__":
    settings = dict(edits=EDITS, first_seed=SEED, own=dataclasses.asdict(Resampling()))
    experiment(
        "mask_free", list(ARMS), run, settings, seeds=(0,), only=sys.argv[1:], weights=weights_of("tokenizer", "base")
    )
