"""How to decode (chapter 07): `python -m experiments.sampling`.

Each arm changes one setting of BASE: one of the temperatures, the number of steps in three orders, the law of the
schedule, or top-k. BASE has the paper's order and law, not the shipped checkpoint's, because only the order of
confidence has noise; `experiments.defaults` compares the two. The captions are not those of README.md's fidelity.
"""

import functools

from experiments.small import experiment, measured
from minimuse.evaluate.fidelity import evaluate_diversity
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

BASE = dict(steps=12, guidance=0.5, ramp=True, temperature=4.5, token_temperature=0.25, top_k=0)
BASE |= dict(law="cosine", order="confidence", revise=0)
FIXED = ("halton", "random")
ARMS = (
    {f"temperature {value:g}": dict(temperature=value) for value in (0.0, 1.0, 2.0, 4.5, 8.0, 16.0)}
    | {f"token temperature {value:g}": dict(token_temperature=value) for value in (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)}
    | {f"confidence, {steps}": dict(steps=steps) for steps in (1, 2, 4, 8, 12, 16, 24, 32, 64)}
    | {f"{order}, {steps}": dict(order=order, steps=steps) for steps in (12, 4, 8, 24, 32) for order in FIXED}
    | {f"law {name}": dict(law=name) for name in ("linear", "square", "cubic", "square root", "log")}
    | {f"top {value}": dict(top_k=value, token_temperature=1.0) for value in (3, 10)}
)
FIRST, CAPTIONS, DIVERSE = 10_000, 128, 16  # the last: captions for which diversity is measured


@functools.cache  # three arms change nothing
def drawn(seed: int, options: tuple, diverse: bool) -> dict:
    about, muse = dict(first=FIRST, seed=seed) | dict(options), Muse.from_pretrained("tiny", superres=False)
    found = measured(muse, CAPTIONS, **about)
    return found | (dict(diversity=evaluate_diversity(muse, n=DIVERSE, **about)) if diverse else {})


def run(arm: str, seed: int) -> dict:
    options = BASE | ARMS[arm]
    diverse = "temperature" in arm or "confidence" in arm
    return dict(options=options) | drawn(seed, tuple(options.items()), diverse)


if __name__ == "__main__":
    settings = dict(base=BASE, captions=CAPTIONS, first=FIRST)
    experiment("sampling", list(ARMS), run, settings, seeds=(0,), weights=weights_of("tokenizer", "base"))
