"""Wrong answers to exercises 07."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import NOT_LETTERS


def sharpened(p, tau):
    weights = p ** (1 / tau)
    return weights / weights.sum(-1, keepdims=True)


def picked(p, tokens):
    return jnp.take_along_axis(p, tokens[..., None], -1)[..., 0]


def passed(p, u, tau, sums=lambda p, tau: jnp.cumsum(sharpened(p, tau), -1), clip=True):
    tokens = (sums(p, tau) <= u[..., None]).sum(-1)
    return jnp.minimum(tokens, p.shape[-1] - 1) if clip else tokens


def drawn_by(tokens_of, **options):
    """An answer that returns the tokens of tokens_of(p, u, tau)."""

    def answer(p, u, tau):
        tokens = tokens_of(p, u, tau, **options)
        return tokens, picked(p, tokens)

    return answer


def with_confidence(confidence):
    return lambda p, u, tau: (passed(p, u, tau), confidence(p, u, tau))


def unnormalised(p, tau):
    return jnp.cumsum(p ** (1 / tau), -1)


def not_below(p, u, tau):
    return jnp.minimum((jnp.cumsum(sharpened(p, tau), -1) < u[..., None]).sum(-1), p.shape[-1] - 1)


def numpy_draw(p, u, tau):
    sums = np.cumsum(sharpened(np.asarray(p), tau), -1)
    tokens = np.minimum((sums <= np.asarray(u)[..., None]).sum(-1), p.shape[-1] - 1)
    return tokens, np.take_along_axis(np.asarray(p), tokens[..., None], -1)[..., 0]


def step(tokens, drawn, confidence, left, mask_id, known_score=np.inf, sign=1, ranks=2, more=0, keep=False):
    known = tokens != mask_id
    rank = jnp.where(known, confidence if known_score is None else known_score, sign * confidence)
    rank = rank.reshape(len(tokens), -1)
    for _ in range(ranks):
        rank = jnp.argsort(rank, 1)
    left = (~known).sum((1, 2)) - left if keep else left + more
    hide = (rank < left[:, None]).reshape(tokens.shape)
    return jnp.where(hide & ~known if more else hide, mask_id, jnp.where(known, tokens, drawn))


def overwritten(tokens, drawn, confidence, left, mask_id):
    hidden = step(tokens, drawn, confidence, left, mask_id) == mask_id
    return jnp.where(hidden, mask_id, drawn)


def same_left(tokens, drawn, confidence, left, mask_id):
    known = tokens != mask_id
    after = step(tokens, drawn, confidence, jnp.full_like(left, left[0]), mask_id)
    return jnp.where(known, tokens, after)


def up_to_the_last(tokens, drawn, confidence, left, mask_id):
    """By a limit: those that are as confident as the left-th are hidden as well."""
    known = tokens != mask_id
    score = jnp.where(known, jnp.inf, confidence).reshape(len(tokens), -1)
    limit = jnp.take_along_axis(jnp.sort(score, 1), jnp.maximum(left[:, None] - 1, 0), 1)
    hide = ((score <= limit) & (left[:, None] > 0)).reshape(tokens.shape)
    return jnp.where(hide & ~known, mask_id, jnp.where(known, tokens, drawn))


def line_by_line(tokens, drawn, confidence, left, mask_id):
    known = tokens != mask_id
    rank = jnp.argsort(jnp.argsort(jnp.where(known, jnp.inf, confidence), -1), -1)
    return jnp.where(rank < left[:, None, None], mask_id, jnp.where(known, tokens, drawn))


def numpy_step(tokens, drawn, confidence, left, mask_id):
    known = np.asarray(tokens) != mask_id
    rank = np.where(known, np.inf, confidence).reshape(len(tokens), -1).argsort(1, kind="stable").argsort(1)
    hide = (rank < np.asarray(left)[:, None]).reshape(tokens.shape)
    return np.where(hide, mask_id, np.where(known, tokens, drawn))


def fading(steps, temperature, shift=1):
    return temperature * (1 - (np.arange(steps) + shift) / steps)


def compounding(steps, temperature):
    return temperature * np.cumprod(1 - np.arange(1, steps + 1) / steps)


def touched(states, mask_id):
    return (states[:-1] != mask_id) & (states[1:] != states[:-1])


def since_the_start(states, mask_id):
    return ((states[:1] != mask_id) & (states[1:] != states[:1])).sum((1, 2))


WRONG = {
    "draw_by_cdf": {
        "the most likely": (drawn_by(lambda p, u, tau: p.argmax(-1)), "most likely"),
        "one too far": (drawn_by(lambda p, u, tau: passed(p, u, tau) + 1), "one code too far"),
        "one too few": (drawn_by(lambda p, u, tau: passed(p, u, tau) - 1), "one code too few"),
        "the sums above u": (
            drawn_by(lambda p, u, tau: (jnp.cumsum(sharpened(p, tau), -1) > u[..., None]).sum(-1)),
            "sums above u",
        ),
        "no sums": (drawn_by(lambda p, u, tau: (sharpened(p, tau) <= u[..., None]).sum(-1)), "weights themselves"),
        "no temperature": (drawn_by(lambda p, u, tau: passed(p, u, 1.0)), "makes no difference"),
        "the temperature upside down": (drawn_by(lambda p, u, tau: passed(p, u, 1 / tau)), "the power is 1/τ"),
        "not normalized": (drawn_by(passed, sums=unnormalised), "does not sum to 1"),
        "the greatest as confidence": (with_confidence(lambda p, u, tau: p.max(-1)), "largest probability"),
        "the sum as confidence": (
            with_confidence(lambda p, u, tau: picked(jnp.cumsum(p, -1), passed(p, u, tau))),
            "running sum;",
        ),
        "the changed confidence": (
            with_confidence(lambda p, u, tau: picked(sharpened(p, tau), passed(p, u, tau))),
            "not how sure the model is",
        ),
        "as great as u": (drawn_by(not_below), "not equal"),
        "past the end": (drawn_by(passed, clip=False), "it draws code 10"),
        "only tokens": (passed, "two values"),
        "numpy": (numpy_draw, "jax.jit"),
    },
    "hide_again": {
        "known ones hidden": (lambda *args: step(*args, known_score=None), "Known tokens were hidden"),
        "known ones scored 1": (lambda *args: step(*args, known_score=1.0), "score 1"),
        "known ones overwritten": (overwritten, "replaced"),
        "the most confident": (lambda *args: step(*args, sign=-1), "most confident"),
        "argsort once": (lambda *args: step(*args, ranks=1), "`argsort`"),
        "kept, not hidden": (lambda *args: step(*args, keep=True), "keeps `left`"),
        "the first row's number": (same_left, "as many as the first one"),
        "one too many": (lambda *args: step(*args, more=1), "too many"),
        "one too few": (lambda *args: step(*args, more=-1), "too few"),
        "ties": (up_to_the_last, "equally confident"),
        "line by line": (line_by_line, "Each line"),
        "nothing revealed": (lambda tokens, *rest: tokens, "Nothing was revealed"),
        "all revealed": (lambda x, drawn, c, left, m: jnp.where(x == m, drawn, x), "All hidden"),
        "numpy": (numpy_step, "jax.jit"),
    },
    "noise_strengths": {
        "still compounding": (compounding, "still compounds"),
        "one step late": (lambda steps, temperature: fading(steps, temperature, 0), "one step late"),
        "always the same": (lambda steps, temperature: np.full(steps, temperature), "same at every step"),
        "rising": (lambda steps, temperature: temperature - fading(steps, temperature), "rises"),
        "no temperature": (lambda steps, temperature: fading(steps, 1.0), "Multiply it by the temperature"),
        "from end to end": (lambda steps, temperature: np.linspace(temperature, 0, steps), "begins with the full"),
        "one step early": (lambda steps, tau: np.maximum(fading(steps, tau, 2), 0), "one step early"),
        "both ends": (lambda steps, temperature: np.linspace(temperature, 0, steps + 1), "shape"),
    },
    "touched_tokens": {
        "revealed ones, too": (lambda x, m: (x[1:] != x[:-1]).sum((1, 2)), "revealed at a step"),
        "only hidden again": (lambda x, m: (touched(x, m) & (x[1:] == m)).sum((1, 2)), "Only tokens that were hidden"),
        "only replaced": (lambda x, m: (touched(x, m) & (x[1:] != m)).sum((1, 2)), "Only tokens whose code"),
        "against the start": (since_the_start, "compares with the start"),
        "sums so far": (lambda x, m: touched(x, m).sum((1, 2)).cumsum(), "all steps so far"),
        "a number a picture": (lambda x, m: touched(x, m).sum(2), "each image"),
        "one number": (lambda x, m: touched(x, m).sum(), "single number"),
        "those that stayed": (lambda x, m: ((x[:-1] != m) & (x[1:] == x[:-1])).sum((1, 2)), "did not change"),
        "those revealed": (
            lambda x, m: ((x[:-1] == m) & (x[1:] != m)).sum((1, 2)),
            "tokens revealed at each step",
        ),
        "the largest id for [MASK]": (lambda x, m: touched(x, x.max()).sum((1, 2)), "Use the argument"),
        "known afterwards": (lambda x, m: ((x[1:] != m) & (x[1:] != x[:-1])).sum((1, 2)), "known before it"),
    },
    "waits_and_work": {
        "a": (lambda: "a", "does not wait longer"),
        "b": (lambda: "b", "waiting"),
        "c": (lambda: "c", "only the new position"),
    },
}


def turned(p, u, tau):
    return p.shape[-1] - 1 - passed(p[..., ::-1], u, tau)


def over_positions(p, u, tau):
    return jnp.minimum((jnp.cumsum(sharpened(p, tau), 1) <= u[..., None]).sum(-1), p.shape[-1] - 1)


def one_u_for_all(p, u, tau):
    return passed(p, jnp.broadcast_to(u[:, :1], u.shape), tau)


def from_the_start(tokens, drawn, confidence, left, mask_id):
    """`left` of all positions, counted with the known ones."""
    return step(tokens, drawn, confidence, left - (tokens != mask_id).sum((1, 2)), mask_id)


def loudest(tokens, drawn, confidence, left, mask_id):
    """Known tokens are ranked by their confidence, shifted by 1."""
    known = tokens != mask_id
    return step(tokens, drawn, jnp.where(known, confidence + 1, confidence), left, mask_id, known_score=None)


def with_codes(states, mask_id, code=7):
    return touched(states, code).sum((1, 2))


REFUSED = {
    "draw_by_cdf": {
        "from the last code": drawn_by(turned),
        "over the positions": drawn_by(over_positions),
        "one u for a row": drawn_by(one_u_for_all),
        "u turned": drawn_by(lambda p, u, tau: passed(p, 1 - u, tau)),
        "a key of its own": drawn_by(lambda p, u, tau: jax.random.categorical(jax.random.key(0), jnp.log(p) / tau)),
        "rounded": drawn_by(lambda p, u, tau: jnp.round(u * (p.shape[-1] - 1)).astype(int)),
        "equal codes": drawn_by(lambda p, u, tau: jnp.floor(u * p.shape[-1]).astype(int)),
        "exchanged": lambda p, u, tau: drawn_by(passed)(p, u, tau)[::-1],
        "floats": lambda p, u, tau: (passed(p, u, tau).astype(float), picked(p, passed(p, u, tau))),
        "logarithms": with_confidence(lambda p, u, tau: jnp.log(picked(p, passed(p, u, tau)))),
        "u as confidence": with_confidence(lambda p, u, tau: u),
        "softmax of p": drawn_by(lambda p, u, tau: passed(jax.nn.softmax(p / tau), u, 1.0)),
        "divided by tau": drawn_by(passed, sums=lambda p, tau: jnp.cumsum(p / tau, -1)),
        "not normalized, unclipped": drawn_by(passed, sums=unnormalised, clip=False),
        "stacked": lambda p, u, tau: jnp.stack(drawn_by(passed)(p, u, tau)),
        "the first row": drawn_by(lambda p, u, tau: jnp.broadcast_to(passed(p, u, tau)[:1], u.shape)),
    },
    "hide_again": {
        "of all positions": from_the_start,
        "shifted by 1": loudest,
        "scored 100": lambda *args: step(*args, known_score=100.0, sign=100),
        "scored 0": lambda *args: step(*args, known_score=0.0),
        "-infinity": lambda *args: step(*args, known_score=-np.inf),
        "argsort three times": lambda *args: step(*args, ranks=3),
        "no argsort": lambda *args: step(*args, ranks=0),
        "the smallest number for all": lambda x, d, c, left, m: step(x, d, c, jnp.full_like(left, left.min()), m),
        "the drawn token hidden": lambda x, d, c, left, m: jnp.where(step(x, d, c, left, m) == m, m, d),
        "-1 for [MASK]": lambda x, d, c, left, m: jnp.where(step(x, d, c, left, m) == m, -1, step(x, d, c, left, m)),
        "flat": lambda *args: step(*args).reshape(len(args[0]), -1),
        "floats": lambda *args: step(*args).astype(float),
        "ties from the end": lambda x, d, c, left, m: step(
            x[:, ::-1, ::-1], d[:, ::-1, ::-1], c[:, ::-1, ::-1], left, m
        )[:, ::-1, ::-1],
        "column by column": lambda x, d, c, left, m: line_by_line(
            *(array.swapaxes(1, 2) for array in (x, d, c)), left, m
        ).swapaxes(1, 2),
        "the mask": lambda *args: step(*args) == args[-1],
        "over the batch": lambda x, d, c, left, m: step(x[None, 0], d[None, 0], c[None, 0], left[:1], m).repeat(
            len(x), 0
        ),
    },
    "noise_strengths": {
        "a cosine": lambda steps, tau: tau * np.cos(np.pi / 2 * np.arange(1, steps + 1) / steps),
        "squared": lambda steps, tau: tau * (1 - np.arange(1, steps + 1) / steps) ** 2,
        "a root": lambda steps, tau: tau * np.sqrt(1 - np.arange(1, steps + 1) / steps),
        "a constant factor": lambda steps, tau: tau * (1 - 1 / steps) ** np.arange(1, steps + 1),
        "to T + 1": lambda steps, tau: tau * (1 - np.arange(1, steps + 1) / (steps + 1)),
        "to T - 1": lambda steps, tau: tau * (1 - np.arange(1, steps + 1) / max(steps - 1, 1)),
        "backwards": lambda steps, tau: fading(steps, tau)[::-1],
        "12 steps": lambda steps, tau: fading(12, tau)[:steps],
        "4.5": lambda steps, tau: fading(steps, 4.5),
        "rounded": lambda steps, tau: fading(steps, tau).round(1),
        "divided": lambda steps, tau: tau / np.arange(1, steps + 1),
        "squared temperature": lambda steps, tau: fading(steps, tau**2),
        "the last forgotten": lambda steps, tau: fading(steps, tau)[:-1],
        "one number": lambda steps, tau: float(fading(steps, tau)[0]),
        "a generator": lambda steps, tau: (tau * (1 - s / steps) for s in range(1, steps + 1)),
    },
    "touched_tokens": {
        "seven": with_codes,
        "without mask_id": lambda x, m: (x[1:] != x[:-1]).sum((1, 2)) - (x[1:] == x.max()).sum((1, 2)),
        "a difference of numbers": lambda x, m: np.abs(np.diff((x == m).sum((1, 2)))),
        "means": lambda x, m: touched(x, m).mean((1, 2)),
        "the first image": lambda x, m: touched(x, m)[:, 0].sum(-1),
        "bools": lambda x, m: touched(x, m).any((1, 2)),
        "smaller ids": lambda x, m: ((x[:-1] < m) & (x[1:] != x[:-1])).sum((1, 2)),
        "distances": lambda x, m: (touched(x, m) * np.abs(x[1:] - x[:-1])).sum((1, 2)),
        "one state more": lambda x, m: np.append(0, touched(x, m).sum((1, 2))),
        "all but the last step": lambda x, m: touched(x, m)[:-1].sum((1, 2)),
        "the given ones": lambda x, m: ((x[:1] != m) & (x[1:] != x[:-1])).sum((1, 2)),
        "each token once": lambda x, m: (touched(x, m) & (touched(x, m).cumsum(0) == 1)).sum((1, 2)),
        "changes its argument": lambda x, m: (np.not_equal(x, m, out=x, casting="unsafe"), np.zeros(len(x) - 1, int))[
            1
        ],
        "backwards": lambda x, m: touched(x, m).sum((1, 2))[::-1],
    },
    "waits_and_work": {**NOT_LETTERS, "with a bracket": lambda: "d)", "bytes": lambda: b"d"},
}


def by_search(p, u, tau):
    def one(p, u):
        sums = jnp.cumsum(jax.nn.softmax(jnp.log(p) / tau))
        token = jnp.clip(jnp.searchsorted(sums, u * sums[-1], side="right"), 0, len(p) - 1)
        return token, p[token]

    return jax.vmap(jax.vmap(one))(p, u)


def by_argmax(p, u, tau):
    weights = jnp.power(p, 1 / tau)
    sums = weights.cumsum(-1)
    above = (sums > u[..., None] * sums[..., -1:]).at[..., -1].set(True)
    tokens = above.argmax(-1)
    return [tokens, jnp.sum(p * jax.nn.one_hot(tokens, p.shape[-1]), -1)]


def by_sorting(tokens, drawn, confidence, left, mask_id):
    """By positions in the order of their confidence, picture by picture."""

    def one(tokens, drawn, confidence, left):
        known = tokens != mask_id
        order = jnp.argsort(jnp.where(known, jnp.inf, confidence))
        hide = jnp.zeros(len(tokens), bool).at[order].set(jnp.arange(len(tokens)) < left)
        return jnp.select([hide, known], [jnp.full_like(tokens, mask_id), tokens], drawn)

    flat = (array.reshape(len(tokens), -1) for array in (tokens, drawn, confidence))
    return jax.vmap(one)(*flat, left).reshape(tokens.shape)


def by_pairs(tokens, drawn, confidence, left, mask_id):
    """The rank is the number of positions that come before."""
    hidden = (tokens == mask_id).reshape(len(tokens), -1)
    score = jnp.where(hidden, confidence.reshape(hidden.shape), 1e30)
    i = jnp.arange(score.shape[1])
    one, two = score[:, :, None], score[:, None, :]
    rank = ((two < one) | ((two == one) & (i[None, :] < i[:, None]))).sum(-1)
    again = (hidden & (rank < left[:, None])).reshape(tokens.shape)
    return jnp.where(again, mask_id, jnp.where(tokens == mask_id, drawn, tokens))


UNUSUAL = {
    "draw_by_cdf": {"a binary search": by_search, "the first above": by_argmax},
    "hide_again": {"by sorting": by_sorting, "by pairs": by_pairs},
    "noise_strengths": {
        "a list": lambda steps, tau: [tau * (steps - s) / steps for s in range(1, steps + 1)],
        "linspace": lambda steps, tau: np.linspace(tau, 0, steps + 1)[1:],
        "jnp": lambda steps, tau: tau - tau / steps * jnp.arange(1, steps + 1),
    },
    "touched_tokens": {
        "lists": lambda x, m: [int(((a != m) & (a != b)).sum()) for a, b in zip(x, x[1:])],
        "jnp": lambda x, m: jnp.count_nonzero(
            (jnp.asarray(x)[:-1] != m) & (jnp.diff(jnp.asarray(x), axis=0) != 0), axis=(1, 2)
        ),
        "all minus the others": lambda x, m: (
            x[0].size - ((x[:-1] == m) | (x[:-1] == x[1:])).reshape(len(x) - 1, -1).sum(1)
        ),
    },
    "waits_and_work": {"a capital": lambda: "D", "numpy's text": lambda: np.str_(" d")},
}
