"""How fast the base transformer trains, compared with the machine's peak: `python -m benchmarks.train_rate`.

The peak is the best rate of one large float32 matrix product on the same devices, measured in turns with the training
steps. A training step's useful work is counted in the same unit: the multiplications and additions of its matrix
products, once forward and twice backward; what is recomputed to save memory does not count. Prints one JSON object.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.flops import forward_flops
from minimuse.data import scenes
from minimuse.data.cache import TokenCache
from minimuse.muse import Muse, init_stage
from minimuse.presets import get_preset
from minimuse.train import losses
from minimuse.train.loop import machine
from minimuse.train.step import init_state, make_step

SCENES = 256  # training scenes in the token cache
ROUNDS, STEPS = 5, 6  # rounds, each of STEPS training steps and STEPS products
SIDE = 2048  # rows and columns of the product


def per_second(work: float, run: Callable) -> float:
    """The rate of STEPS runs, each of this much work."""
    begun = time.perf_counter()
    jax.block_until_ready([run() for _ in range(STEPS)])
    return STEPS * work / (time.perf_counter() - begun)


def main() -> None:
    preset, muse = get_preset("tiny"), Muse.from_pretrained("tiny")
    config, train = preset.base, preset.train["base"]

    cache = TokenCache.build(functools.partial(scenes.pictured, "train"), SCENES, muse.tokenize, muse.text.encode)
    batch = cache.batch(np.arange(train.batch))
    model = init_stage("base", config)
    parameters = sum(x.size for x in jax.tree.leaves(model))
    step = make_step(functools.partial(losses.transformer_loss, config, train), train)
    state = init_state(model, train)

    def one_step() -> jax.Array:
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
        "parameters": parameters,
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
