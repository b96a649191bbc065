"""Quality against time (chapter 07): `python -m experiments.race`.

Parallel decoding and its two trained twins, each with several numbers of steps, or guidance scales and temperatures:
how good are 256 pictures, and how long does one take, at batch 1 and at batch 16? Parallel decoding draws in the
paper's order and by its law (confidence, cosine), and in those of the shipped checkpoint (halton, exp), with the same
guidance and temperatures; as the checkpoint does, with steps that revise; and without guidance, as the fastest arm of
the autoregressive twin does. Nothing else should run at the same time. The captions are not those of README.md's
fidelity.
"""

import functools
import time

from experiments.small import experiment, measured
from minimuse.data import scenes
from minimuse.evaluate.baselines import Twin
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

PARALLEL = dict(guidance=0.5, temperature=4.5, token_temperature=0.25, revise=0)
STEPS = {("confidence", "cosine"): (1, 2, 4, 8, 12, 24), ("halton", "exp"): (4, 8, 12, 16, 24)}
UNGUIDED = dict(order="halton", law="exp", guidance=0.0)
ARMS = (
    {
        f"parallel, {order}, {law}, {steps} steps": ("parallel", PARALLEL | dict(order=order, law=law, steps=steps))
        for (order, law), counts in STEPS.items()
        for steps in counts
    }
    | {
        f"parallel, halton, exp, {steps} steps, revise {revise}, token 0.1": (
            "parallel",
            dict(guidance=0.5, token_temperature=0.1, order="halton", law="exp", steps=steps, revise=revise),
        )
        for steps, revise in ((8, 2), (16, 4))
    }
    | {
        f"parallel, halton, exp, {steps} steps, t 0": ("parallel", PARALLEL | UNGUIDED | dict(steps=steps))
        for steps in (12, 24)
    }
    | {
        f"autoregressive, t {t:g}, token temperature {heat:g}": (
            "autoregressive",
            dict(guidance=t, token_temperature=heat),
        )
        for t, heat in ((0.5, 1.0), (0.0, 0.25), (0.5, 0.25))
    }
    | {
        f"diffusion, {steps} steps, t {t:g}": ("diffusion", dict(steps=steps, guidance=t))
        for steps, t in ((50, 1.0), (50, 2.0), (25, 1.0))
    }
)
FIRST, CAPTIONS, BATCHES, TURNS = 10_000, 256, (1, 16), 3


@functools.cache
def drawer(name: str) -> Muse | Twin:
    """The Muse, or its twin of that name."""
    muse = Muse.from_pretrained("tiny", superres=False)
    return muse if name == "parallel" else Twin.from_pretrained(name, "tiny", muse)


def seconds_per_picture(draw: Muse | Twin, batch: int, options: dict) -> float:
    """The best of some turns, including text and pixels, without compilation."""
    captions, best = [scenes.example("val", FIRST + i)[1] for i in range(batch)], float("inf")
    for turn in range(1 + TURNS):
        begun = time.perf_counter()
        draw.generate(captions, seed=turn, **options)
        if turn:
            best = min(best, time.perf_counter() - begun)
    return float(f"{best / batch:.3g}")


def run(arm: str, seed: int) -> dict:
    name, options = ARMS[arm]
    draw = drawer(name)
    row = dict(drawer=name, options=options) | measured(draw, CAPTIONS, first=FIRST, seed=seed, **options)
    return row | dict(seconds={str(batch): seconds_per_picture(draw, batch, options) for batch in BATCHES})


if __name__ == "__main__":
    weights = weights_of("tokenizer", "base", "autoregressive", "diffusion")
    experiment("race", list(ARMS), run, dict(captions=CAPTIONS, first=FIRST), seeds=(0,), weights=weights)
