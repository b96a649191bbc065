"""How fast the base transformer trains, beside what the machine can do at most: `python -m benchmarks.train_rate`.

The peak is the best rate of one large float32 matrix product on the same devices, measured in turns with the training
steps. A training step's useful work is counted in the same unit: the multiplications and additions of its matrix
products, forward once and backward twice; what is recomputed to save memory does not count. Prints one JSON object.
"""

import functools
import json
import statistics
import time

import jax
import numpy as np

from benchmarks.flops import forward_flops
from minimuse.data import scenes
from minimuse.data.cache import TokenCache
from minimuse.muse import Muse
from minimuse.presets import get_preset
from minimuse.train import losses
from minimuse.train.loop import machine
from minimuse.train.step import init_state, make_step
from minimuse.weights import init

SCENES = 256  # training scenes in the cache that steps are fed from
ROUNDS, STEPS = 5, 6  # rounds of so many steps and as many products
SIDE = 2048  # rows and columns of the product


def per_second(work: float, run) -> float:
    begun = time.perf_counter()
    for _ in range(STEPS):
        last = run()
    jax.block_until_ready(last)
    return STEPS * work / (time.perf_counter() - begun)


def main() -> None:
    preset, muse = get_preset("tiny"), Muse.from_pretrained("tiny")
    config, train = preset.base, preset.train["base"]

    cache = TokenCache.build(functools.partial(scenes.pictured, "train"), SCENES, muse.tokenize, muse.text.encode)
    batch = cache.batch(np.arange(train.batch))
    graphdef, params = init("base", config)
    step = make_step(functools.partial(losses.transformer_loss, graphdef, config, train), train)
    state = init_state(params, train)

    def one_step():
        nonlocal state
        state, metrics = step(state, batch)
        return metrics["loss"]

    square = jax.random.normal(jax.random.key(0), (SIDE, SIDE))
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready((one_step(), product(square)))
    tokens = train.batch * config.grid[0] * config.grid[1]
    flops = 3 * train.batch * forward_flops(config, cache.text_length)
    rates, peaks = [], []
    for _ in range(ROUNDS):
        rates.append(per_second(tokens, one_step))
        peaks.append(per_second(2 * SIDE**3, lambda: product(square)))
    rate, peak = statistics.median(rates), max(peaks)
    result = {
        "steps a second": round(rate / tokens, 2),
        "image tokens a second": round(rate),
        "gigaflops a second": round(rate / tokens * flops / 1e9, 1),
        "peak gigaflops a second": round(peak / 1e9, 1),
        "share of the peak": round(rate / tokens * flops / peak, 3),
        "batch": train.batch,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
