"""Wrong answers to exercises 06."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import Equal


def coins(key, rates, n):
    return jax.random.uniform(key, (len(rates), n)) < rates[:, None]


def ranked(key, rates, n, count=lambda x: jnp.maximum(1, jnp.round(x)), rows=None):
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(key, (rows or len(rates), n)), axis=1), axis=1)
    return rank < count(rates * n)[:, None]


def first_places(key, rates, n):
    return jnp.arange(n) < jnp.maximum(1, jnp.round(rates * n))[:, None]


def drifting(key, rates, n):
    """Sorted before it is ranked: every row hides its first positions."""
    count = jnp.maximum(1, jnp.round(rates * n))
    return jnp.sort(jax.random.uniform(key, (len(rates), n)), 1).argsort(1) < count[:, None]


def from_numpy(key, rates, n, seed=0):
    rng = np.random.default_rng(seed)
    count = jnp.maximum(1, jnp.round(rates * n))
    return jnp.asarray(rng.random((len(rates), n)).argsort(1).argsort(1)) < count[:, None]


def progress(steps):
    return (jnp.arange(steps) + 1) / steps


def floors(steps, n, little=1e-3, law=jnp.cos, u=progress):
    return jnp.floor(n[:, None] * law(jnp.pi / 2 * u(steps)) + little).astype(int)


def schedule(steps, n, **options):
    return jnp.minimum(floors(steps, n, **options), n[:, None] - 1 - jnp.arange(steps))


def revealed(steps, n):
    return -jnp.diff(schedule(steps, n), prepend=n[:, None], axis=1)


def numpy_schedule(steps, n):
    wanted = np.floor(np.asarray(n)[:, None] * np.cos(np.pi / 2 * (np.arange(steps) + 1) / steps) + 1e-6)
    return np.minimum(wanted, np.asarray(n)[:, None] - 1 - np.arange(steps)).astype(int)


def with_int(steps, n):
    return jnp.array([[int(one * np.cos(np.pi / 2 * (s + 1) / steps)) for s in range(steps)] for one in n])


def fewest(n, most, count=lambda left, n: -np.diff(left, prepend=n)):
    for steps in range(1, n + 1):
        left = numpy_schedule(steps, [n])[0]
        if max(count(left, n), default=0) <= most:
            return steps


WRONG = {
    "cosine_rate": {
        "arccos": (lambda u: 2 / np.pi * np.arccos(u), "arccos"),
        "a sine": (lambda u: np.sin(np.pi / 2 * u), "rises from 0 to 1"),
        "half a turn": (lambda u: np.cos(np.pi * u), "quarter of a turn"),
        "linear": (lambda u: 1 - u, "linear"),
        "squared": (lambda u: np.cos(np.pi / 2 * u) ** 2, "square"),
    },
    "exact_mask": {
        "a coin for every position": (coins, "coin"),
        "nothing hidden at r = 0": (lambda *case: ranked(*case, count=jnp.round), "hide at least one"),
        "kept and masked swapped": (lambda *case: ~ranked(*case), "True means hidden"),
        "the first row's rate for all": (lambda key, r, n: ranked(key, r[:1].repeat(len(r)), n), "rate of its own"),
        "always the first positions": (first_places, "same positions"),
        "sorted before it is ranked": (drifting, "same positions"),
        "one order for all rows": (lambda *case: ranked(*case, rows=1), "same positions"),
        "a key of its own": (lambda key, r, n: ranked(jax.random.key(0), r, n), "fixed seed"),
        "numpy's random numbers": (from_numpy, "fixed seed"),
        "int(...)": (lambda key, r, n: ranked(key, jnp.array([int(x * n) / n for x in r]), n), "jax.jit"),
        "one too many": (lambda *case: ranked(*case, count=lambda x: jnp.maximum(1, jnp.round(x)) + 1), "not `<=`"),
        "rounded down": (lambda *case: ranked(*case, count=lambda x: jnp.maximum(1, jnp.floor(x))), "rounded down"),
    },
    "hidden_after": {
        "what is revealed": (revealed, "revealed at each step"),
        "one step early": (
            lambda t, n: jnp.concatenate([n[:, None], schedule(t, n)[:, :-1]], 1),
            "before each step",
        ),
        "steps that reveal nothing": (floors, "reveal nothing"),
        "the first row's for all": (lambda t, n: schedule(t, n)[:1].repeat(len(n), 0), "schedule of the first one"),
        "floats": (lambda t, n: schedule(t, n).astype(float), "return ints"),
        "one too many": (lambda t, n: jnp.concatenate([n[:, None], schedule(t, n)], 1), "shape"),
        "nothing added": (lambda t, n: schedule(t, n, little=0), "Add a thousandth"),
        "a millionth": (lambda t, n: schedule(t, n, little=1e-6), "Add a thousandth"),
        "numpy": (numpy_schedule, "jax.jit"),
        "int(...)": (with_int, "jax.jit"),
    },
    "which_law": {
        "the mean": (lambda rates: "cosine" if rates.mean() > 2 / np.pi else "arccos", "mean"),
        "always the same": (lambda rates: "cosine", "for all rates"),
        "the wrong way round": (lambda rates: "arccos" if (rates > 0.9).mean() > 0.22 else "cosine", "swapped"),
        "another word": (lambda rates: "Cosine law", "return"),
        "a wrong limit": (lambda rates: "cosine" if (rates > 0.9).mean() > 0.1 else "arccos", "for all rates"),
    },
    "fewest_steps": {
        "as if all steps were equal": (lambda n, most: -(-n // most), "same number"),
        "less than most": (lambda n, most: fewest(n, most - 1) if most > 1 else n, "allowed"),
        "the first step forgotten": (lambda n, most: fewest(n, most, lambda left, n: -np.diff(left)), "first step"),
        "one too few": (lambda n, most: fewest(n, most) - 1, "too few"),
    },
}


def mutates(u):
    right = np.cos(np.pi / 2 * u)
    u *= 0
    return right


def run_of_positions(key, rates, n):
    """The right number in every row and the right share at every position, but always neighbours."""
    begin = jax.random.randint(key, (len(rates), 1), 0, n)
    return (jnp.arange(n) - begin) % n < jnp.maximum(1, jnp.round(rates * n))[:, None]


REFUSED = {
    "cosine_rate": {
        "changes its argument": mutates,
        "half a cosine": lambda u: (1 + np.cos(np.pi * u)) / 2,
        "degrees": lambda u: np.cos(90 * u),
        "a whole turn": lambda u: np.cos(2 * np.pi * u),
        "an eighth": lambda u: np.cos(np.pi / 4 * u),
        "a parabola": lambda u: 1 - u**2,
        "a root": lambda u: np.sqrt(1 - u),
        "the derivative": lambda u: np.pi / 2 * np.sin(np.pi / 2 * u),
        "rounded": lambda u: np.cos(np.pi / 2 * u).round(2),
        "the known values only": lambda u: np.interp(u, [0, 0.1, 0.5, 0.9, 1], [1, 0.98769, 0.70711, 0.15643, 0]),
        "the mean": lambda u: np.cos(np.pi / 2 * u).mean(),
        "a generator": lambda u: (np.cos(np.pi / 2 * x) for x in u),
    },
    "exact_mask": {
        "neighbours": run_of_positions,
        "rounded up": lambda *case: ranked(*case, count=lambda x: jnp.maximum(1, jnp.ceil(x))),
        "two at least": lambda *case: ranked(*case, count=lambda x: jnp.maximum(2, jnp.round(x))),
        "never all": lambda key, r, n: ranked(key, r, n, count=lambda x: jnp.clip(jnp.round(x), 1, n - 1)),
        "ranks of positions": lambda key, r, n: (
            jnp.argsort(jax.random.uniform(key, (len(r), n)), 1) < jnp.round(r * n)[:, None]
        ),
        "numbers": lambda *case: ranked(*case).astype(int),
        "one row": lambda *case: ranked(*case)[:1],
        "turned round": lambda *case: ranked(*case).T,
        "sorted counts": lambda key, r, n: ranked(key, jnp.sort(r)[::-1], n),
        "a threshold": lambda key, r, n: (
            (x := jax.random.uniform(key, (len(r), n))) < jnp.maximum(r[:, None], x.min(1, keepdims=True) + 1e-6)
        ),
        "numpy, unseeded": lambda *case: from_numpy(*case, seed=None),
        "the rate of all": lambda key, r, n: ranked(key, jnp.full_like(r, r.mean()), n),
        "every row shifted": lambda key, r, n: jnp.roll(
            first_places(key, r, n), jax.random.randint(key, (), 0, n), axis=1
        ),
    },
    "hidden_after": {
        "a tenth": lambda t, n: schedule(t, n, little=0.1),
        "a line": lambda t, n: n[:, None] - n[:, None] * (jnp.arange(t) + 1) // t,
        "rounded": lambda t, n: schedule(t, n, little=0.5),
        "a sine": lambda t, n: floors(t, n, law=jnp.sin),
        "arccos": lambda t, n: schedule(t, n, law=lambda x: 2 / jnp.pi * jnp.arccos(2 / jnp.pi * x)),
        "a ceiling": lambda t, n: schedule(t, n, little=0.999),
        "only the steps to come": lambda t, n: jnp.maximum(floors(t, n), t - 1 - jnp.arange(t)),
        "backwards": lambda t, n: schedule(t, n)[:, ::-1],
        "the last forgotten": lambda t, n: schedule(t, n)[:, :-1],
        "one more": lambda t, n: schedule(t, n) + 1,
        "of 64 always": lambda t, n: schedule(t, jnp.full_like(n, 64)),
        "turned": lambda t, n: schedule(t, n).T,
        "by T - 1": lambda t, n: schedule(t, n, u=lambda t: jnp.arange(t) / max(t - 1, 1)),
        "the smallest for all": lambda t, n: jnp.broadcast_to(schedule(t, n.min()[None]), (len(n), t)),
    },
    "which_law": {
        "the variance, the wrong way": lambda rates: "cosine" if rates.var() < 0.09 else "arccos",
        "by how many there are": lambda rates: "cosine" if len(rates) % 2 else "arccos",
        "the largest": lambda rates: "cosine" if rates.max() > 0.9999 else "arccos",
        "the first": lambda rates: "cosine" if rates[0] > 0.7 else "arccos",
        "capitals": lambda rates: "COSINE" if (rates > 0.9).mean() > 0.22 else "ARCCOS",
        "a letter": lambda rates: "c" if (rates > 0.9).mean() > 0.22 else "a",
        "a bool": lambda rates: bool((rates > 0.9).mean() > 0.22),
        "half": lambda rates: "cosine" if (rates > 0.5).mean() > 0.9 else "arccos",
        "always arccos": lambda rates: "arccos",
        "nothing": lambda rates: None,
    },
    "fewest_steps": {
        "one too many": lambda n, most: fewest(n, most) + 1,
        "the most": lambda n, most: most,
        "all": lambda n, most: n,
        "twice as many": lambda n, most: 2 * -(-n // most),
        "half more": lambda n, most: -(-3 * n // (2 * most)),
        "by the mean": lambda n, most: fewest(n, most, lambda left, n: [n / len(left)]),
        "by the last step": lambda n, most: fewest(n, most, lambda left, n: [left[-2] if len(left) > 1 else n]),
        "by what is left": lambda n, most: fewest(n, most, lambda left, n: left),
        "a float": lambda n, most: float(fewest(n, most)),
        "a list": lambda n, most: [fewest(n, most)],
    },
}


REFUSED["which_law"] |= {
    "equal to everything": lambda rates: Equal("cosine"),
    "equal to everything, by turns": lambda rates: Equal("cosine" if len(rates) % 3 else "arccos"),
    "above 0.9, badly": lambda rates: "cosine" if (rates > 0.9).mean() > 0.3 else "arccos",
}


def smallest_numbers(key, rates, n):
    """By a threshold: the count-th smallest number of each row."""
    noise = jax.random.uniform(key, (len(rates), n))
    count = jnp.clip(jnp.floor(rates * n + 0.5), 1).astype(int)
    return noise <= jnp.take_along_axis(jnp.sort(noise, 1), count[:, None] - 1, 1)


def row_by_row(key, rates, n):
    def one(key, rate):
        return jax.random.permutation(key, jnp.arange(n) < jnp.maximum(1, jnp.round(rate * n)))

    return jax.vmap(one)(jax.random.split(key, len(rates)), rates)


def counts_down(steps, n):
    left = [n]
    for s in range(1, steps + 1):
        wanted = jnp.floor(n * jnp.cos(jnp.pi * s / 2 / steps) + 1e-3).astype(int)
        left.append(jnp.minimum(left[-1] - 1, jnp.maximum(wanted, steps - s)))
    return jnp.stack(left[1:], 1)


def by_scan(steps, n):
    def step(now, rate):
        now = jnp.minimum(jnp.floor(n * rate + 1e-3).astype(n.dtype), now - 1)
        return now, now

    rates = np.cos(np.pi / 2 * np.arange(1, steps + 1) / steps)
    return jax.lax.scan(step, n, jnp.asarray(rates, jnp.float32))[1].T


UNUSUAL = {
    "cosine_rate": {
        "a sine, moved": lambda u: np.sin(np.pi / 2 * (1 - u)),
        "complex numbers": lambda u: np.exp(0.5j * np.pi * u).real,
        "a list": lambda u: [float(np.cos(np.pi / 2 * x)) for x in u],
    },
    "exact_mask": {"shuffled rows": row_by_row, "a threshold of each row": smallest_numbers},
    "hidden_after": {"a loop, and the steps to come": counts_down, "a scan": by_scan, "in one piece": schedule},
    "which_law": {
        "by the median": lambda rates: np.str_("cosine" if np.median(rates) > 0.69 else "arccos"),
        "by the square": lambda rates: "cosine" if (np.asarray(rates) ** 2).mean() > 0.484 else "arccos",
    },
    "fewest_steps": {
        "a numpy number": lambda n, most: np.int32(fewest(n, most)),
        "an array of no axis": lambda n, most: jnp.asarray(fewest(n, most)),
    },
}
