"""Exercises 00: JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, close, exercise, numbers, pair, same, unless

UNTRACEABLE = "Use `jnp` and `jax` only: no numpy, no `float(...)`, and no `if` on a traced value."


def _random(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def _program(f: Callable, *args: Any) -> int:
    """Lines of the program that JAX records when it traces f; Wrong if it cannot."""
    try:
        return str(jax.make_jaxpr(f)(*args)).count("\n")
    except Exception as error:
        raise Wrong(f"JAX cannot trace it ({type(error).__name__}). {UNTRACEABLE}") from None


def _gradient(loss: Callable, at: jax.Array) -> np.ndarray:
    """The gradient of a loss that calls the answer; Wrong if JAX cannot take it."""
    try:
        return np.asarray(jax.grad(loss)(at), float)
    except Exception as error:
        raise Wrong(
            f"The values are right, but JAX cannot take a gradient ({type(error).__name__}). {UNTRACEABLE}"
        ) from (None)


def _leaves(value: Any, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a dictionary like `expected`, by name; Wrong for another structure or other shapes."""
    if not isinstance(value, dict) or set(value) != set(expected):
        raise Wrong(
            f"It returned a {type(value).__name__}; return a dictionary like params, with {', '.join(expected)}."
        )
    return {name: numbers(value[name], np.shape(expected[name])) for name in expected}


@exercise(points=2)
def value_and_slope(answer: Callable) -> None:
    """f, a, b -> f(a, b) and its gradient with respect to b."""
    a, b = _random(0, (3,), (3,))
    got = pair(call(answer, lambda a, b: jnp.sum(a * b**2), a, b), "return value, gradient")
    value, by_a, by_b = float(jnp.sum(a * b**2)), b**2, 2 * a * b
    if np.shape(got[0]) == (3,) and np.shape(got[1]) == ():
        raise Wrong("The order is wrong: first the value, a number, then the gradient, which has the shape of b.")
    if isinstance(got[1], (tuple, list)):
        raise Wrong("The second is a tuple of gradients. Only the one with respect to b is asked for: `argnums=1`.")
    slope = numbers(got[1], (3,))
    unless(
        slope,
        {
            "That is the gradient with respect to a. `jax.grad` takes the first argument unless `argnums` names "
            "another; they are counted from 0.": by_a,
            "The gradient has the opposite sign: it points downhill. Return it as `jax.grad` gives it.": -by_b,
            "That is the sum of both gradients. Only the one with respect to b is asked for.": by_a + by_b,
        },
        right=by_b,
    )
    same(slope, by_b, "f(a, b) = Σ a b² and a, b of 3 numbers, the gradient with respect to b")
    same(numbers(got[0]), value, "f(a, b) = Σ a b² and a, b of 3 numbers, the value")
    matrix, vector, table = _random(1, (2, 3), (3,), (4, 2))
    ids = jnp.array([2, 0, 2])
    counts = np.array([1, 0, 2, 0])[:, None]
    by_vector = np.cos(matrix @ vector) @ np.asarray(matrix)
    cases: dict[str, tuple] = {
        "f(a, b) = Σ sin(a @ b), a [2, 3] and b [3]": (lambda a, b: jnp.sum(jnp.sin(a @ b)), matrix, vector, by_vector),
        "f(a, b) = Σ b[a]², a int [3] and b [4, 2]": (lambda a, b: jnp.sum(b[a] ** 2), ids, table, 2 * counts * table),
        "f(a, b) = a² b at 3 and 2": (lambda a, b: a**2 * b, 3.0, 2.0, 9.0),
    }
    for about, (f, one, two, expected) in cases.items():
        got = pair(call(answer, f, one, two), "return value, gradient")
        same(numbers(got[1], np.shape(two)), expected, f"{about}, the gradient with respect to b")
        same(numbers(got[0]), float(f(one, two)), f"{about}, the value")


@exercise(points=2)
def rounded_to_grid(answer: Callable) -> None:
    """z float [...], size float -> z rounded to multiples of size, with the gradient 1 in z."""
    for seed, (shape, size, scale) in enumerate([((2, 3, 4), 0.4, 3.0), ((5,), 3.0, 300.0), ((), 0.15, 1.0)]):
        z, weight = _random(seed, shape, shape)
        z = z * scale
        right = np.round(np.asarray(z, float) / size) * size
        about = f"z of shape {list(shape)} and size {size}"
        got = numbers(call(answer, z, size), shape)
        unless(
            got,
            {
                "That is z itself: the value must be rounded, only the gradient is that of z.": z,
                "That is rounded to whole numbers. Divide by `size` before, and multiply by it afterwards.": np.round(
                    z
                ),
                "That counts steps: it is z / size, rounded. Multiply by `size` again.": right / size,
                "That is rounded down. Round to the nearest multiple, as `jnp.round` does.": np.floor(z / size) * size,
                "The sign inside `stop_gradient` is wrong: z + (rounded - z) is `rounded`.": 2 * z - right,
                "That is only the difference, rounded - z. Add z outside of `stop_gradient`.": right - z,
            },
            right=right,
        )
        same(got, right, about, tolerance=1e-3)
        by_z = _gradient(lambda z: jnp.sum(weight * answer(z, size)), z)  # noqa: B023
        if by_z.shape == shape and not by_z.any():
            raise Wrong(
                "The value is right, but no gradient reaches z: rounding has the derivative 0. Add z and take it off "
                "again, inside `stop_gradient`."
            )
        mistakes = {
            "The value is right, but the gradient is divided by `size`.": weight / size,
            "The value is right, but the gradient is multiplied by `size`.": weight * size,
            "The value is right, but z passes its gradient on twice. Stop all of it but one z.": 2 * weight,
        }
        unless(by_z, mistakes, right=weight)
        same(by_z, weight, f"{about}, the gradient of Σ weight · answer")
        _program(lambda z: answer(z, size), z)  # noqa: B023


def _bowl(params: dict[str, jax.Array]) -> jax.Array:
    return jnp.sum((params["w"] - 1) ** 2) + 2 * params["b"] ** 2


def _down(params: dict, rate: float, steps: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What `steps` steps on _bowl give, by a Python loop: params, and the losses before each step and at the end."""
    w, b, losses = np.asarray(params["w"], float), float(params["b"]), []
    for _ in range(steps):
        losses.append(((w - 1) ** 2).sum() + 2 * b**2)
        w, b = w - rate * 2 * (w - 1), b - rate * 4 * b
    return dict(w=w, b=np.array(b)), np.array([*losses, ((w - 1) ** 2).sum() + 2 * b**2])


@exercise(points=3)
def descend(answer: Callable) -> None:
    """loss, params, rate, steps -> params after gradient descent, and the loss before each step, float [steps]."""
    for seed, (rate, steps) in enumerate([(0.1, 5), (0.02, 1), (0.05, 40)]):
        w, b = _random(seed, (3,), ())
        params = dict(w=w, b=b)
        about = f"Σ (w - 1)² + 2 b², rate {rate} and {steps} steps"
        end, losses = pair(call(answer, _bowl, params, rate, steps), "return params, losses")
        if isinstance(losses, dict):
            raise Wrong("The order is wrong: first params, then the losses.")
        end, (right, every) = _leaves(end, params), _down(params, rate, steps)
        about_w = {
            "The weights have moved uphill: subtract the gradient.": _down(params, -rate, steps),
            "That is one step too few.": _down(params, rate, steps - 1),
            "That is one step too many.": _down(params, rate, steps + 1),
            "These are the weights at the start. Return the carry with which `scan` ends.": _down(params, rate, 0),
            "Every step moves by the whole gradient. Multiply it by the rate.": _down(params, 1.0, steps),
        }
        unless(end["w"], {words: where["w"] for words, (where, _) in about_w.items()}, right=right["w"])
        same(end["w"], right["w"], f"{about}, w at the end")
        same(end["b"], right["b"], f"{about}, b at the end")
        if np.shape(losses) == ():
            raise Wrong("The second is a single loss. Return that of every step: what `scan` stacks.")
        if np.shape(losses) == (steps + 1,) and steps:
            raise Wrong(f"It returned {steps + 1} losses for {steps} steps. Return the loss before each step only.")
        got = numbers(losses, (steps,))
        unless(
            got,
            {
                "These are the losses after each step. `jax.value_and_grad` gives the one before it.": every[1:],
                "The losses are in reverse order.": every[:-1][::-1],
            },
            right=every[:-1],
        )
        same(got, every[:-1], f"{about}, the losses")
    short, long = (_program(lambda params: answer(_bowl, params, 0.1, steps), params) for steps in (3, 30))  # noqa: B023
    if long > short + 5:
        raise Wrong(
            f"The results are right, but the program of 30 steps has {long} lines, and that of 3 has {short}: a Python "
            "loop is unrolled. Use `jax.lax.scan`, which compiles the step once."
        )
    # Another loss and another tree, so that nothing of the above can be built in.
    loss, start = lambda params: jnp.sum(params["v"] ** 4), dict(v=jnp.array([[0.5, -1.0]]))
    end, losses = pair(call(answer, loss, start, 0.1, 2), "return params, losses")
    first = np.array([[0.5, -1.0]]) - 0.4 * np.array([[0.125, -1.0]])
    same(_leaves(end, start)["v"], first - 0.4 * first**3, "Σ v⁴, rate 0.1 and 2 steps, v at the end")
    same(numbers(losses, (2,)), [1.0625, (first**4).sum()], "Σ v⁴, rate 0.1 and 2 steps, the losses")


def _squared(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    return (jnp.sum(x * params["w"]) + params["b"] - y) ** 2


@exercise(points=3)
def gradients_one_by_one(answer: Callable) -> None:
    """loss of one example, params, xs [B, ...], ys [B] -> the gradient of each example: arrays [B, ...]."""
    for seed, (batch, shape) in enumerate([(4, (3,)), (1, (2,)), (6, (2, 2))]):
        w, b, xs, ys = _random(seed, shape, (), (batch, *shape), (batch,))
        params = dict(w=w, b=b)
        gap = 2 * (np.sum(np.asarray(xs * w, float).reshape(batch, -1), 1) + float(b) - np.asarray(ys, float))
        right = dict(w=gap.reshape(batch, *[1] * len(shape)) * np.asarray(xs, float), b=gap)
        about = f"a batch of {batch}, w of shape {list(shape)}"
        value = call(answer, _squared, params, xs, ys)
        if isinstance(value, dict) and "w" in value and batch > 1 and np.shape(value["w"]) == shape:
            one = np.asarray(value["w"], float)
            how = (
                "the mean" if close(one, right["w"].mean(0)) else "the sum" if close(one, right["w"].sum(0)) else "one"
            )
            raise Wrong(
                f"It returned {how} gradient for the whole batch. Each example needs one of its own: first `jax.grad`, "
                "then `jax.vmap`."
            )
        if isinstance(value, (tuple, list)) and len(value) == batch and all(isinstance(one, dict) for one in value):
            raise Wrong("It returned a list of trees. Return one tree whose arrays have a batch axis, as `vmap` does.")
        got = _leaves(value, right)
        unless(
            got["b"],
            {
                "Those are the losses' square roots, times 2, without their sign.": abs(gap),
                "The gradients are divided by B. Each is that of its own example's loss, not of the mean.": gap / batch,
                "The mean gradient is repeated for every example.": np.full(batch, gap.mean()),
                "The gradients have the opposite sign.": -gap,
            },
            right=right["b"],
        )
        for name in ("w", "b"):
            same(got[name], right[name], f"{about}, the gradients of {name}", tolerance=1e-3)
    lengths = []
    for batch in (2, 20):
        xs, ys = _random(batch, (batch, 3), (batch,))
        params = dict(w=jnp.ones(3), b=jnp.ones(()))
        lengths.append(_program(lambda params: answer(_squared, params, xs, ys), params))  # noqa: B023
    if lengths[1] > lengths[0] + 5:
        raise Wrong(
            f"The results are right, but the program for 20 examples has {lengths[1]} lines, and that for 2 has "
            f"{lengths[0]}: a Python loop. Use `jax.vmap`."
        )


@exercise(points=3)
def dropout_masks(answer: Callable) -> None:
    """key, batch, width, rate -> bool [batch, width]: True is kept; row i depends on the key and i only."""
    key, other = jax.random.key(3), jax.random.key(4)
    masks = numbers(call(answer, key, 64, 400, 0.25), (64, 400), "bool")
    if (masks == masks[0]).all():
        raise Wrong("All rows have the same mask. Each example needs a key of its own.")
    if (masks == masks[:, :1]).all():
        raise Wrong("Each row is all True or all False. Every element is decided separately.")
    if 0.2 < masks.mean() < 0.3:
        raise Wrong(f"{masks.mean():.0%} are kept at a rate of 0.25. The rate is what is dropped; True means kept.")
    if not 0.72 < masks.mean() < 0.78:
        raise Wrong(f"{masks.mean():.0%} are kept at a rate of 0.25; it should be about 75%.")
    if not (masks == numbers(call(answer, key, 64, 400, 0.25), (64, 400), "bool")).all():
        raise Wrong("The same key gives another mask in the second call. Use only the key: no numpy, no global state.")
    if (masks == numbers(call(answer, other, 64, 400, 0.25), (64, 400), "bool")).all():
        raise Wrong("Another key gives the same masks. Do not make a key inside: use the one that is given.")
    if np.ptp(masks.sum(1)) == 0:
        raise Wrong("Every row keeps exactly as many. Each element is decided separately, so the counts differ.")
    if np.ptp(masks.sum(0)) == 0 or masks.sum(1).std() < 4 or masks.sum(0).std() < 1.5:
        raise Wrong("The counts of the rows or columns vary less than those of independent elements do.")
    agree = (masks[:, None] == masks[None]).mean(-1)[~np.eye(64, dtype=bool)]  # of two rows: 0.75² + 0.25² is 0.625
    if agree.max() > 0.8 or agree.min() < 0.45:
        raise Wrong("Some rows repeat others, or are their opposite. Each row needs random numbers of its own.")
    for batch in (1, 5):
        fewer = numbers(call(answer, key, batch, 400, 0.25), (batch, 400), "bool")
        if not (fewer == masks[:batch]).all():
            raise Wrong(
                f"With a batch of {batch} instead of 64, the first rows have other masks. Row i must depend only on "
                "the key and i: `jax.random.fold_in(key, i)`."
            )
    for rate, share in ((0.0, 1.0), (1.0, 0.0), (0.9, 0.1)):
        for key in (jax.random.key(0), jax.random.key(7)):
            kept = numbers(call(answer, key, 64, 400, rate), (64, 400), "bool").mean()
            if abs(kept - share) > (0.03 if 0 < share < 1 else 0):
                raise Wrong(f"At a rate of {rate:g}, {kept:.0%} are kept; it should be {share:.0%}.")
    numbers(call(answer, key, 3, 1, 0.5), (3, 1), "bool")


@exercise(points=3)
def sure_cross_entropy(answer: Callable) -> None:
    """scores float [..., K], labels int [...] -> cross-entropy float [...], also for scores of ±10,000."""
    # Probabilities 4/8, 3/8, 1/8 and 1/8, 6/8, 1/8; ten is added to the second row.
    scores = jnp.log(jnp.array([[4.0, 3.0, 1.0], [1.0, 6.0, 1.0]])) + jnp.array([[0.0], [10.0]])
    labels, right = jnp.array([2, 1]), np.log([8.0, 8 / 6])
    value = call(answer, scores, labels)
    if np.shape(value) == ():
        unless(
            numbers(value),
            {
                "It returned one number, the mean. Return a loss for every row.": right.mean(),
                "It returned one number, the sum. Return a loss for every row.": right.sum(),
            },
        )
    if np.shape(value) == (2, 3):
        raise Wrong("It returned a loss for every score. Return only that of the label.")
    got = numbers(value, (2,))
    unless(
        got,
        {
            "The sign is missing: the loss is minus the logarithm of a probability.": -right,
            "Those are probabilities. The loss is minus their logarithm.": np.exp(-right),
            "Those are bits. Use the natural logarithm.": right / np.log(2),
            "The scores are not normalized: subtract the logarithm of the sum of their exponentials.": -np.array(
                [0.0, np.log(6) + 10]
            ),
        },
        right=right,
    )
    same(got, right, "two rows with the probabilities 4/8, 3/8, 1/8 and 1/8, 6/8, 1/8, labels 2 and 1")
    scores, labels = jnp.array([[1e4, 0.0], [1e4, 0.0], [-1e4, -1e4], [-1e4, 1e4]]), jnp.array([0, 1, 0, 0])
    right = np.array([0.0, 1e4, np.log(2), 2e4])
    value = np.asarray(call(answer, scores, labels), float)
    if value.shape == (4,) and np.isclose(value[0], 0, atol=1e-3) and 15 < value[1] < 200:
        raise Wrong(
            f"For the scores 10,000 and 0 and the label 1 the loss is {value[1]:.4g}; it should be 10,000. A small "
            "number inside the logarithm, or a limit on the scores, hides how wrong the model is."
        )
    if not np.isfinite(value[:2]).all():
        raise Wrong(
            "Scores of 10,000 give inf or nan: exp(10,000) is too large. Subtract each row's largest score first."
        )
    if not np.isfinite(value).all():
        raise Wrong(
            "Among rows with large scores, a row of scores of -10,000 gives inf or nan. The largest score of each row "
            "must be subtracted, not that of the whole array."
        )
    # float32 has three digits after the point at 10,000: answers that add the largest score again lose the rest.
    same(numbers(value, (4,)), right, "scores of 10,000 and -10,000", tolerance=1e-3)
    for seed, shape in enumerate([(5,), (2, 3, 7), (3, 1), (0, 4)]):
        (scores,) = _random(seed, shape)
        labels = jnp.asarray(np.random.default_rng(seed).integers(0, shape[-1], shape[:-1]))
        raised = np.exp(np.asarray(scores, float))
        p = raised / raised.sum(-1, keepdims=True)
        expected = -np.log(np.take_along_axis(p, np.asarray(labels)[..., None], -1))[..., 0]
        about = f"scores of shape {list(shape)}"
        same(numbers(call(answer, scores, labels), shape[:-1]), expected, about)
        if seed > 1:  # gradients of two shapes only: every further shape costs a compilation
            continue
        by_score = _gradient(lambda scores: jnp.sum(answer(scores, labels)), scores)  # noqa: B023
        same(by_score, p - np.eye(shape[-1])[np.asarray(labels)], f"{about}, the gradient of their sum")
    extreme = _gradient(lambda scores: jnp.sum(answer(scores, jnp.array([1, 0]))), jnp.array([[1e4, 0.0], [3e3, 3e3]]))
    if not np.isfinite(extreme).all():
        raise Wrong("The losses are right, but for scores of 10,000 the gradient is nan.")
    same(extreme, [[1.0, -1.0], [-0.5, 0.5]], "scores (10,000, 0) and (3,000, 3,000), labels 1 and 0, the gradient")
