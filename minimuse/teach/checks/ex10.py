"""Exercises 10: decoder fine-tuning."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, close, compare, compiles, describe, exercise, numbers
from minimuse.teach.checks.decoders import CHANGES, MISSED, changed_at, fresh_block, inside, some_weights


def _widened(kernel: Any, delta: Any) -> np.ndarray:
    """Entry by entry."""
    k, _, n, m = np.shape(kernel)
    wide = np.zeros((k, k, 2 * n, 2 * m))
    for i in range(n):
        for j in range(2 * m):
            wide[:, :, i, j] = kernel[:, :, i, j % m] / 2 + delta[:, :, i, j]
            wide[:, :, n + i, j] = kernel[:, :, i, j % m] / 2 - delta[:, :, i, j]
    return wide


def _interleaved(array: np.ndarray, axis: int) -> np.ndarray:
    """[1, 2, 1', 2'] as [1, 1', 2, 2'] along an axis."""
    n = array.shape[axis] // 2
    return array.take(np.arange(2 * n).reshape(2, n).T.reshape(-1), axis)


def _from_shares(first: Callable, second: Callable) -> Callable:
    """A mistake: both shares as functions of the kernel with its outputs doubled, and of delta."""

    def widened(kernel: Any, delta: Any) -> np.ndarray:
        twice, delta = np.concatenate([kernel, kernel], 3), np.asarray(delta)
        return np.concatenate([first(twice, delta), second(twice, delta)], 2)

    return widened


WIDEN_MISTAKES = {
    "The two shares add up to twice the weight, so the layer gives 2 y. Halve the weight first.": (
        _from_shares(lambda w, delta: w + delta, lambda w, delta: w - delta)
    ),
    "`delta` is added to both copies, so they do not add up to the weight. Subtract it from the second copy.": (
        _from_shares(lambda w, delta: w / 2 + delta, lambda w, delta: w / 2 + delta)
    ),
    "`delta` is added to the first copy, but not subtracted from the second, so they do not add up to the weight.": (
        _from_shares(lambda w, delta: w / 2 + delta, lambda w, delta: w / 2)
    ),
    "Both copies of every input have equal weights. They would get equal gradients and stay equal forever: add `delta` "
    "to the first copy's share and subtract it from the second's.": (
        _from_shares(lambda w, delta: w / 2, lambda w, delta: w / 2)
    ),
    "The two copies differ by `delta`. The first should be half of the weight plus `delta`, the second half of it "
    "minus `delta`: the difference is 2 times `delta`.": (
        _from_shares(lambda w, delta: (w + delta) / 2, lambda w, delta: (w - delta) / 2)
    ),
    "The copies are swapped: the first one should be half of the weight plus `delta`.": (
        _from_shares(lambda w, delta: w / 2 - delta, lambda w, delta: w / 2 + delta)
    ),
    "The first copy has all of the weight, and the second only minus `delta`. Each gets half.": (
        _from_shares(lambda w, delta: w + delta, lambda w, delta: -delta)
    ),
    "The copies of an input are side by side. The layer gets [x, x]: first all inputs, then all of them again.": (
        lambda kernel, delta: _interleaved(_widened(kernel, delta), 2)
    ),
    "The outputs are y1, y1, y2, y2. They should be [y, y]: all outputs, then all again.": _from_shares(
        lambda w, delta: _interleaved(w, 3) / 2 + delta, lambda w, delta: _interleaved(w, 3) / 2 - delta
    ),
    "Inputs and outputs are repeated side by side: x1, x1, x2, x2. They should be [x, x] and [y, y].": (
        lambda kernel, delta: _interleaved(
            WIDEN_MISTAKES["The outputs are y1, y1, y2, y2. They should be [y, y]: all outputs, then all again."](
                kernel, delta
            ),
            2,
        )
    ),
}


@exercise(points=3)
def widened_weights(answer: Callable) -> None:
    """kernel float [k, k, n, m], delta float [k, k, n, 2 m] -> float [k, k, 2 n, 2 m]: [x, x] times it is [y, y]."""
    cases = []
    for seed, (k, n, m) in enumerate([(1, 2, 3), (3, 2, 1), (3, 3, 3)]):
        rng = np.random.default_rng(seed)
        shapes = (k, k, n, m), (k, k, n, 2 * m)
        cases.append(tuple(jnp.asarray(rng.normal(size=shape).round(2), jnp.float32) for shape in shapes))
    got = np.shape(call(answer, *cases[0]))  # for k = 1, n = 2 and m = 3
    shapes = {
        (
            1,
            1,
            2,
            6,
        ): "The outputs are doubled, the inputs are not. Every input must come twice as well, with its share.",
        (1, 1, 4, 3): "The inputs are doubled, the outputs are not. Every output must come twice as well.",
        (2, 1, 2, 6): "The kernel has grown higher. Inputs are on axis 2, outputs on axis 3; the kernel stays k x k.",
        (1, 2, 2, 6): "The kernel has grown wider. Inputs are on axis 2, outputs on axis 3; the kernel stays k x k.",
    }
    if got in shapes:
        raise Wrong(shapes[got])
    compare(answer, cases, _widened, WIDEN_MISTAKES)
    compiles(answer, *cases[1])


def _like(value: Any, block: dict) -> dict[str, dict[str, np.ndarray]]:
    """The returned weights; Wrong unless they have the names and shapes of a block."""
    if not isinstance(value, dict) or set(value) != set(block):
        there = f"a dict with {', '.join(map(str, value))}" if isinstance(value, dict) else describe(value)
        raise Wrong(f"It returned {there}; return a dict with {', '.join(block)}, like the given one.")
    for part, arrays in block.items():
        if not isinstance(value[part], dict) or set(value[part]) != set(arrays):
            raise Wrong(
                f"“{part}” should be a dict with {' and '.join(arrays)}; it is {describe(value[part])}, a "
                f"{type(value[part]).__name__}."
            )
    return {
        part: {name: numbers(value[part][name], array.shape) for name, array in arrays.items()}
        for part, arrays in block.items()
    }


@exercise(points=2)
def silent_block(answer: Callable) -> None:
    """block nested dict of weights -> the same names and shapes; it adds nothing, and conv2's kernel can learn."""
    for channels, seed in ((2, 0), (3, 1), (1, 2)):
        block = fresh_block(channels, seed)
        got = _like(call(answer, block), block)
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


SIDES = {  # (layers, patch): side in pixels, by hand
    ((), 8): 8,
    ((3,), 4): 12,
    ((1, 1), 8): 8,
    (("double",), 3): 6,
    ((5, 3), 1): 7,
    (("double", 7), 3): 24,
    ((3, "double"), 2): 12,
    ((3,) * 6, 4): 52,
    ((3, 3, "double", 3, 3), 2): 28,
    ((3,) * 10, 4): 84,
    ((3, 1, "double", 3, 1, "double", 3), 1): 18,
}


def _lit(layers: list, patch: int) -> int:
    """Pass a line with a single token through every layer, and count the pixels that it reaches."""
    line = np.eye(401)[200]
    for layer in layers:
        line = line.repeat(2) if layer == "double" else np.convolve(line, np.ones(layer), "same")
    return int((line.repeat(patch) > 0).sum())


def _kernels(layers: list) -> list[int]:
    return [k for k in layers if k != "double"]


def _counted(start: int = 1, add: Callable = lambda k: k - 1, double: Callable = lambda side: 2 * side) -> Callable:
    """A mistake: another start, another number per convolution, or another effect of "double"."""

    def counted(layers: list, patch: int) -> int:
        side = start
        for layer in layers:
            side = double(side) if layer == "double" else side + add(layer)
        return side * patch

    return counted


REACH_MISTAKES = {
    "You count positions, not pixels. Every position becomes patch x patch pixels at the end.": (
        lambda layers, patch: _lit(layers, 1)
    ),
    "You count k more positions per convolution. A k x k kernel reads its own position and (k - 1) / 2 on either "
    "side.": (_counted(add=lambda k: k)),
    "You count how far it reaches on one side. The square has the token in its middle and reaches to both sides.": (
        _counted(start=0, add=lambda k: k // 2)
    ),
    "You count one side only. The square reaches to the left and to the right of the token.": (
        _counted(add=lambda k: k // 2)
    ),
    "The token itself is missing: its own position changes as well, so begin with a side of one.": _counted(start=0),
    "Your count ignores the position of “double”. A convolution before it is doubled as well, one after it is not.": (
        lambda layers, patch: (1 + sum(k - 1 for k in _kernels(layers))) * 2 ** layers.count("double") * patch
    ),
    "The layers are counted from the last one to the first. The list begins with the first layer.": (
        lambda layers, patch: _lit(layers[::-1], patch)
    ),
    "“double” has no effect in your answer. It turns every position into 2 x 2 positions, so the side is doubled.": (
        _counted(double=lambda side: side)
    ),
    "“double” multiplies your side by 4. There are four times as many positions, but the side is doubled.": (
        _counted(double=lambda side: 4 * side)
    ),
    "“double” adds 2 in your answer. It multiplies the side by 2.": _counted(double=lambda side: side + 2),
    "You begin with the pixels of one token. The convolutions come before the patches: begin with one position, and "
    "multiply at the end.": lambda layers, patch: _counted(start=patch)(layers, 1),
    "That is the number of pixels. Return the side of the square.": lambda layers, patch: _lit(layers, patch) ** 2,
}


@exercise(points=2)
def pixels_reached(answer: Callable) -> None:
    """layers list of odd ints and "double", patch int -> int: the side in pixels of what one token can change."""
    cases: list[tuple[list[Any], int]] = [([*layers], patch) for layers, patch in SIDES]
    for seed in range(3):  # random decoders
        rng = np.random.default_rng(seed)
        layers: list[Any] = [int(k) for k in rng.choice([1, 3, 5], size=5)]
        for position in rng.integers(0, 6, size=seed).tolist():
            layers.insert(position, "double")
        cases.append((layers, seed + 2))
    compare(answer, cases, _lit, REACH_MISTAKES, kind="int")


def _pieces(paths: Iterable[str]) -> set[str]:
    """Single names of paths, and the beginnings of paths."""
    names = {name for path in paths for name in path.split("/")}
    return names | {"/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 1)}


def _paths(value: Any) -> list[str]:
    """The returned paths; Wrong for anything but a list of str."""
    if not isinstance(value, (list, tuple, set)) or not all(isinstance(path, str) for path in value):
        raise Wrong(
            f"It returned {describe(value)}; return a list of paths, such as ['codebook', 'decoder/norm/scale']."
        )
    return [str.__str__(path) for path in value]


@exercise(points=3)
def changed_parts(answer: Callable) -> None:
    """before, after nested dicts of arrays -> list of str: the paths of the arrays that differ."""
    pairs = [(), *((path,) for path in CHANGES), ("codebook", "decoder/norm/scale"), tuple(CHANGES)]
    for number, paths in enumerate(pairs):
        before = some_weights(number % 2)
        got = _paths(call(answer, before, changed_at(before, paths)))
        extra, missed = sorted(set(got) - set(paths)), [path for path in paths if path not in got]
        if extra and not paths:
            raise Wrong(
                f"Nothing has changed, but it names {', '.join(extra[:3])}. Copies of an array are different objects "
                "with the same values: compare their contents."
            )
        joined = {"/".join(re.findall(r"\w+", path)) for path in extra}
        if extra and joined <= set(paths):
            raise Wrong(
                f"It names {extra[0]}. The names are right, but put a / between them and nothing else, such as "
                f"{min(joined)}."
            )
        if extra and _pieces(paths).issuperset(extra):
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


def _fit(weights: dict, batch: jax.Array) -> jax.Array:
    """A toy loss: the decoder's mean squared error from the codes of a batch [B, 2]."""
    decoder, codes = (
        weights["decoder"],
        jnp.tanh(batch @ weights["encoder"]["kernel"]) + weights["codebook"]["codes"][0],
    )
    drawn = codes @ decoder["out"]["kernel"] + decoder["out"]["bias"]
    return jnp.mean((drawn - batch) ** 2) + 0.1 * jnp.sum(weights["codebook"]["codes"] ** 2)


def _fit_slopes(weights: dict, batch: Any) -> dict:
    """The gradient of _fit with respect to the decoder, by hand."""
    w, batch = jax.tree.map(lambda x: np.asarray(x, float), weights), np.asarray(batch, float)
    codes = np.tanh(batch @ w["encoder"]["kernel"]) + w["codebook"]["codes"][0]
    error = codes @ w["decoder"]["out"]["kernel"] + w["decoder"]["out"]["bias"] - batch
    return dict(out=dict(bias=2 * error.sum(0) / error.size, kernel=2 * codes.T @ error / error.size))


def _fourth(weights: dict, batch: jax.Array) -> jax.Array:
    """Another loss, with a decoder of another form."""
    return jnp.sum(batch) * jnp.sum(weights["decoder"][0] ** 4) * jnp.mean(weights["encoder"]["kernel"])


def _fourth_slopes(weights: dict, batch: Any) -> dict:
    factor = float(np.sum(batch)) * float(np.mean(weights["encoder"]["kernel"]))
    return {0: 4 * factor * np.asarray(weights["decoder"][0], float) ** 3}


def _flat(decoder: dict) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(decoder)])


def _moved(step: Callable) -> Callable:
    """The decoder, as one array, if each array w with gradient g becomes step(w, g, rate)."""

    def moved(loss: Callable, weights: dict, batch: Any, rate: float) -> np.ndarray:
        slopes = (_fit_slopes if loss is _fit else _fourth_slopes)(weights, batch)
        return step(_flat(weights["decoder"]), _flat(slopes), rate)

    return moved


STEP_MISTAKES = {
    "The decoder has moved uphill. Subtract the gradient.": _moved(lambda w, g, rate: w + rate * g),
    "The decoder moves by the whole gradient. Multiply it by the rate.": _moved(lambda w, g, rate: w - g),
    "The decoder has not moved.": _moved(lambda w, g, rate: w),
    "Those are the gradients. Return the weights after the step.": _moved(lambda w, g, rate: g),
    "That is only the change. Return the weights after the step.": _moved(lambda w, g, rate: -rate * g),
    "The decoder moves by the sign of the gradient.": _moved(lambda w, g, rate: w - rate * np.sign(g)),
}


def _some_step(seed: int) -> tuple[Callable, dict, jax.Array, float]:
    """Arguments of decoder_step."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    decoder = {0: draw(2)} if seed == 2 else dict(out=dict(kernel=draw(3, 2), bias=draw(2)))
    codebook = dict(codes=draw(4, 3), uses=jnp.asarray(rng.integers(0, 9, 4)))
    weights = dict(encoder=dict(kernel=draw(2, 3)), codebook=codebook, decoder=decoder)
    return (_fourth if seed == 2 else _fit), weights, draw(5, 2), (0.1, 0.5, 0.2)[seed]


@exercise(points=3)
def decoder_step(answer: Callable) -> None:
    """loss(weights, batch), weights nested dict, batch, rate -> weights after a step of the decoder only."""
    cases = [_some_step(seed) for seed in range(3)]
    for loss, weights, batch, rate in cases:
        got = call(answer, loss, weights, batch, rate)
        if not isinstance(got, dict) or set(got) != set(weights):
            there = f"a dict with {', '.join(map(str, got))}" if isinstance(got, dict) else describe(got)
            raise Wrong(f"It returned {there}; return a dict with {', '.join(weights)}, like `weights`.")
        for part in ("encoder", "codebook", "decoder"):
            if jax.tree.structure(got[part]) != jax.tree.structure(weights[part]):
                raise Wrong(f"“{part}” does not have the same names as before.")
            for name, old, new in zip(weights[part], jax.tree.leaves(weights[part]), jax.tree.leaves(got[part])):
                if part != "decoder" and not np.array_equal(np.asarray(old), np.asarray(new)):
                    raise Wrong(
                        f"“{part}/{name}” has changed. Encoder and codebook are frozen: every token must keep its "
                        "meaning. Take the gradient with respect to the decoder only."
                    )
    compare(
        answer, cases, _moved(lambda w, g, rate: w - rate * g), STEP_MISTAKES, read=lambda got: _flat(got["decoder"])
    )
    loss, weights, batch, _ = cases[0]
    compiles(answer, loss, weights, batch, jnp.float32(0.1))
