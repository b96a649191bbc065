"""Fixed against variable mask rates (chapter 06): `python -m experiments.mask_rates`.

The same small transformer, trained with a mask rate that is fixed at 0.15, 0.5 or 0.9, uniform, or of the cosine law,
and sampled in the same way with several numbers of decoding steps.
"""

import dataclasses

from experiments.small import RUNS, TRAIN, experiment, measured, own_sampling, trained_muse
from minimuse.evaluate.stored import weights_of

ARMS = {"fixed 0.15": 0.15, "fixed 0.5": 0.5, "fixed 0.9": 0.9, "uniform": "uniform", "cosine": "cosine"}
STEPS = (1, 4, 8, 16)
CAPTIONS = 240


def run(arm: str, seed: int) -> dict:
    train = dataclasses.replace(TRAIN, schedule=ARMS[arm], seed=seed)
    muse = trained_muse(RUNS / "mask_rates" / f"{arm}-{seed}".replace(" ", "-"), train)
    return dict(steps={str(steps): measured(muse, CAPTIONS, steps=steps) for steps in STEPS})


if __name__ == "__main__":
    settings = dict(train=dataclasses.asdict(TRAIN), steps=STEPS, captions=CAPTIONS, own=own_sampling())
    experiment("mask_rates", list(ARMS), run, settings, weights=weights_of("tokenizer"))
