"""What `layers.Linear` saves: `python -m benchmarks.linear`.

The gradient of a kernel, computed from [B, N, out] as in nnx.Linear and from flat matrices as in layers.Linear, for the
shapes of the tiny base transformer, in turns. Prints one JSON object: milliseconds of each, and their ratio.
"""

import json
import statistics
import time
from collections.abc import Callable

import jax
from flax import nnx

from minimuse import layers
from minimuse.presets import get_preset
from minimuse.train.loop import machine

ROUNDS = 20


def kernel_gradient(layer: nnx.Linear | layers.Linear) -> Callable:
    """(x, dy) -> the gradient of the layer's kernel, compiled."""
    program = jax.jit(lambda layer, x, dy: jax.vjp(lambda layer: layer(x), layer)[1](dy))
    return lambda x, dy: program(layer, x, dy)


def main() -> None:
    config, train = get_preset("tiny").base, get_preset("tiny").train["base"]
    batch = (train.batch, config.grid[0] * config.grid[1])
    init, result = nnx.initializers.lecun_normal(), {}
    for name, width in dict(qkv=3 * config.width, up=config.mlp_width, logits=config.codebook_size).items():
        x, dy = (jax.random.normal(jax.random.key(0), (*batch, size)) for size in (config.width, width))
        kinds = dict(
            nnx=nnx.Linear(config.width, width, use_bias=False, rngs=nnx.Rngs(0)),
            flat=layers.Linear(config.width, width, init, rngs=nnx.Rngs(0)),
        )
        gradients, seconds = {kind: kernel_gradient(layer) for kind, layer in kinds.items()}, dict(nnx=[], flat=[])
        for _ in range(ROUNDS + 1):
            for kind, gradient in gradients.items():
                begun = time.perf_counter()
                jax.block_until_ready(gradient(x, dy))
                seconds[kind].append(time.perf_counter() - begun)
        middle = {kind: 1000 * statistics.median(values[1:]) for kind, values in seconds.items()}  # the first compiles
        result[name] = {kind: round(value, 2) for kind, value in middle.items()}
        result[name]["ratio"] = round(middle["nnx"] / middle["flat"], 2)
    print(json.dumps(result | dict(machine=machine()), indent=2))


if __name__ == "__main__":
    main()
