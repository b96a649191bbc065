"""Wrong answers to exercises 10."""

import numpy as np


def shares(first, second, outputs=lambda w: np.concatenate([w, w], 1), half=2):
    """A wrong way to widen: the two shares, made from the weights with doubled outputs and `delta`."""
    return lambda weight, delta: np.concatenate(
        [first(outputs(weight) / half, delta), second(outputs(weight) / half, delta)]
    )


def more(w, delta):
    return w + delta


def less(w, delta):
    return w - delta


def side_by_side(weight, delta):
    twice = np.concatenate([weight, weight], 1) / 2
    return np.stack([twice + delta, twice - delta], 1).reshape(2 * len(weight), -1)


def zeros(*ways):
    """A block in which these arrays are zero, such as conv2/kernel."""

    def answer(block):
        return {
            part: {name: 0 * array if f"{part}/{name}" in ways else array for name, array in arrays.items()}
            for part, arrays in block.items()
        }

    return answer


def counted(start=1, a_layer=lambda k: k - 1, double=2, patch=True):
    def answer(layers, size):
        side = start
        for layer in layers:
            side = double * side if layer == "double" else side + a_layer(layer)
        return side * (size if patch else 1)

    return answer


def doubled_at_the_end(layers, patch):
    return (1 + sum(k - 1 for k in layers if k != "double")) * 2 ** layers.count("double") * patch


def to_one_side(layers, patch):
    return sum(k // 2 for k in layers if k != "double") * 2 ** layers.count("double") * patch


def differing(differs, whole=True):
    """Paths of the arrays that differ, with all names or with only the last ones."""

    def answer(before, after):
        found = []
        for name in before:
            if isinstance(before[name], dict):
                ways = answer(before[name], after[name])
                found += [f"{name}/{way}" for way in ways] if whole else ways
            elif differs(before[name], after[name]):
                found.append(str(name))
        return found

    return answer


def unequal(a, b):
    return not np.array_equal(a, b)


def one_level(before, after):
    return [name for name in before if isinstance(before[name], dict) and differing(unequal)(before[name], after[name])]


WRONG = {
    "widened_weights": {
        "not halved": (shares(more, less, half=1), "gives 2 y"),
        "delta added to both": (shares(more, more), "is added to both copies"),
        "equal shares": (shares(lambda w, a: w, lambda w, a: w), "stay equal"),
        "copies of inputs side by side": (side_by_side, "side by side"),
        "outputs side by side": (shares(more, less, lambda w: w.repeat(2, 1)), "y1, y1, y2, y2"),
        "inputs not doubled": (lambda w, delta: np.concatenate([w, w], 1) + delta, "the inputs are not"),
        "outputs not doubled": (lambda w, delta: np.concatenate([w / 2, w / 2]), "the outputs are not"),
        "half as far apart": (shares(lambda w, a: w + a / 2, lambda w, a: w - a / 2), "2 times"),
        "the wrong way round": (shares(less, more), "swapped"),
    },
    "silent_block": {
        "only the kernel": (zeros("conv2/kernel"), "its bias still adds"),
        "only the bias": (zeros("conv2/bias"), "its kernel still adds"),
        "both convolutions": (
            zeros("conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias"),
            "it cannot learn",
        ),
        "the second norm, too": (zeros("norm2/scale", "conv2/kernel", "conv2/bias"), "it cannot learn"),
        "the first convolution": (zeros("conv1/kernel", "conv1/bias"), "output of conv2"),
        "as it was": (lambda block: block, "output of conv2"),
        "a norm that need not change": (zeros("norm1/scale", "conv2/kernel", "conv2/bias"), "“norm1” has changed"),
        "only conv2": (lambda block: zeros("conv2/kernel", "conv2/bias")(block)["conv2"], "like the given"),
    },
    "pixels_reached": {
        "positions for pixels": (counted(patch=False), "not pixels"),
        "k a convolution": (counted(a_layer=lambda k: k), "k more"),
        "to one side": (to_one_side, "on one side"),
        "one side and the token": (counted(a_layer=lambda k: k // 2), "one side only"),
        "without the token": (counted(start=0), "token itself is missing"),
        "doubled at the end": (doubled_at_the_end, "position of “double”"),
        "never doubled": (counted(double=1), "no effect"),
    },
    "changed_parts": {
        "with a tolerance": (differing(lambda a, b: a.shape != b.shape or not np.allclose(a, b)), "last bits"),
        "compares sums": (
            differing(lambda a, b: not np.isclose(a.sum(dtype=float), b.sum(dtype=float))),
            "different order",
        ),
        "compares absolute values": (differing(lambda a, b: unequal(abs(a), abs(b))), "sign"),
        "only where all values differ": (
            differing(lambda a, b: a.shape != b.shape or (a != b).all()),
            "a single one is enough",
        ),
        "only equal shapes": (differing(lambda a, b: a.shape == b.shape and (a != b).any()), "shape"),
        "other objects": (differing(lambda a, b: a is not b), "contents"),
        "the last names": (differing(unequal, whole=False), "piece"),
        "the first names": (one_level, "top level"),
        "yes or no": (lambda before, after: bool(differing(unequal)(before, after)), "a list of paths"),
    },
    "whose_stay_valid": {
        "a few other tokens": (lambda: "a", "3%"),
        "a shuffled codebook": (lambda: "b", "shuffled table"),
        "codes that moved": (lambda: "D", "codes move"),
        "another letter": (lambda: "e", "one of the letters"),
    },
}
