"""Exercises 10: decoder fine-tuning."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, close, describe, exercise, numbers, same, unless


@exercise(points=3)
def widened_weights(answer: Callable) -> None:
    """weight float [n, m], delta float [n, 2 m] -> float [2 n, 2 m]: [x, x] times it is [y, y]."""
    for n, m, seed in ((2, 1, 0), (3, 3, 1), (1, 4, 2), (5, 2, 3)):
        rng = np.random.default_rng(seed)
        weight, delta = rng.normal(size=(n, m)), rng.normal(size=(n, 2 * m))
        got = call(answer, weight, delta)
        if np.shape(got) == (n, 2 * m):
            raise Wrong(
                "The outputs are doubled, the inputs are not. Every row must come twice as well, with its share."
            )
        if np.shape(got) == (2 * n, m):
            raise Wrong("The inputs are doubled, the outputs are not. Every column must come twice as well.")
        got = numbers(got, (2 * n, 2 * m))
        first, second = got[:n], got[n:]
        if n > 1 and not close(first + second, np.tile(weight, 2)) and close(got[::2] + got[1::2], np.tile(weight, 2)):
            raise Wrong(
                "The copies of an input are side by side. The layer gets [x, x]: first all inputs, then all of them "
                "again."
            )
        unless(
            first + second,
            {
                "The two shares add up to twice the weight, so the layer gives 2 y. Halve the weight first.": 2
                * np.tile(weight, 2),
                "`delta` is added to both copies, so they do not add up to the weight. Subtract it from the second "
                "copy.": np.tile(weight, 2) + 2 * delta,
                "The outputs are y1, y1, y2, y2. They should be [y, y]: all outputs, then all again.": weight.repeat(
                    2, 1
                ),
            },
            right=np.tile(weight, 2),
        )
        if close(first, second):
            raise Wrong(
                "Both copies of every input have equal weights. They would get equal gradients and stay equal "
                "forever: add `delta` to the first copy's share and subtract it from the second's."
            )
        x = rng.normal(size=(4, n))
        y = x @ weight
        same(np.tile(x, 2) @ got, np.tile(y, 2), f"[x, x] times your weights, W of shape {[n, m]}")
        same(first + second, np.tile(weight, 2), f"the sum of the two shares, W of shape {[n, m]}")
        unless(
            first - second,
            {
                "The two copies differ by `delta`. The first should be half of the weight plus `delta`, the second "
                "half of it minus `delta`: the difference is 2 times `delta`.": delta,
                "The copies are swapped: the first one should be half of the weight plus `delta`.": -2 * delta,
            },
        )
        same(first - second, 2 * delta, "the difference of the two shares, which is 2 times `delta`")


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


@exercise(points=2)
def silent_block(answer: Callable) -> None:
    """block nested dict of weights -> the same names and shapes; it adds nothing, and conv2's kernel can learn."""
    for channels, seed in ((2, 0), (3, 1), (1, 2)):
        block = fresh_block(channels, seed)
        got = call(answer, block)
        if not isinstance(got, dict) or set(got) != set(block):
            there = f"a dict with {', '.join(map(str, got))}" if isinstance(got, dict) else describe(got)
            raise Wrong(f"It returned {there}; return a dict with {', '.join(block)}, like the given one.")
        for part, arrays in block.items():
            if not isinstance(got[part], dict) or set(got[part]) != set(arrays):
                raise Wrong(
                    f"“{part}” should be a dict with {' and '.join(arrays)}; it is a {type(got[part]).__name__}."
                )
            got[part] = {name: numbers(got[part][name], array.shape) for name, array in arrays.items()}
        into, more = inside(got, np.random.default_rng(seed).normal(size=(1 + seed, 5, 4, channels)))
        if more.any():
            if not got["conv2"]["kernel"].any():
                raise Wrong("The kernel of conv2 is zero, but its bias still adds something to x.")
            if not got["conv2"]["bias"].any():
                raise Wrong("The bias of conv2 is zero, but its kernel still adds something to x.")
            raise Wrong(
                f"The block still adds up to {np.abs(more).max():.2g} to x. What it adds is the output of conv2: that "
                "must be exactly zero, for every x."
            )
        if not into.any():  # a factor of the gradient of conv2's kernel
            raise Wrong(
                "The block is silent, but it cannot learn: the input of conv2 is zero as well, so the gradient of "
                "its kernel is zero and stays zero. Keep everything before conv2 as it was initialised."
            )
        for part in ("norm1", "conv1", "norm2"):
            if not all(close(got[part][name], array) for name, array in block[part].items()):
                raise Wrong(f"“{part}” has changed. The block is silent without that: keep it as it was initialised.")


SIDES = (  # (layers, patch, side in pixels), by hand
    ([3] * 6, 4, 52),
    ([3, 3, "double", 3, 3], 2, 28),
    ([3] * 10, 4, 84),
    ([3], 4, 12),
    ([], 8, 8),
    ([1, 1], 8, 8),
    ([5, 3], 1, 7),
    ([3, 1, "double", 3, 1, "double", 3], 1, 18),
    (["double", 7], 3, 24),
)


@exercise(points=3)
def pixels_reached(answer: Callable) -> None:
    """layers list of odd ints and "double", patch int -> int: the side in pixels of what one token can change."""
    drawn = []
    for seed in range(3):  # random decoders: pass a line with a single token through every layer
        rng = np.random.default_rng(seed)
        layers: list[Any] = [int(k) for k in rng.choice([1, 3, 5], size=5)]
        for position in rng.integers(0, 6, size=seed).tolist():
            layers.insert(position, "double")
        line = np.eye(101)[50]
        for layer in layers:
            line = line.repeat(2) if layer == "double" else np.convolve(line, np.ones(layer), "same")
        drawn.append((layers, seed + 1, int((line.repeat(seed + 1) > 0).sum())))
    cases: list[tuple[list[Any], int, int]] = [*SIDES, *drawn]
    for layers, patch, expected in cases:
        got = numbers(call(answer, layers, patch), (), "int")
        kernels, doubles = [k for k in layers if k != "double"], layers.count("double")
        more = sum(k - 1 for k in kernels)
        about = f"the layers {layers} and patch {patch}"
        unless(
            got,
            {
                f"For {about} you count positions, not pixels: {expected // patch}. Every position becomes {patch} "
                f"x {patch} pixels at the end.": expected // patch,
                f"For {about} you count k more positions per convolution. A k x k kernel reads its own position and "
                "(k - 1) / 2 on either side.": (1 + sum(kernels)) * 2**doubles * patch,
                f"For {about} you count how far it reaches on one side. The square has the token in its middle and "
                "reaches to both sides.": more // 2 * 2**doubles * patch,
                f"For {about} you count one side only. The square reaches to the left and to the right of the token.": (
                    1 + more // 2
                )
                * 2**doubles
                * patch,
                f"For {about} the token itself is missing: its own position changes as well, so begin with a side "
                "of one.": more * 2**doubles * patch,
                f"For {about} your count ignores the position of “double”. A convolution before it is doubled as "
                "well, one after it is not.": (1 + more) * 2**doubles * patch,
                f"For {about} “double” has no effect in your answer. It turns every position into 2 x 2 positions, "
                "so the side is doubled.": (1 + more) * patch,
            },
            right=expected,
        )
        same(got, expected, about)


def some_weights(seed: int) -> dict:
    """Weights of a toy tokenizer as a nested dict of float32 arrays, with seed + 2 layers in the decoder."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    layers = {i: {"kernel": draw(3, 3, 2, 2), "bias": draw(2)} for i in range(seed + 2)}
    return {
        "encoder": {"stages": {"layers": {0: {"kernel": draw(4, 3), "bias": draw(3)}}}},
        "codebook": draw(6, 2),
        "decoder": {"stages": {"layers": layers}, "norm": {"scale": draw(5)}},
    }


CHANGES = {  # path of an array: how it is changed
    "codebook": lambda a: a + 1,
    "decoder/stages/layers/0/bias": lambda a: a + np.array([1, 0], np.float32),
    "decoder/stages/layers/0/kernel": lambda a: a[::-1].copy(),
    "encoder/stages/layers/0/kernel": lambda a: np.nextafter(a, np.float32(9)),
    "decoder/norm/scale": lambda a: -a,
    "decoder/stages/layers/1/kernel": lambda a: np.concatenate([a, a], -1),
    "encoder/stages/layers/0/bias": lambda a: a * np.float32(0.999),
}
MISSED = {
    "codebook": "It is an array at the top level: not every name has a dict under it.",
    "decoder/stages/layers/0/kernel": "It has the same values in a different order. Compare value by value, not sums.",
    "encoder/stages/layers/0/kernel": "It has changed only in its last bits. Compare without a tolerance.",
    "decoder/norm/scale": "Its values have changed sign. Compare the values themselves.",
    "decoder/stages/layers/1/kernel": "Its shape has changed, as after growing. That is a change as well.",
    "decoder/stages/layers/0/bias": "Only one of its two values has changed: a single one is enough.",
    "encoder/stages/layers/0/bias": "It is smaller by one thousandth, as after weight decay. Compare exactly.",
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


@exercise(points=3)
def changed_parts(answer: Callable) -> None:
    """before, after nested dicts of arrays -> list of str: the paths of the arrays that differ."""
    pairs = [(), *((path,) for path in CHANGES), ("codebook", "decoder/norm/scale"), tuple(CHANGES)]
    for number, paths in enumerate(pairs):
        before = some_weights(number % 2)
        got = call(answer, before, changed_at(before, paths))
        if not isinstance(got, (list, tuple, set)) or not all(isinstance(path, str) for path in got):
            raise Wrong(
                f"It returned {describe(got)}; return a list of paths, such as ['codebook', 'decoder/norm/scale']."
            )
        extra, missed = sorted(set(got) - set(paths)), [path for path in paths if path not in got]
        parts = {
            piece for path in paths for piece in ("/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1))
        }
        parts |= {piece for path in paths for piece in path.split("/")}
        if extra and not paths:
            raise Wrong(
                f"Nothing has changed, but it names {', '.join(extra[:3])}. Copies of an array are different objects "
                "with the same values: compare their contents."
            )
        if extra and parts.issuperset(extra):
            raise Wrong(
                f"It names {extra[0]}, which is only a piece of a path. Give the whole path of the array, with / "
                f"between the names: {missed[0] if missed else paths[0]}."
            )
        if missed:
            raise Wrong(f"{missed[0]} has changed, but it is not named. {MISSED[missed[0]]}")
        if extra:
            raise Wrong(
                f"It names {extra[0]}, which is not the path of an array that has changed; those are "
                f"{', '.join(paths)}."
            )
        if len(got) != len(paths):
            raise Wrong("It names the same path more than once.")


@exercise(points=2)
def whose_stay_valid(answer: Callable) -> None:
    """No arguments -> the letter "a", "b", "c" or "d"."""
    chosen(
        answer,
        right="c",
        wrong={
            "a": (
                "3% of the tokens differ, so 3% of the words now have a different meaning. The transformers still "
                "use the old one: they sample a token, and the new decoder turns it into something else."
            ),
            "b": (
                "Images come back as before, because encoder and decoder use the same shuffled table. But a "
                "transformer samples a number, and this number now means a different code."
            ),
            "d": (
                "The encoder has not changed, but a token is the number of the nearest code. When codes move, "
                "encodings near a border get a different number."
            ),
        },
    )
