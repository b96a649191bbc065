"""Guidance scales (chapter 08): `python -m experiments.guidance`.

t from 0 to 10, with the linear ramp and without, at the shipped checkpoint's token temperature and at 1, where tokens
are sampled from the guided probabilities.
"""

from experiments.small import experiment, measured
from minimuse.evaluate.fidelity import evaluate_diversity
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 10.0)
ARMS = {
    f"{'ramp' if ramp else 'constant'}, t {scale:g}, token temperature {temperature:g}": dict(
        guidance=scale, ramp=ramp, token_temperature=temperature, temperature=4.5, steps=12, revise=0
    )
    for temperature in (0.25, 1.0)
    for scale in SCALES
    for ramp in (True, False)
    if scale or ramp  # without guidance there is nothing to ramp
}
FIRST, CAPTIONS, DIVERSE = 10_000, 128, 16  # as in experiments.sampling


def run(arm: str, seed: int) -> dict:
    options, muse = ARMS[arm], Muse.from_pretrained("tiny", superres=False)
    about = dict(first=FIRST, seed=seed) | options
    row = dict(options=options) | measured(muse, CAPTIONS, **about)
    if options["token_temperature"] == 1.0:
        row["diversity"] = evaluate_diversity(muse, n=DIVERSE, **about)
    return row


if __name__ == "__main__":
    settings = dict(captions=CAPTIONS, first=FIRST)
    experiment("guidance", list(ARMS), run, settings, seeds=(0,), weights=weights_of("tokenizer", "base"))
