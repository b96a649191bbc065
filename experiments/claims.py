"""The paper's claims with the shipped weights, three times (chapter 12): `python -m experiments.claims`.

The other experiments measure many settings once; this one measures few settings with three seeds, so that the table of
chapter 12 can show what is chance. Every seed draws different pictures of different captions. Names of arms after the
command run only these arms.
"""

import sys

from experiments import negatives
from experiments.small import experiment, measured
from minimuse.evaluate import edits
from minimuse.evaluate.baselines import Twin
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

BASE = {
    "own": {},
    "12 steps": dict(steps=12, revise=0),
    "8 steps": dict(steps=8, revise=0),
    "24 steps": dict(steps=24, revise=0),
    "paper's sampling": dict(order="confidence", law="cosine", steps=12, revise=0, token_temperature=0.25),
    "no guidance": dict(guidance=0.0),
    "guidance 4": dict(guidance=4.0, ramp=False),
}
TWINS = ("autoregressive", "diffusion")
WORDS = ("not mentioned, constant, t 2", "ruled out in words, ramp, t 2", "negative: the caption with it, ramp, t 2")
ARMS = (*BASE, *TWINS, "128 px", *WORDS, "inpainting", "mask-free")
FIRST, CAPTIONS, EDITS = 20_000, 128, 50


def run(arm: str, seed: int) -> dict:
    if arm in WORDS:
        return negatives.run(arm, 1 + seed)  # seed 0 is that experiment's own
    muse = Muse.from_pretrained("tiny", superres=arm == "128 px")
    if arm == "inpainting":
        return edits.evaluate_inpainting(muse, EDITS, 2 + seed)
    if arm == "mask-free":
        return edits.evaluate_mask_free(muse, EDITS, 2 + seed)
    if arm in TWINS:
        muse = Twin.from_pretrained(arm, "tiny", muse)
    options = BASE.get(arm, {})
    return dict(options=options) | measured(muse, CAPTIONS, first=FIRST + seed * CAPTIONS, seed=seed, **options)


if __name__ == "__main__":
    settings = dict(captions=CAPTIONS, first=FIRST, edits=EDITS, own=Muse.from_pretrained("tiny").defaults)
    used = ("tokenizer", "base", "superres_tokenizer", "superres", "superres_decoder", *TWINS)
    experiment("claims", list(ARMS), run, settings, only=sys.argv[1:], weights=weights_of(*used))
