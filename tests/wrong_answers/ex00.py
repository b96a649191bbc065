"""Wrong answers to exercises 00: WRONG with words of their hints, and REFUSED, which must not pass whatever is said."""

import functools

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


def rows(key, ids, width, rate, number=lambda i: i):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, number(i)))(ids)
    return jax.vmap(lambda key: jax.random.uniform(key, width) >= rate)(keys)


def one_row(key, ids, width, rate):
    return jnp.broadcast_to(jax.random.uniform(key, width) >= rate, (len(ids), width))


def one_column(key, ids, width, rate):
    return rows(key, ids, 1, rate).repeat(width, 1)


def global_state(key, ids, width, rate):
    return np.random.default_rng().random((len(ids), width)) >= rate


def by_the_batch(key, ids, width, rate):
    return rows(jax.random.fold_in(key, len(ids)), ids, width, rate)


def by_the_place(key, ids, width, rate):
    return jax.random.bernoulli(key, 1 - rate, (len(ids), width))


def exact_count(key, ids, width, rate):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
    return jax.vmap(lambda key: jax.random.permutation(key, width) >= round(rate * width))(keys)


def rolled(key, ids, width, rate):
    return jnp.stack([jnp.roll(one_row(key, ids[:1], width, rate)[0], i) for i in ids])


def sums_of_keys(key, ids, width, rate):
    """All random numbers from one key, moved by the id: rows are shifted copies."""
    return jax.vmap(lambda i: (jax.random.uniform(key, width) + i * 0.618) % 1 >= rate)(ids)


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
        "the last loss": (lambda *args: by_scan(*args, out=lambda p, each: (p, each[-1])), "is a single loss"),
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
        "absolute values": (changed(jnp.abs), "lost their sign"),
    },
    "dropout_masks": {
        "by the place in the batch": (by_the_place, "depend only on the key and its own id"),
        "one mask for all": (one_row, "All rows have the same"),
        "whole rows": (one_column, "all True or all False"),
        "kept and dropped exchanged": (lambda *args: ~rows(*args), "The rate is what is dropped"),
        "numpy": (global_state, "another mask in the second call"),
        "a key of its own": (lambda key, *args: rows(jax.random.key(0), *args), "Another key gives the same"),
        "by the size of the batch": (by_the_batch, "depend only on"),
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


def centred(f, a, b, h=1e-2):
    """A small step in each element of b, one after the other."""
    steps = h * jnp.eye(jnp.size(b)).reshape(-1, *jnp.shape(b))
    return f(a, b), jnp.stack([(f(a, b + step) - f(a, b - step)) / (2 * h) for step in steps]).reshape(jnp.shape(b))


def scanned_twice(loss, params, rate, steps):
    """The right params, and the losses of a second descent that begins where the first has ended."""
    end, _ = by_scan(loss, params, rate, steps)
    return end, by_scan(loss, end, rate, steps)[1]


def in_turn(loss, params, rate, steps):
    """Each array moves by the gradient that is taken after the arrays before it have moved."""

    def step(params, _):
        value = loss(params)
        for name in sorted(params):
            params = params | {name: params[name] - rate * jax.grad(loss)(params)[name]}
        return params, value

    return jax.lax.scan(step, params, length=steps)


def decayed(loss, params, rate, steps):
    def step(carry, _):
        params, rate = carry
        value, grads = jax.value_and_grad(loss)(params)
        return (jax.tree.map(lambda p, g: p - rate * g, params, grads), 0.99 * rate), value

    (params, _), losses = jax.lax.scan(step, (params, rate), length=steps)
    return params, losses


REFUSED = {
    "value_and_slope": {
        "one derivative for all": small_step,
        "small steps": centred,
        "the gradient of twice the value": lambda f, a, b: (f(a, b), 2 * slope(f, a, b)),
        "by the last axis": lambda f, a, b: (f(a, b), jnp.sum(slope(f, a, b), -1, keepdims=True)),
        "the value stopped": lambda f, a, b: (f(a, b), jax.grad(lambda b: stop(f(a, b)))(b)),
        "as if the arguments were exchanged": lambda f, a, b: (f(b, a), jax.grad(f)(b, a)),
        "of floats only": lambda f, a, b: (f(a, b), jax.grad(f, (0, 1))(a, b)[1]),
        "of the square": lambda f, a, b: (f(a, b) ** 2, jax.grad(lambda b: f(a, b) ** 2)(b)),
        "only the value": lambda f, a, b: f(a, b),
        "a function": lambda f, a, b: jax.value_and_grad(f, argnums=1),
        "its length": lambda f, a, b: (f(a, b), jnp.linalg.norm(slope(f, a, b))),
        "in numpy": lambda f, a, b: (np.asarray(f(a, b)), np.asarray(slope(f, a, b))),
        "flat": lambda f, a, b: (f(a, b), jnp.ravel(slope(f, a, b))),
    },
    "rounded_to_grid": {
        "no gradient far from 0": clipped_outside,
        "up": lambda z, size: z + stop(jnp.ceil(z / size) * size - z),
        "always halves": lambda z, size: z + stop(jnp.round(z * 2) / 2 - z),
        "z stopped too": lambda z, size: stop(z) + stop(rounded(z, size) - z) + 0 * z,
        "half of the gradient": lambda z, size: z / 2 + stop(rounded(z, size) - z / 2),
        "towards 0": lambda z, size: z + stop(jnp.trunc(z / size) * size - z),
        "a Python number": lambda z, size: z + (float(jnp.sum(rounded(z, size))) * 0 + stop(rounded(z, size) - z)),
        "halves up": lambda z, size: z + stop(jnp.floor(z / size + 0.5) * size - z),
        "divided by size twice": lambda z, size: z + stop(jnp.round(z / size) / size - z),
        "whole numbers": lambda z, size: rounded(z, size).astype(int),
        "the remainder": lambda z, size: z + stop(z % size - z),
        "multiplied first": lambda z, size: z + stop(jnp.round(z * size) / size - z),
        "a mean": lambda z, size: z + stop(rounded(z, size).mean() - z),
        "its sign": lambda z, size: jnp.abs(z) + stop(rounded(z, size) - jnp.abs(z)),
    },
    "descend": {
        "one of the arrays only": only_w,
        "with momentum": momentum,
        "the sign of the gradient": adam,
        "in turn": in_turn,
        "a rate that falls": decayed,
        "a loss that is built in": lambda loss, params, rate, steps: by_scan(
            lambda params: sum(jnp.sum((p - 1) ** 2) for p in jax.tree.leaves(params)), params, rate, steps
        ),
        "a mean instead of every loss": lambda *args: by_scan(
            *args, out=lambda p, every: (p, every * 0 + every.mean())
        ),
        "losses reversed": lambda *args: by_scan(*args, out=lambda p, each: (p, each[::-1])),
        "losses of a second descent": scanned_twice,
        "half of the rate": lambda loss, params, rate, steps: by_scan(loss, params, rate / 2, steps),
        "the gradients": lambda *args: by_scan(*args, out=lambda p, each: (jax.grad(args[0])(p), each)),
        "losses with an axis": lambda *args: by_scan(*args, out=lambda p, each: (p, each[:, None])),
        "only the losses": lambda *args: by_scan(*args)[1],
        "five steps": lambda loss, params, rate, steps: by_scan(loss, params, rate, 5),
    },
    "gradients_one_by_one": {
        "in reverse order": changed(lambda g: g[::-1]),
        "the first for all": changed(lambda g: jnp.broadcast_to(g[:1], g.shape)),
        "the batch axis last": changed(lambda g: jnp.moveaxis(g, 0, -1)),
        "flat": changed(jnp.ravel),
        "of length 1": changed(lambda g: g / jnp.linalg.norm(g)),
        "labels of the neighbour": lambda loss, params, xs, ys: each(loss, params, xs, jnp.roll(ys, 1)),
        "by x": lambda loss, params, xs, ys: jax.vmap(jax.grad(loss, 1), (None, 0, 0))(params, xs, ys),
        "sums so far": changed(lambda g: jnp.cumsum(g, 0)),
        "without the mean": changed(lambda g: g - g.mean(0)),
        "the losses": lambda loss, params, xs, ys: jax.vmap(loss, (None, 0, 0))(params, xs, ys),
        "every x with every y": lambda loss, params, xs, ys: jax.vmap(each, (None, None, None, 0))(
            loss, params, xs, ys[:, None].repeat(len(ys), 1)
        ),
        "only w": lambda loss, params, xs, ys: {"w": each(loss, params, xs, ys).get("w")},
        "an axis too many": changed(lambda g: g[:, None]),
        "squared": changed(lambda g: g**2),
    },
    "dropout_masks": {
        "even ids only": lambda *args: rows(*args, number=lambda i: i // 2),
        "every second turned round": lambda key, ids, width, rate: jnp.where(
            ids[:, None] % 2, one_row(key, ids, width, 0.5)[:, ::-1], one_row(key, ids, width, rate)
        ),
        "shifted copies": sums_of_keys,
        "the rate squared": lambda key, ids, width, rate: rows(key, ids, width, rate**2),
        "always a quarter": lambda key, ids, width, rate: rows(key, ids, width, 0.25),
        "one kept at least": lambda *args: rows(*args).at[:, 0].set(True),
        "a longer row": lambda key, ids, width, rate: rows(key, ids, width + 1, rate),
        "no first row": lambda *args: rows(*args).at[0].set(True),
        "all dropped above 0.8": lambda key, ids, width, rate: rows(key, ids, width, rate) & (rate < 0.8),
        "every column twice": lambda key, ids, width, rate: rows(key, ids, -(-width // 2), rate).repeat(2, 1)[
            :, :width
        ],
        "the two halves the same": lambda key, ids, width, rate: jnp.tile(rows(key, ids, -(-width // 2), rate), (1, 2))[
            :, :width
        ],
        "the id forgotten": lambda key, ids, width, rate: rows(key, jnp.arange(len(ids)), width, rate),
        "sorted ids": lambda key, ids, width, rate: rows(key, jnp.sort(ids), width, rate),
        "numbers from elsewhere": lambda key, ids, width, rate: (
            np.random.default_rng(0).random((len(ids), width)) >= rate
        ),
        "the key left out": lambda key, ids, width, rate: jax.vmap(
            lambda i: jax.random.uniform(jax.random.key(i), width) >= rate
        )(ids),
        "turned": lambda *args: rows(*args).T,
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
        "the largest of a column": lambda scores, labels: losses(scores, labels, top=lambda s: s.max(0)),
        "a square": lambda scores, labels: losses(scores, labels) ** 2,
        "every row by the first label": lambda scores, labels: losses(
            scores, jnp.broadcast_to(labels.ravel()[:1], labels.shape)
        ),
        "the smallest taken off": lambda scores, labels: losses(scores, labels, top=lambda s: s.min(-1, keepdims=True)),
        "in numpy": lambda scores, labels: np.asarray(losses(scores, labels)),
        "half": lambda scores, labels: losses(scores, labels) / 2,
        "divided by K": lambda scores, labels: losses(scores, labels) / scores.shape[-1],
    },
}


def by_fold(loss, params, rate, steps):
    """A fori_loop, with the losses written into an array."""

    def step(i, carry):
        params, losses = carry
        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - rate * g, params, grads), losses.at[i].set(value)

    return jax.lax.fori_loop(0, steps, step, (params, jnp.zeros(steps)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def own_gradient(z, size):
    return rounded(z, size)


own_gradient.defvjp(lambda z, size: (rounded(z, size), None), lambda size, _, slope: (slope,))


def with_optax(loss, params, rate, steps):
    optimizer = optax.sgd(rate)

    def step(carry, _):
        value, grads = jax.value_and_grad(loss)(carry[0])
        updates, state = optimizer.update(grads, carry[1])
        return (optax.apply_updates(carry[0], updates), state), value

    (end, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))
    return [end, losses]


def of_sums(loss, params, xs, ys):
    """One gradient of the sum, for params that are repeated for every example."""
    many = jax.tree.map(lambda p: jnp.broadcast_to(p, (len(ys), *p.shape)), params)
    return jax.grad(lambda many: jax.vmap(loss)(many, xs, ys).sum())(many)


UNUSUAL = {
    "value_and_slope": {
        "two calls, as a list": lambda f, a, b: [f(a, b), jax.grad(f, 1)(a, b)],
        "a vector-Jacobian product": lambda f, a, b: (f(a, b), jax.vjp(lambda b: f(a, b), b)[1](jnp.ones(()))[0]),
        "forwards": lambda f, a, b: (f(a, b), jax.jacfwd(f, argnums=1)(a, b)),
        "a closure": lambda f, a, b: jax.value_and_grad(lambda b: f(a, b))(b),
    },
    "rounded_to_grid": {
        "the remainder taken off": lambda z, size: z - stop(z - jnp.rint(z / size) * size),
        "a gradient of its own": own_gradient,
        "added and taken off": lambda z, size: stop(rounded(z, size)) + z - stop(z),
    },
    "descend": {
        "an array of losses, filled in turn": by_fold,
        "optax, as a list": with_optax,
        "compiled": lambda loss, params, rate, steps: jax.jit(lambda p: by_scan(loss, p, rate, steps))(params),
    },
    "gradients_one_by_one": {
        "params repeated": of_sums,
        "one after the other, compiled once": lambda loss, params, xs, ys: jax.lax.map(
            lambda pair: jax.grad(loss)(params, *pair), (xs, ys)
        ),
        "Jacobian": lambda loss, params, xs, ys: jax.jacrev(
            lambda params: jax.vmap(lambda x, y: loss(params, x, y))(xs, ys)
        )(params),
    },
    "dropout_masks": {
        "bernoulli": lambda key, ids, width, rate: jax.vmap(
            lambda i: jax.random.bernoulli(jax.random.fold_in(key, i), 1 - rate, width)
        )(ids),
        "a list of rows": lambda key, ids, width, rate: jnp.array(
            [jax.random.uniform(jax.random.fold_in(key, i), (width,)) >= rate for i in ids]
        ),
        "the upper end": lambda key, ids, width, rate: jax.vmap(
            lambda i: jax.random.uniform(jax.random.fold_in(key, i), width) < 1 - rate
        )(ids),
    },
    "sure_cross_entropy": {
        "the library of JAX": lambda scores, labels: jax.nn.logsumexp(
            scores - jnp.take_along_axis(scores, labels[..., None], -1), axis=-1
        ),
        "one-hot labels": lambda scores, labels: (
            -jnp.sum(jax.nn.one_hot(labels, scores.shape[-1]) * jax.nn.log_softmax(scores), -1)
        ),
        "optax": optax.softmax_cross_entropy_with_integer_labels,
    },
}
