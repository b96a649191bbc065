"""Exercises 00: JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, compare, compiled, exercise, numbers, pair
from minimuse.teach.checks import formulas as known
from minimuse.teach.checks.formulas import Formula, flat, floats
from minimuse.teach.checks.tracing import constant_length, gradient, random, recorded, weights


def _then(right: Callable, change: Callable) -> Callable:
    """A mistake: the right result, changed."""
    return lambda *case: change(right(*case))


def _leaves(value: Any, expected: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a dictionary like `expected`, by name; Wrong for another structure or other shapes."""
    if not isinstance(value, dict) or set(value) != set(expected):
        names = ", ".join(expected)
        raise Wrong(f"It returned a {type(value).__name__}; return a dictionary like params, with {names}.")
    return {name: numbers(value[name], np.shape(expected[name])) for name in expected}


def _by_b(f: Formula, a: Any, b: Any) -> np.ndarray:
    return floats(f.by[1](a, b))


def _value_first(value: Any) -> tuple[Any, Any]:
    got = pair(value, "return value, gradient")
    if np.shape(got[0]) == (3,) and np.shape(got[1]) == ():
        raise Wrong("The order is wrong: first the value, a number, then the gradient, which has the shape of b.")
    if isinstance(got[1], (tuple, list)):
        raise Wrong("The second is a tuple of gradients. Only the one with respect to b is asked for: `argnums=1`.")
    return got


@exercise(points=2)
def value_and_slope(answer: Callable) -> None:
    """f, a, b -> f(a, b) and its gradient with respect to b."""
    matrix, vector, table = random(1, (2, 3), (3,), (4, 2))
    cases = [(known.SQUARE, 3.0, 2.0), (known.SUM, *random(0, (3,), (3,)))]
    cases += [(known.WAVE, matrix, vector), (known.WAVE, 20 * matrix, vector)]
    _value_first(call(answer, *cases[1]))
    compare(
        answer,
        cases,
        _by_b,
        {
            "That is the gradient with respect to a. `jax.grad` takes the first argument unless `argnums` names "
            "another; they are counted from 0.": lambda f, a, b: f.by[0](a, b),
            "The gradient has the opposite sign: it points downhill. Return it as `jax.grad` gives it.": (
                _then(_by_b, np.negative)
            ),
            "That is the sum of both gradients. Only the one with respect to b is asked for.": (
                lambda f, a, b: f.by[0](a, b) + _by_b(f, a, b)
            ),
        },
        read=lambda value: _value_first(value)[1],
    )
    compare(answer, cases, lambda f, a, b: float(f(a, b)), read=lambda value: value[0])
    cases = [(known.ROWS, jnp.array(ids), table) for ids in ([1], [2, 0, 2])]
    compare(answer, cases, _by_b, read=lambda value: _value_first(value)[1])
    for f, a, b in ((known.SUM, *random(2, (4,), (4,))), (known.ROWS, jnp.array([3, 3]), table)):
        compare(compiled(answer, static=(0,)), [(f, a, b)], _by_b, read=lambda value: _value_first(value)[1])


def _steps(z: jax.Array, size: float, how: Callable = np.round) -> np.ndarray:
    return how(floats(z) / size)


@exercise(points=2)
def rounded_to_grid(answer: Callable) -> None:
    """z float [...], size float -> z rounded to multiples of size, with the gradient 1 in z."""
    one, row, block, big = random(0, (), (5,), (2, 3, 4), (2, 2))
    ties = jnp.array([0.25, 0.75, -0.25, -0.75, 1.25, 0.5])  # of size 0.5: 0, 1, 0, -1, 1, 0.5
    cases = [(one, 0.15), (row, 0.4), (ties, 0.5), (block * 3, 1.5), (big * 300, 3.0), (jnp.zeros((0, 2)), 0.1)]
    compare(
        answer,
        cases,
        lambda z, size: _steps(z, size) * size,
        {
            "That is z itself: the value must be rounded, only the gradient is that of z.": lambda z, size: z,
            "That is rounded to whole numbers. Divide by `size` before, and multiply by it afterwards.": (
                lambda z, size: _steps(z, 1)
            ),
            "That counts steps: it is z / size, rounded. Multiply by `size` again.": _steps,
            "That is rounded down. Round to the nearest multiple, as `jnp.round` does.": (
                lambda z, size: _steps(z, size, np.floor) * size
            ),
            "A z halfway between two multiples is always rounded up. Round as `jnp.round` does: to the even one.": (
                lambda z, size: np.floor(floats(z) / size + 0.5) * size
            ),
            "The sign inside `stop_gradient` is wrong: z + (rounded - z) is `rounded`.": (
                lambda z, size: 2 * floats(z) - _steps(z, size) * size
            ),
            "That is only the difference, rounded - z. Add z outside of `stop_gradient`.": (
                lambda z, size: _steps(z, size) * size - floats(z)
            ),
        },
        tolerance=1e-3,
    )
    compare(
        gradient(answer),
        cases[:4],
        lambda z, size: weights(z.shape),
        {
            "The value is right, but no gradient reaches z: rounding has the derivative 0. Add z and take it off "
            "again, inside `stop_gradient`.": lambda z, size: np.zeros(z.shape),
            "The value is right, but the gradient is divided by `size`.": lambda z, size: weights(z.shape) / size,
            "The value is right, but the gradient is multiplied by `size`.": lambda z, size: weights(z.shape) * size,
            "The value is right, but z passes its gradient on twice. Stop all of it but one z.": (
                lambda z, size: 2 * weights(z.shape)
            ),
        },
    )
    compare(compiled(answer, static=(1,)), [(row, 0.4)], lambda z, size: _steps(z, size) * size)


def _down(loss: Formula, params: dict, rate: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of params after `steps` steps, and the loss before each step and at the end, by a Python loop."""
    now, losses = {name: floats(array) for name, array in params.items()}, [float(loss(params))]
    for _ in range(steps):
        slope = loss.by[0](now)
        now = {name: array - rate * slope[name] for name, array in now.items()}
        losses.append(float(loss(now)))
    return flat(now), np.array(losses)


def _end(loss: Formula, params: dict, rate: float, steps: int) -> np.ndarray:
    return _down(loss, params, rate, steps)[0]


def _before_and_after(loss: Formula, params: dict, rate: float, steps: int) -> np.ndarray:
    return _down(loss, params, rate, steps)[1]


def _descended(answer: Callable, loss: Callable, params: dict, rate: float, steps: int) -> None:
    """Wrong if the answer does not return a dictionary like params, and something else."""
    end, losses = pair(call(answer, loss, params, rate, steps), "return params, losses")
    if isinstance(losses, dict):
        raise Wrong("The order is wrong: first params, then the losses.")
    _leaves(end, params)


@exercise(points=3)
def descend(answer: Callable) -> None:
    """loss, params, rate, steps -> params after gradient descent, and the loss before each step, float [steps]."""
    w, b, v = random(0, (3,), (), (1, 2))
    bowl, fourth = dict(w=w, b=b), dict(v=v / 2)
    cases = [(known.BOWL, bowl, 0.1, 1), (known.FOURTH, fourth, 0.1, 2)]
    cases += [(known.VALLEY, bowl, 0.1, 5), (known.BOWL, bowl, 0.01, 40)]
    for case in cases[:2]:
        _descended(answer, *case)
    compare(
        answer,
        cases,
        _end,
        {
            "The weights have moved uphill: subtract the gradient.": lambda f, p, rate, steps: _end(f, p, -rate, steps),
            "These are the weights at the start. Return the carry with which `scan` ends.": (
                lambda f, p, rate, steps: flat(p)
            ),
            "That is one step too few.": lambda f, p, rate, steps: _end(f, p, rate, steps - 1),
            "That is one step too many.": lambda f, p, rate, steps: _end(f, p, rate, steps + 1),
            "Every step moves by the whole gradient. Multiply it by the rate.": (
                lambda f, p, rate, steps: _end(f, p, 1.0, steps)
            ),
        },
        read=lambda value: flat(value[0]),
    )
    compare(
        answer,
        cases,
        _then(_before_and_after, lambda losses: losses[:-1]),
        {
            "These are the losses after each step. `jax.value_and_grad` gives the one before it.": (
                _then(_before_and_after, lambda losses: losses[1:])
            ),
            "The losses are in reverse order.": _then(_before_and_after, lambda losses: losses[-2::-1]),
            "The second is a single loss. Return that of every step: what `scan` stacks.": (
                _then(_before_and_after, lambda losses: losses[-2])
            ),
            "There is one loss more than steps. Return the loss before each step only.": _before_and_after,
        },
        read=lambda value: value[1],
    )
    programs = [recorded(answer, known.BOWL, bowl, 0.1, steps, static=(0, 2, 3)) for steps in (3, 30)]
    constant_length(programs, "30 steps", "Use `jax.lax.scan`, which compiles the step once.")


def _by_example(loss: Formula, params: dict, xs: jax.Array, ys: jax.Array) -> dict[str, np.ndarray]:
    """The gradients by hand, one example after the other, in arrays [B, ...]."""
    params = {name: floats(array) for name, array in params.items()}
    each = [loss.by[0](params, x, y) for x, y in zip(floats(xs), floats(ys))]
    return {name: np.stack([one[name] for one in each]) for name in params}


def _each(change: Callable) -> Callable:
    """The gradients by hand, with every array changed, flat."""
    return _then(_by_example, lambda tree: flat({name: change(array) for name, array in tree.items()}))


def _one_tree(answer: Callable, loss: Formula, params: dict, xs: jax.Array, ys: jax.Array) -> None:
    """Wrong if the answer does not return a dictionary like params whose arrays have one more axis in front."""
    value, right = call(answer, loss, params, xs, ys), _by_example(loss, params, xs, ys)
    if isinstance(value, (tuple, list)) and len(value) == len(ys) and all(isinstance(one, dict) for one in value):
        raise Wrong("It returned a list of trees. Return one tree whose arrays have a batch axis, as `vmap` does.")
    if isinstance(value, dict) and set(value) == set(params) and len(ys) > 1:
        if all(np.shape(value[name]) == np.shape(params[name]) for name in params):
            got, sums = flat(value), flat({name: array.sum(0) for name, array in right.items()})
            how = "the mean" if np.allclose(got, sums / len(ys)) else "the sum" if np.allclose(got, sums) else "one"
            raise Wrong(
                f"It returned {how} gradient for the whole batch. Each example needs one of its own: first `jax.grad`, "
                "then `jax.vmap`."
            )
    _leaves(value, right)


@exercise(points=3)
def gradients_one_by_one(answer: Callable) -> None:
    """loss of one example, params, xs [B, ...], ys [B] -> the gradient of each example: arrays [B, ...]."""
    cases: list[tuple] = []
    for seed, (loss, batch, shape) in enumerate(
        [(known.LINE, 1, (2,)), (known.LINE, 4, (3,)), (known.POWER, 3, (3,)), (known.LINE, 6, (2, 2))]
    ):
        w, b, xs, ys = random(seed, shape, (), (batch, *shape), (batch,))
        cases.append((loss, dict(w=w, b=b) if loss is known.LINE else dict(v=w), xs, ys))
    for case in cases[1:3]:
        _one_tree(answer, *case)

    by_hand = _then(_by_example, flat)
    compare(
        answer,
        cases,
        by_hand,
        {
            "Those are absolute values: the gradients have lost their sign.": _then(by_hand, np.abs),
            "The gradients have the opposite sign.": _then(by_hand, np.negative),
            "The gradients are divided by B. Each is that of its own example's loss, not of the mean.": (
                lambda f, params, xs, ys: by_hand(f, params, xs, ys) / len(ys)
            ),
            "The mean gradient is repeated for every example.": _each(lambda g: g * 0 + g.mean(0)),
            "The examples are in reverse order.": _each(lambda g: g[::-1]),
        },
        read=flat,
        tolerance=1e-3,
    )
    params, sizes = dict(w=jnp.ones(3), b=jnp.ones(())), (2, 20)
    programs = [recorded(answer, known.LINE, params, *random(n, (n, 3), (n,)), static=(0,)) for n in sizes]
    constant_length(programs, "20 examples", "Use `jax.vmap`.")


def _kept(answer: Callable, key: jax.Array, ids: Any, width: int, rate: float) -> np.ndarray:
    return numbers(call(answer, key, jnp.asarray(ids), width, rate), (len(ids), width), "bool")


def _independent(masks: np.ndarray) -> None:
    """Wrong unless the elements of masks [80, 400], kept with probability 3/4, look independent of each other."""
    if np.ptp(masks.sum(1)) == 0:
        raise Wrong("Every row keeps exactly as many. Each element is decided separately, so the counts differ.")
    if np.ptp(masks.sum(0)) == 0 or masks.sum(1).std() < 4 or masks.sum(0).std() < 1.5:
        raise Wrong("The counts of the rows or columns vary less than those of independent elements do.")
    for lines, least, most, name in ((masks, 0.45, 0.8, "rows"), (masks.T, 0.3, 0.95, "columns")):
        one, zero = lines.astype(float), 1.0 - lines
        agree = ((one @ one.T + zero @ zero.T) / lines.shape[1])[~np.eye(len(lines), dtype=bool)]  # near 0.625
        if agree.max() > most or agree.min() < least:
            raise Wrong(f"Some {name} repeat others, or are their opposite. Draw a random number for every element.")


def _depends(answer: Callable, masks: np.ndarray, key: jax.Array) -> None:
    """Wrong unless row i depends on the key and on ids[i] only."""
    if not (masks == _kept(answer, key, range(len(masks)), 400, 0.25)).all():
        raise Wrong("The same key gives another mask in the second call. Use only the key: no numpy, no global state.")
    if (masks == _kept(answer, jax.random.key(4), range(len(masks)), 400, 0.25)).all():
        raise Wrong("Another key gives the same masks. Do not make a key inside: use the one that is given.")
    for ids in ([3], [41, 7, 12, 7]):
        if not (_kept(answer, key, ids, 400, 0.25) == masks[ids]).all():
            raise Wrong(
                f"With the ids {ids} some rows differ from those that the same ids got among {len(masks)} examples. A "
                "row must depend only on the key and its own id: `jax.random.fold_in(key, id)`."
            )


def _folded(answer: Callable, masks: np.ndarray, key: jax.Array) -> None:
    """Wrong where other ids or keys give the same mask."""
    next_key = _kept(answer, jax.random.key(4), range(79), 400, 0.25)
    if len(np.unique(_kept(answer, key, [5, 133, 65_541], 400, 0.25), axis=0)) < 3 or (masks[1:] == next_key).all():
        raise Wrong("Ids 5 and 133, or id 1 and id 0 with the next key, have the same mask. Use `fold_in`.")


@exercise(points=3)
def dropout_masks(answer: Callable) -> None:
    """key, ids int [B], width, rate -> bool [B, width]: True is kept; row i depends on the key and ids[i] only."""
    key = jax.random.key(3)
    masks = _kept(answer, key, range(80), 400, 0.25)
    if (masks == masks[0]).all():
        raise Wrong("All rows have the same mask. Each example needs a key of its own.")
    if (masks == masks[:, :1]).all():
        raise Wrong("Each row is all True or all False. Every element is decided separately.")
    if 0.2 < masks.mean() < 0.3:
        raise Wrong(f"{masks.mean():.0%} are kept at a rate of 0.25. The rate is what is dropped; True means kept.")
    if not 0.72 < masks.mean() < 0.78:
        raise Wrong(f"{masks.mean():.0%} are kept at a rate of 0.25; it should be about 75%.")
    _depends(answer, masks, key)
    _independent(masks)
    _folded(answer, masks, key)
    for rate in (0.0, 1.0, 0.9, 0.5):
        for key in (jax.random.key(0), jax.random.key(7)):
            share = _kept(answer, key, range(100, 180), 400, rate).mean()
            if abs(1 - rate - share) > (0.015 if 0 < rate < 1 else 0):  # five standard deviations
                raise Wrong(f"At a rate of {rate:g}, {share:.0%} are kept; it should be {1 - rate:.0%}.")
    _kept(answer, key, [5, 1, 9, 2], 1, 0.5)
    one = compiled(answer, static=(2, 3))
    if not (numbers(one(jax.random.key(3), jnp.arange(80), 400, 0.25), masks.shape, "bool") == masks).all():
        raise Wrong("Under `jax.jit` it gives other masks. Use only the key and the ids.")


def _nats(scores: Any, labels: Any) -> np.ndarray:
    """The losses, row by row: the logarithm of the sum of exponentials of (score - label's score)."""
    scores, labels = floats(scores), np.asarray(labels)
    right = np.zeros(labels.shape)
    for place in np.ndindex(labels.shape):
        above = np.sort(scores[place] - scores[place][labels[place]])[::-1]
        right[place] = above[0] + np.log(np.exp(above - above[0]).sum())
    return right


def _by_score(scores: Any, labels: Any) -> np.ndarray:
    """The gradient by hand: the weight of each loss times (softmax - 1 at the label)."""
    scores = floats(scores)
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    p = raised / raised.sum(-1, keepdims=True)
    return weights(np.shape(labels))[..., None] * (p - np.eye(scores.shape[-1])[np.asarray(labels)])


def _never_overflows(answer: Callable) -> None:
    """Wrong unless scores of ±10,000 give the right losses."""
    scores, labels = jnp.array([[1e4, 0.0], [1e4, 0.0], [-1e4, -1e4], [-1e4, 1e4]]), jnp.array([0, 1, 0, 0])
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
    lone = [(row[None], label[None]) for row, label in zip(scores, labels)]
    compare(answer, [*lone, (scores, labels)], _nats, tolerance=1e-3)


@exercise(points=3)
def sure_cross_entropy(answer: Callable) -> None:
    """scores float [..., K], labels int [...] -> cross-entropy float [...], also for scores of ±10,000."""
    # Probabilities 4/8, 3/8, 1/8 and 1/8, 6/8, 1/8; ten is added to the second row.
    hand = jnp.log(jnp.array([[4.0, 3.0, 1.0], [1.0, 6.0, 1.0]])) + jnp.array([[0.0], [10.0]])
    shapes = [(1, 2), (2, 2), (5,), (2, 3, 7), (3, 1)]
    cases = [
        (3 * random(n, shape)[0], jnp.asarray(np.random.default_rng(n).integers(0, shape[-1], shape[:-1])))
        for n, shape in enumerate(shapes)
    ]
    cases[1:1] = [(hand, jnp.array([2, 1]))]
    compare(
        answer,
        cases,
        _nats,
        {
            "It returned one number, the mean. Return a loss for every row.": _then(_nats, np.mean),
            "It returned one number, the sum. Return a loss for every row.": _then(_nats, np.sum),
            "The sign is missing: the loss is minus the logarithm of a probability.": _then(_nats, np.negative),
            "Those are probabilities. The loss is minus their logarithm.": _then(_nats, lambda nats: np.exp(-nats)),
            "Those are bits. Use the natural logarithm.": _then(_nats, lambda nats: nats / np.log(2)),
            "The scores are not normalized: subtract the logarithm of the sum of their exponentials.": (
                lambda s, labels: -np.take_along_axis(floats(s), np.asarray(labels)[..., None], -1)[..., 0]
            ),
            "It returned a loss for every score. Return only that of the label.": lambda s, labels: np.stack(
                [_nats(s, np.full_like(labels, k)) for k in range(s.shape[-1])], -1
            ),
        },
    )
    _never_overflows(answer)
    compare(answer, [(jnp.zeros((0, 4)), jnp.zeros(0, int))], _nats)
    compare(compiled(answer), cases[:1], _nats)
    compare(gradient(answer), [cases[2], cases[4]], _by_score)  # every further shape costs a compilation
    extreme = jnp.array([[1e4, 0.0], [3e3, 3e3]]), jnp.array([1, 0])
    if not np.isfinite(gradient(answer)(*extreme)).all():
        raise Wrong("The losses are right, but for scores of 10,000 the gradient is nan.")
    compare(gradient(answer), [extreme], _by_score)
