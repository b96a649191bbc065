"""Wrong answers to exercises 00: WRONG with words of their hints, and REFUSED, which must not pass whatever is said."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

stop = jax.lax.stop_gradient


# --- value_and_slope --------------------------------------------------------------------------------------------------


def slope(f, a, b):
    return jax.grad(f, argnums=1)(a, b)


def of_both_in_turn(f, a, b):
    value, (by_a, by_b) = jax.value_and_grad(f, argnums=(0, 1))(a, b)
    return value, by_a + by_b


def small_step(f, a, b, h=1e-3):
    """The same change for all elements of b, so that their derivatives are added."""
    return f(a, b), jnp.full(jnp.shape(b), (f(a, b + h) - f(a, b - h)) / (2 * h))


# --- rounded_to_grid --------------------------------------------------------------------------------------------------


def rounded(z, size):
    return jnp.round(z / size) * size


def clipped_outside(z, size):
    """The gradient only where z lies between -2 and 2."""
    return jnp.clip(z, -2, 2) + stop(rounded(z, size) - jnp.clip(z, -2, 2))


# --- descend ----------------------------------------------------------------------------------------------------------


def by_scan(loss, params, rate, steps, more=0, after=False, out=None, move=None):
    def step(params, _):
        value, grads = jax.value_and_grad(loss)(params)
        new = jax.tree.map(move or (lambda p, g: p - rate * g), params, grads)
        return new, loss(new) if after else value

    params, losses = jax.lax.scan(step, params, length=steps + more)
    return out(params, losses) if out else (params, losses[:steps])


def by_loop(loss, params, rate, steps, compiled=False):
    step, losses = jax.value_and_grad(loss), []
    step = jax.jit(step) if compiled else step
    for _ in range(steps):
        value, grads = step(params)
        losses.append(value)
        params = jax.tree.map(lambda p, g: p - rate * g, params, grads)
    return params, jnp.stack(losses)


def only_w(loss, params, rate, steps):
    """Trains the array that is called w."""
    return by_scan(loss, params, rate, steps, move=lambda p, g: p - rate * g if jnp.ndim(p) else p)


def momentum(loss, params, rate, steps):
    optimizer = optax.sgd(rate, momentum=0.5)

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params, losses


def adam(loss, params, rate, steps):
    return by_scan(loss, params, rate, steps, move=lambda p, g: p - rate * jnp.sign(g))


# --- gradients_one_by_one ---------------------------------------------------------------------------------------------


def each(loss, params, xs, ys):
    return jax.vmap(jax.grad(loss), (None, 0, 0))(params, xs, ys)


def of_the_mean(loss, params, xs, ys, add=jnp.mean):
    return jax.grad(lambda params: add(jax.vmap(loss, (None, 0, 0))(params, xs, ys)))(params)


def list_of_trees(loss, params, xs, ys):
    return [jax.grad(loss)(params, x, y) for x, y in zip(xs, ys)]


def stacked(loss, params, xs, ys):
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *list_of_trees(loss, params, xs, ys))


def mean_repeated(loss, params, xs, ys):
    return jax.tree.map(lambda g: jnp.broadcast_to(g, (len(ys), *g.shape)), of_the_mean(loss, params, xs, ys))


def changed(f):
    return lambda loss, params, xs, ys: jax.tree.map(f, each(loss, params, xs, ys))


# --- dropout_masks ----------------------------------------------------------------------------------------------------


def rows(key, batch, width, rate, keys=None, number=lambda i: i):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, number(i)))(jnp.arange(batch)) if keys is None else keys
    return jax.vmap(lambda key: jax.random.uniform(key, width) >= rate)(keys)


def one_row(key, batch, width, rate):
    return jnp.broadcast_to(jax.random.uniform(key, width) >= rate, (batch, width))


def one_column(key, batch, width, rate):
    return jnp.broadcast_to(jax.random.uniform(key, (batch, 1)) >= rate, (batch, width))


def global_state(key, batch, width, rate):
    return np.random.default_rng().random((batch, width)) >= rate


def by_the_batch(key, batch, width, rate):
    return rows(jax.random.fold_in(key, batch), batch, width, rate)


def exact_count(key, batch, width, rate):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(batch))
    return jax.vmap(lambda key: jax.random.permutation(key, width) >= round(rate * width))(keys)


def rolled(key, batch, width, rate):
    return jnp.stack([jnp.roll(one_row(key, 1, width, rate)[0], i) for i in range(batch)])


def of_the_first_key(key, batch, width, rate):
    return rows(jax.random.key(0), batch, width, rate)


# --- sure_cross_entropy -----------------------------------------------------------------------------------------------


def losses(scores, labels, top=lambda s: s.max(-1, keepdims=True), sign=-1):
    scores = scores - top(scores)
    log_p = scores - jnp.log(jnp.exp(scores).sum(-1, keepdims=True))
    return sign * jnp.take_along_axis(log_p, labels[..., None], -1)[..., 0]


def probability(scores, labels):
    return jnp.take_along_axis(jax.nn.softmax(scores), labels[..., None], -1)[..., 0]


def not_normalized(scores, labels):
    return -jnp.take_along_axis(scores, labels[..., None], -1)[..., 0]


def two_branches(scores, labels):
    """The plain formula where it is finite, and a bound elsewhere: right values, and a gradient of nan."""
    plain = jnp.log(jnp.exp(scores).sum(-1)) - jnp.take_along_axis(scores, labels[..., None], -1)[..., 0]
    return jnp.where(jnp.abs(scores).max(-1) < 80, plain, losses(scores, labels))


def capped(scores, labels):
    return jnp.minimum(losses(scores, labels), 1e3)


WRONG = {
    "value_and_slope": {
        "by the first argument": (lambda f, a, b: (f(a, b), jax.grad(f)(a, b)), "with respect to a"),
        "exchanged": (lambda f, a, b: (slope(f, a, b), f(a, b)), "order is wrong"),
        "both gradients": (lambda f, a, b: jax.value_and_grad(f, (0, 1))(a, b), "tuple of gradients"),
        "their sum": (of_both_in_turn, "sum of both"),
        "downhill": (lambda f, a, b: (f(a, b), -slope(f, a, b)), "opposite sign"),
        "only the gradient": (slope, "two values"),
    },
    "rounded_to_grid": {
        "plain rounding": (rounded, "no gradient reaches z"),
        "not rounded": (lambda z, size: z, "That is z itself"),
        "whole numbers": (lambda z, size: z + stop(jnp.round(z) - z), "rounded to whole numbers"),
        "steps": (lambda z, size: z + stop(jnp.round(z / size) - z), "counts steps"),
        "rounded down": (lambda z, size: z + stop(jnp.floor(z / size) * size - z), "rounded down"),
        "the wrong sign": (lambda z, size: z + stop(z - rounded(z, size)), "sign inside"),
        "the difference": (lambda z, size: stop(rounded(z, size) - z), "only the difference"),
        "twice": (lambda z, size: 2 * z + stop(rounded(z, size) - 2 * z), "on twice"),
        "divided": (lambda z, size: z / size + stop(rounded(z, size) - z / size), "divided by `size`"),
        "numpy": (lambda z, size: np.asarray(z) + stop(rounded(z, size) - np.asarray(z)), "cannot take a gradient"),
    },
    "descend": {
        "uphill": (
            lambda loss, params, rate, steps: by_scan(loss, params, -rate, steps),
            "uphill",
        ),
        "exchanged": (lambda *args: by_scan(*args)[::-1], "order is wrong"),
        "one step too many": (lambda *args: by_scan(*args, more=1), "one step too many"),
        "one step too few": (
            lambda loss, params, rate, steps: by_scan(
                loss, params, rate, steps, more=-1, out=lambda p, each: (p, each)
            ),
            "one step too few",
        ),
        "losses afterwards": (lambda *args: by_scan(*args, after=True), "after each step"),
        "the last loss": (lambda *args: by_scan(*args, out=lambda p, each: (p, each[-1])), "a single loss"),
        "the start": (
            lambda loss, params, rate, steps: (params, by_scan(loss, params, rate, steps)[1]),
            "at the start",
        ),
        "no rate": (lambda loss, params, rate, steps: by_scan(loss, params, 1.0, steps), "whole gradient"),
        "a Python loop": (by_loop, "a Python loop"),
        "a compiled step": (lambda *args: by_loop(*args, compiled=True), "a Python loop"),
    },
    "gradients_one_by_one": {
        "of the mean": (of_the_mean, "the mean gradient"),
        "of the sum": (lambda *args: of_the_mean(*args, add=jnp.sum), "the sum gradient"),
        "a list": (list_of_trees, "list of trees"),
        "a Python loop": (stacked, "a Python loop"),
        "divided by B": (lambda *args: changed(lambda g: g / len(g))(*args), "divided by B"),
        "the mean, repeated": (mean_repeated, "repeated for every"),
        "downhill": (changed(jnp.negative), "opposite sign"),
        "absolute values": (changed(jnp.abs), "without their sign"),
    },
    "dropout_masks": {
        "one mask for all": (one_row, "All rows have the same"),
        "whole rows": (one_column, "all True or all False"),
        "kept and dropped exchanged": (lambda *args: ~rows(*args), "The rate is what is dropped"),
        "numpy": (global_state, "another mask in the second call"),
        "a key of its own": (of_the_first_key, "Another key gives the same"),
        "by the size of the batch": (by_the_batch, "other masks"),
        "an exact number": (exact_count, "exactly as many"),
        "turned round": (rolled, "exactly as many"),
        "numbers": (lambda *args: rows(*args) * 1.0, "return bools"),
    },
    "sure_cross_entropy": {
        "the mean": (lambda scores, labels: losses(scores, labels).mean(), "the mean"),
        "the sum": (lambda scores, labels: losses(scores, labels).sum(), "the sum"),
        "no sign": (lambda scores, labels: losses(scores, labels, sign=1), "sign is missing"),
        "probabilities": (probability, "Those are probabilities"),
        "bits": (lambda scores, labels: losses(scores, labels) / jnp.log(2), "bits"),
        "not normalized": (not_normalized, "not normalized"),
        "overflow": (lambda scores, labels: losses(scores, labels, top=lambda s: 0), "too large"),
        "the largest of all": (lambda scores, labels: losses(scores, labels, top=jnp.max), "not that of the whole"),
        "a small number": (lambda scores, labels: -jnp.log(probability(scores, labels) + 1e-9), "small number inside"),
        "limited scores": (lambda scores, labels: losses(jnp.clip(scores, -80, 80), labels), "a limit on the scores"),
        "a gradient of nan": (two_branches, "gradient is nan"),
    },
}

REFUSED = {
    "value_and_slope": {
        "one derivative for all": small_step,
        "the gradient of twice the value": lambda f, a, b: (f(a, b), 2 * slope(f, a, b)),
        "by the last axis": lambda f, a, b: (f(a, b), jnp.sum(slope(f, a, b), -1, keepdims=True)),
        "the value stopped": lambda f, a, b: (f(a, b), jax.grad(lambda b: stop(f(a, b)))(b)),
        "as if the arguments were exchanged": lambda f, a, b: (f(b, a), jax.grad(f)(b, a)),
        "of floats only": lambda f, a, b: (f(a, b), jax.grad(f, (0, 1))(a, b)[1]),
        "of the square": lambda f, a, b: (f(a, b) ** 2, jax.grad(lambda b: f(a, b) ** 2)(b)),
    },
    "rounded_to_grid": {
        "no gradient far from 0": clipped_outside,
        "up": lambda z, size: z + stop(jnp.ceil(z / size) * size - z),
        "always halves": lambda z, size: z + stop(jnp.round(z * 2) / 2 - z),
        "z stopped too": lambda z, size: stop(z) + stop(rounded(z, size) - z) + 0 * z,
        "half of the gradient": lambda z, size: z / 2 + stop(rounded(z, size) - z / 2),
        "towards 0": lambda z, size: z + stop(jnp.trunc(z / size) * size - z),
        "a Python number": lambda z, size: z + (float(jnp.sum(rounded(z, size))) * 0 + stop(rounded(z, size) - z)),
    },
    "descend": {
        "one of the arrays only": only_w,
        "with momentum": momentum,
        "the sign of the gradient": adam,
        "a loss that is built in": lambda loss, params, rate, steps: by_scan(
            lambda params: sum(jnp.sum((p - 1) ** 2) for p in jax.tree.leaves(params)), params, rate, steps
        ),
        "a mean instead of every loss": lambda *args: by_scan(
            *args, out=lambda p, every: (p, every * 0 + every.mean())
        ),
        "losses reversed": lambda *args: by_scan(*args, out=lambda p, each: (p, each[::-1])),
        "half of the rate": lambda loss, params, rate, steps: by_scan(loss, params, rate / 2, steps),
    },
    "gradients_one_by_one": {
        "in reverse order": changed(lambda g: g[::-1]),
        "the first for all": changed(lambda g: jnp.broadcast_to(g[:1], g.shape)),
        "the batch axis last": changed(lambda g: jnp.moveaxis(g, 0, -1)),
        "flat": changed(jnp.ravel),
        "of length 1": changed(lambda g: g / jnp.linalg.norm(g)),
        "labels of the neighbour": lambda loss, params, xs, ys: each(loss, params, xs, jnp.roll(ys, 1)),
        "by x": lambda loss, params, xs, ys: jax.vmap(jax.grad(loss, 1), (None, 0, 0))(params, xs, ys),
    },
    "dropout_masks": {
        "even rows only": lambda key, batch, width, rate: rows(key, batch, width, rate, number=lambda i: i // 2),
        "every second turned round": lambda key, batch, width, rate: jnp.where(
            jnp.arange(batch)[:, None] % 2, one_row(key, 1, width, 0.5)[:, ::-1], one_row(key, 1, width, rate)
        ),
        "the rate squared": lambda key, batch, width, rate: rows(key, batch, width, rate**2),
        "always a quarter": lambda key, batch, width, rate: rows(key, batch, width, 0.25),
        "one kept at least": lambda key, batch, width, rate: rows(key, batch, width, rate).at[:, 0].set(True),
        "a longer row": lambda key, batch, width, rate: rows(key, batch, width + 1, rate),
        "no first row": lambda key, batch, width, rate: rows(key, batch, width, rate).at[0].set(True),
    },
    "sure_cross_entropy": {
        "a largest loss": capped,
        "of the largest score": lambda scores, labels: losses(scores, scores.argmax(-1)),
        "labels one too high": lambda scores, labels: losses(scores, (labels + 1) % scores.shape[-1]),
        "an axis kept": lambda scores, labels: losses(scores, labels)[..., None],
        "smoothed": lambda scores, labels: 0.9 * losses(scores, labels) + 0.1 * -jax.nn.log_softmax(scores).mean(-1),
        "over the first axis": lambda scores, labels: losses(scores.T, labels) if scores.ndim == 2 else 0 * labels,
        "no gradient": lambda scores, labels: stop(losses(scores, labels)),
        "flat": lambda scores, labels: losses(scores, labels).ravel(),
    },
}
