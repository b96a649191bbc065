"""What the checks of exercises 10 try answers on: residual blocks, and the weights of a toy tokenizer with changes."""

import copy
from collections.abc import Callable, Iterable

import numpy as np


def fresh_block(channels: int, seed: int) -> dict:
    """Weights of a residual block, none of them zero."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32) / 2
    conv = lambda: {"kernel": draw(3, 3, channels, channels), "bias": draw(channels)}
    norm = lambda: {"scale": 1 + draw(channels) / 4}
    return {"norm1": norm(), "conv1": conv(), "norm2": norm(), "conv2": conv()}


def inside(block: dict, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The input of a residual block's last convolution for x [B, h, w, C], and its output."""
    (h, w), into = x.shape[1:3], x
    for number in "12":
        scale, conv = block[f"norm{number}"]["scale"], block[f"conv{number}"]
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale
        into = x / (1 + np.exp(-x))
        around = np.pad(into, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = (around[:, i : i + h, j : j + w] @ conv["kernel"][i, j] for i in range(3) for j in range(3))
        x = sum(windows) + conv["bias"]
    return into, x


def some_weights(seed: int) -> dict:
    """Weights of a toy tokenizer as a nested dict of float32 arrays, with seed + 2 layers in the decoder."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    layers = {i: {"kernel": draw(3, 3, 2, 2), "bias": draw(2)} for i in range(seed + 2)}
    return {
        "encoder": {"stages": {"layers": {0: {"kernel": draw(4, 3), "bias": draw(3)}}}},
        "codebook": draw(6, 2),
        "uses": np.full(2000, 2**25),
        "decoder": {"stages": {"layers": layers}, "norm": {"scale": draw(5)}},
    }


CHANGES: dict[str, Callable] = {  # path of an array: how it is changed
    "codebook": lambda a: a + 1,
    "decoder/stages/layers/0/bias": lambda a: a + np.array([1, 0], np.float32),
    "decoder/stages/layers/0/kernel": lambda a: a[::-1].copy(),
    "encoder/stages/layers/0/kernel": lambda a: np.where(
        np.arange(12).reshape(4, 3) == 7, np.nextafter(a, np.float32(9)), a
    ),
    "decoder/norm/scale": lambda a: -a,
    "decoder/stages/layers/1/kernel": lambda a: np.concatenate([a, a], -1),
    "encoder/stages/layers/0/bias": lambda a: a * np.float32(0.999),
    "uses": lambda a: a + (np.arange(2000) == 1000),
}
MISSED = {
    "codebook": "It is an array at the top level: not every name has a dict under it.",
    "decoder/stages/layers/0/kernel": "It has the same values in a different order. Compare value by value, not sums.",
    "encoder/stages/layers/0/kernel": "It has changed only in its last bits. Compare without a tolerance.",
    "decoder/norm/scale": "Its values have changed sign. Compare the values themselves.",
    "decoder/stages/layers/1/kernel": "Its shape has changed, as after growing. That is a change as well.",
    "decoder/stages/layers/0/bias": "Only one of its two values has changed: a single one is enough.",
    "encoder/stages/layers/0/bias": "It is smaller by one thousandth, as after weight decay. Compare exactly.",
    "uses": "It is an array of 2,000 ints, 33 million each, and one of them has grown by 1. Compare all of them, "
    "without a tolerance, and not as float32.",
}


def changed_at(weights: dict, paths: Iterable[str]) -> dict:
    """A copy of a nested dict in which the arrays at these paths are changed."""
    after = copy.deepcopy(weights)
    for path in paths:
        *outer, last = (int(name) if name.isdigit() else name for name in path.split("/"))
        at = after
        for name in outer:
            at = at[name]
        at[last] = CHANGES[path](at[last])
    return after
