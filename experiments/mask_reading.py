"""The two ways of editing without a mask (chapter 11), at 128 px: `python -m experiments.mask_reading`.

The edits are those of `python -m minimuse evaluate editing`; the thresholds were set on others, of seed 100. Names of
arms after the command run only these arms.
"""

import dataclasses
import random
import sys

from experiments.small import experiment
from minimuse.data import scenes
from minimuse.evaluate.edits import Change, evaluate_edit, only_the_change
from minimuse.evaluate.stored import weights_of
from minimuse.mask_free import REDRAW, MaskReading, Resampling
from minimuse.muse import Muse


def with_before(edit: Change) -> dict[str, str]:
    """The caption, and one of the picture as it is."""
    rng = random.Random(edit.caption)
    while "background" not in scenes.asked(edit.before, text := scenes.caption(edit.before, rng)):
        pass
    return dict(caption=edit.caption, before=text)


ARMS = {
    "read": dict(way="read"),
    "read, with a caption of the picture before": dict(way="read", phrase=with_before),
    "read, only the change": dict(way="read", phrase=lambda edit: dict(caption=only_the_change(edit)["caption"])),
    "read, only the change, with the same before": dict(way="read", phrase=only_the_change),
    "resample": dict(way="resample"),
}
EDITS = 300


def run(arm: str, seed: int) -> dict:
    return evaluate_edit(Muse.from_pretrained("tiny"), n=EDITS, seed=seed, superres=True, **ARMS[arm])


if __name__ == "__main__":
    own = dict(read=dataclasses.asdict(MaskReading()) | REDRAW, resample=dataclasses.asdict(Resampling()))
    used = weights_of("tokenizer", "base", "superres_tokenizer", "superres", "superres_decoder")
    experiment("mask_reading", list(ARMS), run, dict(edits=EDITS, own=own), (0,), sys.argv[1:], weights=used)
