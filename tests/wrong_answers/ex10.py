"""Wrong answers to exercises 10: WRONG with words of their messages, REFUSED, and UNUSUAL ones that are right."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import Equal

# --- widened_weights --------------------------------------------------------------------------------------------------


def shares(first, second, outputs=lambda w: jnp.concatenate([w, w], 3), half=2):
    """A way to widen: the two shares, made from the weights with doubled outputs and `delta`."""
    return lambda kernel, delta: jnp.concatenate(
        [first(outputs(kernel) / half, delta), second(outputs(kernel) / half, delta)], 2
    )


def more(w, delta):
    return w + delta


def less(w, delta):
    return w - delta


right_wide = shares(more, less)


def outputs_side_by_side(w):
    return w.repeat(2, 3)


def side_by_side(outputs=lambda w: jnp.concatenate([w, w], 3)):
    def answer(kernel, delta):
        twice = outputs(kernel) / 2
        k, _, n, m = twice.shape
        return jnp.stack([twice + delta, twice - delta], 3).reshape(k, k, 2 * n, m)

    return answer


def filled(kernel, delta):
    """Four blocks, one after the other."""
    k, _, n, m = kernel.shape
    wide = jnp.zeros((k, k, 2 * n, 2 * m), kernel.dtype)
    for row, sign in ((0, 1), (1, -1)):
        for column in (0, 1):
            block = kernel / 2 + sign * delta[..., column * m : (column + 1) * m]
            wide = wide.at[:, :, row * n : (row + 1) * n, column * m : (column + 1) * m].set(block)
    return wide


# --- silent_block -----------------------------------------------------------------------------------------------------


def zeros(*ways):
    """A block in which these arrays are zero, such as conv2/kernel."""

    def answer(block):
        return {
            part: {name: 0 * array if f"{part}/{name}" in ways else array for name, array in arrays.items()}
            for part, arrays in block.items()
        }

    return answer


def changed(part, name, f, base="conv2/kernel conv2/bias"):
    """A silent block in which one more array is changed."""

    def answer(block):
        silent = zeros(*base.split())(block)
        return silent | {part: silent[part] | {name: f(silent[part][name])}}

    return answer


def in_place(block):
    for array in block["conv2"].values():
        array[:] = 0
    return block


# --- pixels_reached ---------------------------------------------------------------------------------------------------


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


def borders(layers, patch):
    """From the left border to the right one, in exact positions."""
    left, right = 0, 1
    for layer in layers:
        left, right = (2 * left, 2 * right) if layer == "double" else (left - layer // 2, right + layer // 2)
    return np.int64((right - left) * patch)


def backwards(layers, patch):
    """What a convolution adds is doubled by every "double" after it."""
    side, times = 0, patch
    for layer in reversed(layers):
        if layer == "double":
            times *= 2
        else:
            side += (layer - 1) * times
    return side + times


def popped(layers, patch):
    side = 1
    while layers:
        layer = layers.pop(0)
        side = 2 * side if layer == "double" else side + layer - 1
    return side * patch


# --- changed_parts ----------------------------------------------------------------------------------------------------


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


def by_paths(before, after, name=lambda path: "/".join(str(step.key) for step in path), differs=unequal):
    """By the pytree functions of JAX."""
    leaves, others = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (before, after))
    return [name(path) for (path, a), (_, b) in zip(leaves, others) if differs(a, b)]


def by_list(before, after):
    """With a list of what is left to compare."""
    found, todo = set(), [("", before, after)]
    while todo:
        path, a, b = todo.pop()
        if isinstance(a, dict):
            todo += [(f"{path}/{name}", a[name], b[name]) for name in a]
        elif a.shape != b.shape or (a != b).any():
            found.add(path[1:])
    return found


# --- decoder_step -----------------------------------------------------------------------------------------------------


def stepping(move=lambda w, g, rate: w - rate * g, out=lambda weights, decoder: weights | {"decoder": decoder}):
    def answer(loss, weights, batch, rate):
        slopes = jax.grad(lambda decoder: loss(weights | {"decoder": decoder}, batch))(weights["decoder"])
        return out(weights, jax.tree.map(lambda w, g: move(w, g, rate), weights["decoder"], slopes))

    return answer


def all_parts(loss, weights, batch, rate, allow=False):
    slopes = jax.grad(loss, allow_int=allow)(weights, batch)
    is_float = lambda w: jnp.issubdtype(w.dtype, jnp.floating)
    return jax.tree.map(lambda w, g: w - rate * g if is_float(w) else w, weights, slopes)


def frozen_decays(loss, weights, batch, rate):
    new = stepping()(loss, weights, batch, rate)
    return new | {"codebook": new["codebook"] | {"codes": new["codebook"]["codes"] * (1 - 1e-6)}}


def one_array(loss, weights, batch, rate):
    """Moves only the first array."""
    leaves, tree = jax.tree.flatten(stepping()(loss, weights, batch, rate)["decoder"])
    old = jax.tree.leaves(weights["decoder"])
    return weights | {"decoder": jax.tree.unflatten(tree, [leaves[0], *old[1:]])}


def changes_weights(loss, weights, batch, rate):
    weights["decoder"] = stepping()(loss, weights, batch, rate)["decoder"]
    return weights


def two_steps(loss, weights, batch, rate):
    return stepping()(loss, stepping()(loss, weights, batch, rate), batch, rate)


def by_row(loss, weights, batch, rate):
    """A step per row of the batch."""
    for row in batch:
        weights = stepping()(loss, weights, row[None], rate / len(batch))
    return weights


def stopped(loss, weights, batch, rate):
    """All floats are differentiated, and the frozen ones stopped."""
    floats, tree = jax.tree.flatten(weights)
    which = [i for i, w in enumerate(floats) if jnp.issubdtype(w.dtype, jnp.floating)]

    def of(arrays):
        full = [*floats]
        for i, array in zip(which, arrays):
            full[i] = array
        now = jax.tree.unflatten(tree, full)
        return loss(jax.lax.stop_gradient(now) | {"decoder": now["decoder"]}, batch)

    moved = [*floats]
    for i, g in zip(which, jax.grad(of)([floats[i] for i in which])):
        moved[i] = floats[i] - rate * g
    return jax.tree.unflatten(tree, moved)


def split_up(loss, weights, batch, rate):
    decoder = weights["decoder"]
    frozen = {name: part for name, part in weights.items() if name != "decoder"}
    value, pull = jax.vjp(lambda decoder: loss(dict(frozen, decoder=decoder), batch), decoder)
    (slopes,) = pull(jnp.ones_like(value))
    return dict(frozen, decoder=jax.tree.map(lambda w, g: w - rate * g, decoder, slopes))


WRONG = {
    "widened_weights": {
        "not halved": (shares(more, less, half=1), "gives 2 y"),
        "delta added to both": (shares(more, more), "is added to both copies"),
        "delta added to one": (shares(more, lambda w, a: w), "not subtracted"),
        "equal shares": (shares(lambda w, a: w, lambda w, a: w), "stay equal"),
        "all to the first copy": (shares(lambda w, a: 2 * w + a, lambda w, a: -a), "Each gets half"),
        "copies of inputs side by side": (side_by_side(), "side by side"),
        "outputs side by side": (shares(more, less, outputs_side_by_side), "y1, y1, y2, y2"),
        "both side by side": (side_by_side(outputs_side_by_side), "Inputs and outputs are repeated"),
        "inputs not doubled": (lambda w, delta: jnp.concatenate([w, w], 3) + delta, "the inputs are not"),
        "outputs not doubled": (lambda w, delta: jnp.concatenate([w / 2, w / 2], 2), "the outputs are not"),
        "the wrong axes": (lambda w, delta: jnp.concatenate([jnp.concatenate([w, w], 3) / 2 + delta] * 2), "higher"),
        "half as far apart": (shares(lambda w, a: w + a / 2, lambda w, a: w - a / 2), "2 times"),
        "the wrong way round": (shares(less, more), "swapped"),
        "numpy": (lambda w, delta: np.asarray(right_wide(np.asarray(w), np.asarray(delta))), "cannot compile"),
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
        "changes its argument": (in_place, "changes its argument"),
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
        "four times": (counted(double=4), "by 4"),
        "from the last layer": (lambda layers, patch: counted()(layers[::-1], patch), "last one to the first"),
        "patches first": (lambda layers, patch: counted(start=patch)(layers, 1), "before the patches"),
        "the area": (lambda layers, patch: counted()(layers, patch) ** 2, "number of pixels"),
        "changes its argument": (popped, "changes its argument"),
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
        "points between the names": (
            lambda before, after: [path.replace("/", ".") for path in differing(unequal)(before, after)],
            "put a /",
        ),
        "as JAX prints paths": (
            lambda before, after: by_paths(before, after, name=jax.tree_util.keystr),
            "put a /",
        ),
        "a / in front": (lambda before, after: ["/" + path for path in differing(unequal)(before, after)], "put a /"),
        "as float32": (
            lambda before, after: by_paths(before, after, differs=lambda a, b: unequal(np.float32(a), np.float32(b))),
            "not as float32",
        ),
        "yes or no": (lambda before, after: bool(differing(unequal)(before, after)), "a list of paths"),
    },
    "whose_stay_valid": {
        "a few other tokens": (lambda: "a", "3%"),
        "a shuffled codebook": (lambda: "b", "shuffled table"),
        "codes that moved": (lambda: "D", "codes move"),
        "another letter": (lambda: "e", "one of the letters"),
    },
    "decoder_step": {
        "uphill": (stepping(lambda w, g, rate: w + rate * g), "uphill"),
        "no rate": (stepping(lambda w, g, rate: w - g), "by the rate"),
        "the gradients": (stepping(lambda w, g, rate: g), "are the gradients"),
        "only the change": (stepping(lambda w, g, rate: -rate * g), "only the change"),
        "the sign": (stepping(lambda w, g, rate: w - rate * jnp.sign(g)), "the sign of"),
        "as it was": (lambda loss, weights, batch, rate: weights, "has not moved"),
        "of all weights": (all_parts, "grad requires"),
        "all parts moved": (lambda *given: all_parts(*given, allow=True), "are frozen"),
        "the frozen part decays": (frozen_decays, "are frozen"),
        "only the decoder": (stepping(out=lambda weights, decoder: decoder), "a dict with encoder"),
        "changes its argument": (changes_weights, "changes its argument"),
        "numpy": (
            stepping(lambda w, g, rate: jnp.asarray(np.asarray(w) - float(rate) * np.asarray(g))),
            "cannot compile",
        ),
    },
}


REFUSED = {
    "widened_weights": {
        "outputs halved, too": shares(more, less, half=4),
        "multiplied": shares(lambda w, a: w * (1 + a), lambda w, a: w * (1 - a)),
        "delta in the outputs": lambda w, a: jnp.concatenate(
            [jnp.concatenate([w / 2 + a[..., : w.shape[3]], w / 2 - a[..., : w.shape[3]]], 3)] * 2, 2
        ),
        "the first half of delta": lambda w, a: right_wide(w, jnp.concatenate([a[..., : w.shape[3]]] * 2, 3)),
        "second outputs negative": shares(more, less, lambda w: jnp.concatenate([w, -w], 3)),
        "turned in space": lambda w, a: right_wide(w, a)[::-1, ::-1],
        "inputs and outputs swapped": lambda w, a: right_wide(w, a).swapaxes(2, 3),
        "kernel swapped": lambda w, a: right_wide(w, a).swapaxes(0, 1),
        "half of delta to the second": shares(more, lambda w, a: w - a / 2),
        "absolute": shares(lambda w, a: abs(w + a), lambda w, a: abs(w - a)),
        "blocks on the diagonal": lambda w, a: jnp.concatenate(
            [jnp.concatenate([w, 0 * w], 3), jnp.concatenate([0 * w, w], 3)], 2
        ),
        "the middle of the kernel only": lambda w, a: (
            right_wide(w, a) * (np.arange(len(w)) == len(w) // 2)[:, None, None, None]
        ),
        "flat": lambda w, a: right_wide(w, a).ravel(),
        "rounded": lambda w, a: right_wide(w, a).round(1),
    },
    "silent_block": {
        "everything zero": lambda block: {
            part: {name: 0 * array for name, array in arrays.items()} for part, arrays in block.items()
        },
        "a tiny kernel": lambda block: (
            block | {"conv2": {name: array * np.float32(1e-9) for name, array in block["conv2"].items()}}
        ),
        "the middle of the kernel left": changed("conv2", "kernel", lambda a: a + np.eye(3)[1][:, None, None, None]),
        "the second convolution turned": lambda block: block | {"conv2": {n: -a for n, a in block["conv2"].items()}},
        "norm2 and conv1 swapped": changed("conv1", "kernel", lambda a: 2 * a),
        "the first bias, too": zeros("conv1/bias", "conv2/kernel", "conv2/bias"),
        "norm1 doubled": changed("norm1", "scale", lambda a: 2 * a),
        "norm2 one": changed("norm2", "scale", np.ones_like),
        "conv2 away": lambda block: {part: arrays for part, arrays in block.items() if part != "conv2"},
        "no bias": lambda block: zeros("conv2/kernel")(block) | {"conv2": {"kernel": 0 * block["conv2"]["kernel"]}},
        "numbers for arrays": lambda block: block | {"conv2": {"kernel": 0, "bias": 0}},
        "None for arrays": lambda block: block | {"conv2": None},
        "flat kernels": changed("conv2", "kernel", np.ravel),
        "a list": lambda block: [*zeros("conv2/kernel", "conv2/bias")(block).values()],
        "not a number": changed("conv2", "bias", lambda a: a * np.nan),
    },
    "pixels_reached": {
        "k // 2 and one": counted(a_layer=lambda k: k // 2 + 1),
        "always 3": counted(a_layer=lambda k: 2),
        "k + 1": counted(a_layer=lambda k: k + 1),
        "half at double": lambda layers, patch: counted()([k for k in layers if k != "double"], patch) / 2,
        "the largest kernel": lambda layers, patch: max([k for k in layers if k != "double"], default=1) * patch,
        "the number of layers": lambda layers, patch: (1 + 2 * len(layers)) * patch,
        "patch twice": lambda layers, patch: counted()(layers, patch) * patch,
        "patch added": lambda layers, patch: counted()(layers, 1) + patch,
        "a float": lambda layers, patch: float(counted()(layers, patch)),
        "a pair": lambda layers, patch: (counted()(layers, patch),) * 2,
        "product of kernels": lambda layers, patch: int(np.prod([2 if k == "double" else k for k in layers])) * patch,
        "one double at most": lambda layers, patch: (
            counted()([k for k in layers if k != "double"], patch) * (2 if "double" in layers else 1)
        ),
        "the example only": lambda layers, patch: 52,
    },
    "changed_parts": {
        "twice": lambda before, after: differing(unequal)(before, after) * 2,
        "all arrays": differing(lambda a, b: True),
        "none": lambda before, after: [],
        "those that are the same": differing(lambda a, b: not unequal(a, b)),
        "only the decoder": lambda before, after: [
            path for path in differing(unequal)(before, after) if path.startswith("decoder")
        ],
        "two levels": lambda before, after: [
            "/".join(path.split("/")[:2]) for path in differing(unequal)(before, after)
        ],
        "tuples": lambda before, after: [tuple(path.split("/")) for path in differing(unequal)(before, after)],
        "one text": lambda before, after: ", ".join(differing(unequal)(before, after)),
        "by the mean": differing(lambda a, b: a.mean() != b.mean()),
        "by the norm": differing(lambda a, b: np.linalg.norm(a) != np.linalg.norm(b)),
        "by shapes": differing(lambda a, b: a.shape != b.shape),
        "by the first value": differing(lambda a, b: a.ravel()[0] != b.ravel()[0]),
        "by any in common": differing(lambda a, b: not np.isin(a, b).any()),
        "with six digits": differing(lambda a, b: unequal(a.round(6), b.round(6))),
        "the array itself": lambda before, after: [before["codebook"]],
    },
    "whose_stay_valid": {
        "a bracket": lambda: "c)",
        "a name": lambda: "Cleo",
        "two letters": lambda: "bc",
        "all letters": lambda: "abcd",
        "a list": lambda: ["c"],
        "bytes": lambda: b"c",
        "a number": lambda: 3,
        "nothing": lambda: None,
        "empty": lambda: "",
        "equal to everything": lambda: Equal("a"),
        "an array": lambda: np.array("c"),
    },
    "decoder_step": {
        "with decay": stepping(lambda w, g, rate: w - rate * (g + 1e-2 * w)),
        "twice the gradient": stepping(lambda w, g, rate: w - 2 * rate * g),
        "the rate squared": stepping(lambda w, g, rate: w - rate**2 * g),
        "of length 1": stepping(lambda w, g, rate: w - rate * g / jnp.linalg.norm(g)),
        "clipped": stepping(lambda w, g, rate: w - rate * jnp.clip(g, -0.01, 0.01)),
        "one array": one_array,
        "two steps": two_steps,
        "for each row": by_row,
        "only the gradients of the decoder": stepping(out=lambda weights, decoder: {"decoder": decoder}),
        "frozen parts as None": stepping(out=lambda weights, decoder: dict.fromkeys(weights) | {"decoder": decoder}),
        "a pair": stepping(out=lambda weights, decoder: (weights, decoder)),
        "frozen parts zero": stepping(
            out=lambda weights, decoder: jax.tree.map(lambda w: 0 * w, weights) | {"decoder": decoder}
        ),
        "of the fit always": stepping(out=lambda weights, decoder: weights | {"decoder": {"out": decoder}}),
        "the codebook forgotten": stepping(
            out=lambda weights, decoder: (
                weights | {"decoder": decoder, "codebook": {"codes": weights["codebook"]["codes"]}}
            )
        ),
    },
}
UNUSUAL = {
    "widened_weights": {
        "block by block": filled,
        "tiles": lambda w, a: jnp.tile(w / 2, (1, 1, 2, 2)) + jnp.concatenate([a, -a], -2),
        "einsum": lambda w, a: (
            jnp.einsum("xyim,cd->xycidm", w / 2, jnp.ones((2, 2))).reshape(*w.shape[:2], 2 * w.shape[2], 2 * w.shape[3])
            + jnp.concatenate([a, -a], 2)
        ),
    },
    "silent_block": {
        "zeros made of shapes": lambda block: dict(
            block, conv2={name: np.zeros(array.shape) for name, array in block["conv2"].items()}
        ),
        "jnp": lambda block: jax.tree.map(jnp.asarray, zeros("conv2/kernel", "conv2/bias")(block)),
        "negative zeros": changed("conv2", "kernel", lambda a: -0.0 * np.ones_like(a)),
    },
    "pixels_reached": {
        "from border to border": borders,
        "from the last layer, with the doubles after it": backwards,
    },
    "changed_parts": {
        "pytrees": by_paths,
        "a set, without recursion": by_list,
        "by bytes": differing(lambda a, b: a.shape != b.shape or a.tobytes() != b.tobytes()),
    },
    "whose_stay_valid": {
        "a capital": lambda: "C",
        "spaces": lambda: " c ",
        "numpy": lambda: np.str_("c"),
    },
    "decoder_step": {
        "stopped gradients": stopped,
        "a pullback": split_up,
        "value and gradient": lambda loss, weights, batch, rate: (
            weights
            | {
                "decoder": jax.tree.map(
                    lambda w, g: w + -rate * g,
                    weights["decoder"],
                    jax.value_and_grad(lambda d: loss({**weights, "decoder": d}, batch))(weights["decoder"])[1],
                )
            }
        ),
    },
}
