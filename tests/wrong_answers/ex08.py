"""Wrong answers to exercises 08: WRONG with words of their messages, REFUSED, and UNUSUAL ones that are right."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import Equal

# --- guided_logits ----------------------------------------------------------------------------------------------------


def guided(f):
    """f of both halves and t [B, 1, 1]."""
    return lambda logits, t: f(*jnp.split(logits, 2), t[:, None, None])


def neighbours(logits, t):
    return (1 + t)[:, None, None] * logits[::2] - t[:, None, None] * logits[1::2]


def by_numpy(logits, t):
    c, u = np.split(np.asarray(logits), 2)
    return c + np.asarray(t)[:, None, None] * (c - u)


def by_einsum(logits, t):
    weights = jnp.stack([1 + t, -t])  # [2, B]
    return jnp.einsum("hb,hbnk->bnk", weights, logits.reshape(2, -1, *logits.shape[1:]))


# --- caption_batch ----------------------------------------------------------------------------------------------------


def batch(text, text_mask, negative, negative_mask):
    return np.concatenate([text, negative]), np.concatenate([text_mask, negative_mask])


def right_batch(text, mask, negative, negative_mask, has):
    return batch(text, mask, negative, negative_mask & has[:, None])


def interleaved(*given):
    text, mask = right_batch(*given)
    order = np.arange(len(text)).reshape(2, -1).T.reshape(-1)
    return text[order], mask[order]


def in_place(text, mask, negative, negative_mask, has):
    negative_mask[~has] = False
    return batch(text, mask, negative, negative_mask)


def by_loop(text, mask, negative, negative_mask, has):
    rows = [row if there else [False] * len(row) for row, there in zip(negative_mask.tolist(), has)]
    return [*text.tolist(), *negative.tolist()], np.array([*mask.tolist(), *rows])


# --- ramp_end ---------------------------------------------------------------------------------------------------------


def ramp(t, left, n, first=1, weights=lambda left, n: -np.diff(left, prepend=n), steps=len):
    part = (np.arange(len(left)) + first) / steps(left)
    return t * n / max((weights(left, n) * part).sum(), 1e-6)


def token_by_token(t, left, n):
    step_of = [sum(1 for hidden in left if hidden > token) for token in range(n)]
    return t / np.mean([(step + 1) / len(left) for step in step_of])


# --- guidance_fault ---------------------------------------------------------------------------------------------------


def opinions(model, tokens, text, text_mask):
    return model(tokens, text, text_mask), model(tokens, text, np.zeros_like(text_mask))


def by_t(t, names, empty=lambda text, mask: (text, np.zeros_like(mask))):
    """The name whose expected result at t is nearest; names: {name: how far from l_u to l_c}."""

    def answer(program, model, tokens, text, text_mask):
        c, u = model(tokens, text, text_mask), model(tokens, *empty(text, text_mask))
        got = program(model, tokens, text, text_mask, t)
        return min(names, key=lambda name: np.abs(u + names[name] * (c - u) - got).max())

    return answer


AT_2 = {"sound": 3, "swapped": -2, "caption seen": 1, "off by one": 2}


def exactly(program, model, tokens, text, text_mask):
    c, u = opinions(model, tokens, text, text_mask)
    got = program(model, tokens, text, text_mask, 2.0)
    names = {"sound": 3 * c - 2 * u, "swapped": 3 * u - 2 * c, "caption seen": c, "off by one": 2 * c - u}
    return next((name for name, logits in names.items() if (logits == got).all()), None)


def by_two(program, model, tokens, text, text_mask):
    """By t = 0 and whether t has an effect."""
    c, _ = opinions(model, tokens, text, text_mask)
    none, some = (program(model, tokens, text, text_mask, t) for t in (0.0, 1.0))
    at_c, moves = np.allclose(none, c), not np.allclose(none, some)
    return ("sound" if moves else "caption seen") if at_c else "off by one" if np.allclose(some, c) else "swapped"


def by_fit(program, model, tokens, text, text_mask):
    """By least squares on l_c - l_u, at a large t."""
    c, u = opinions(model, tokens, text, text_mask)
    by = (c - u).ravel()
    far = ((program(model, tokens, text, text_mask, 10.0) - u).ravel() @ by) / (by @ by)
    return {11: "sound", -10: "swapped", 1: "caption seen", 10: "off by one"}[round(float(far))]


def from_one_number(program, model, tokens, text, text_mask):
    """By means over everything."""
    c, u = (x.mean() for x in opinions(model, tokens, text, text_mask))
    got = program(model, tokens, text, text_mask, 2.0).mean()
    return "sound" if got > c else "swapped" if got < u else "caption seen" if np.isclose(got, c) else "off by one"


# --- guided_slopes ----------------------------------------------------------------------------------------------------


def p_of(l_c, l_u, axis=-1):
    return lambda t: jax.nn.softmax((1 + t) * l_c - t * l_u, axis=axis)


def slopes(l_c, l_u, t):
    return jax.jacfwd(p_of(l_c, l_u))(t)


def difference(l_c, l_u, t, h=0.1):
    return (p_of(l_c, l_u)(t + h) - p_of(l_c, l_u)(t)) / h


def overflowing(l_c, l_u, t):
    def p(t):
        raised = jnp.exp((1 + t) * l_c - t * l_u)
        return raised / raised.sum(-1, keepdims=True)

    return jax.jacfwd(p)(t)


def by_formula(l_c, l_u, t):
    p, gain = p_of(l_c, l_u)(t), l_c - l_u
    return p * (gain - (p * gain).sum(-1, keepdims=True))


def one_by_one(l_c, l_u, t):
    every = [jax.grad(lambda t, i=i: p_of(l_c, l_u)(t).reshape(-1)[i])(t) for i in range(l_c.size)]
    return jnp.stack(every).reshape(l_c.shape)


WRONG = {
    "guided_logits": {
        "halves exchanged": (guided(lambda c, u, t: (1 + t) * u - t * c), "halves are swapped"),
        "t taken for s": (guided(lambda c, u, t: (1 - t) * u + t * c), "l_u + t (l_c - l_u)"),
        "both added": (guided(lambda c, u, t: (1 + t) * c + t * u), "added"),
        "l_u without t": (guided(lambda c, u, t: (1 + t) * c - u), "lost its factor t"),
        "only the difference": (guided(lambda c, u, t: t * (c - u)), "only the difference"),
        "neighbours as a pair": (neighbours, "one after the other"),
        "no guidance": (guided(lambda c, u, t: c), "Where is t"),
        "the first scale for all": (guided(lambda c, u, t: c + t[:1] * (c - u)), "a scale of its own"),
        "the mean scale": (guided(lambda c, u, t: c + t.mean() * (c - u)), "mean of the scales"),
        "scales along the codes": (lambda x, t: x[: len(t)] + t * (x[: len(t)] - x[len(t) :]), "broadcasting"),
        "both halves back": (lambda x, t: jnp.tile(1 + t, 2)[:, None, None] * x, "shape"),
        "numpy": (by_numpy, "cannot compile"),
    },
    "caption_batch": {
        "the end token seen": (lambda x, m, y, n, has: batch(x, m, y, n), "end token"),
        "negatives never seen": (lambda x, m, y, n, has: batch(x, m, y, n & False), "never sees anything"),
        "the captions' mask twice": (lambda x, m, y, n, has: batch(x, m, y, m), "t has no effect"),
        "halves exchanged": (lambda x, m, y, n, has: batch(y, n & has[:, None], x, m), "go first"),
        "rows in turns": (interleaved, "alternate"),
        "all or none": (lambda x, m, y, n, has: batch(x, m, y, n & has.any()), "one image has"),
        "the first decides": (lambda x, m, y, n, has: batch(x, m, y, n & has[0]), "first image decides"),
        "the wrong rows": (lambda x, m, y, n, has: batch(x, m, y, n & ~has[:, None]), "inverted"),
        "by the length of the mask": (
            lambda x, m, y, n, has: batch(x, m, y, n & (n.sum(1) > 1)[:, None]),
            "Only `has_negative`",
        ),
        "captions where none is negative": (
            lambda x, m, y, n, has: batch(x, m, np.where(has[:, None, None], y, x), np.where(has[:, None], n, m)),
            "must not see any text",
        ),
        "the captions' text twice": (lambda x, m, y, n, has: batch(x, m, x, n & has[:, None]), "that of the captions"),
        "texts exchanged": (lambda x, m, y, n, has: batch(y, m, x, n & has[:, None]), "texts of"),
        "only the text": (lambda x, m, y, n, has: np.concatenate([x, y]), "two values"),
        "changes its argument": (in_place, "changes its argument"),
    },
    "ramp_end": {
        "the mean": (lambda t, left, n: t / ramp(1, left, n), "mean of a ramp that ends at t"),
        "equal steps": (
            lambda t, left, n: t / np.mean((np.arange(len(left)) + 1) / len(left)),
            "every step counts the same",
        ),
        "weighed by what is hidden": (
            lambda t, left, n: ramp(t, left, n, weights=lambda left, n: left),
            "leave hidden",
        ),
        "the first step forgotten": (
            lambda t, left, n: ramp(t, left, n, weights=lambda left, n: -np.diff(left, prepend=left[0])),
            "tokens of the first step",
        ),
        "from 0": (lambda t, left, n: ramp(t, left, n, first=0), "begins at 0"),
        "append for prepend": (
            lambda t, left, n: ramp(t, left, n, weights=lambda left, n: -np.diff(left, append=0)),
            "`append` for `prepend`",
        ),
        "a sum": (lambda t, left, n: ramp(t, left, n) / n, "a sum over tokens"),
        "falling": (
            lambda t, left, n: ramp(t, left, n, weights=lambda left, n: -np.diff(left, prepend=n)[::-1]),
            "falls",
        ),
        "t": (lambda t, left, n: t, "t itself"),
        "a scale a step": (lambda t, left, n: t * np.arange(1, len(left) + 1), "shape"),
    },
    "first_step_of_s": {
        "a": (lambda: "a", "second step"),
        "c": (lambda: "C", "below 0"),
        "d": (lambda: "d", "s = 1 + t"),
        "no letter": (lambda: "half", "one of the letters"),
    },
    "guidance_fault": {
        "only t = 0": (by_t(0.0, {"sound": 1, "swapped": 0}), "second t"),
        "only t = 1": (by_t(1.0, {"sound": 2, "swapped": -1, "off by one": 1}), "At t = 1 both give l_c"),
        "sound and swapped exchanged": (
            by_t(2.0, {"swapped": 3, "sound": -2, "caption seen": 1, "off by one": 2}),
            "beyond l_c",
        ),
        "always the same": (lambda *given: "sound", "for every program"),
        "without tolerance": (exactly, "with a tolerance"),
        "a name of one's own": (lambda *given: "ok", "return one of"),
        "l_u with the caption": (by_t(2.0, AT_2, empty=lambda text, mask: (text, mask)), "for every program"),
        "zeros for the text": (by_t(2.0, AT_2, empty=lambda text, mask: (0 * text, mask)), "all False"),
        "s = t + 2": (by_t(2.0, {"sound": 4, "swapped": -2, "caption seen": 1, "off by one": 3}), "gives at t = 2"),
    },
    "guided_slopes": {
        "the probabilities": (lambda l_c, l_u, t: p_of(l_c, l_u)(t), "how fast they change"),
        "of the logits": (lambda l_c, l_u, t: l_c - l_u, "of the guided logits"),
        "of the logarithms": (
            lambda l_c, l_u, t: jax.jacfwd(lambda t: jnp.log(p_of(l_c, l_u)(t)))(t),
            "of the log probabilities",
        ),
        "at 0": (lambda l_c, l_u, t: slopes(l_c, l_u, 0.0), "at t = 0"),
        "t taken for s": (lambda l_c, l_u, t: slopes(l_c, l_u, t - 1), "used as s"),
        "exchanged": (lambda l_c, l_u, t: slopes(l_u, l_c, t), "swapped"),
        "the sign": (lambda l_c, l_u, t: -slopes(l_c, l_u, t), "signs are opposite"),
        "the first axis": (lambda l_c, l_u, t: jax.jacfwd(p_of(l_c, l_u, 0))(t), "first axis"),
        "of the sum": (
            lambda l_c, l_u, t: jnp.full(l_c.shape, jax.grad(lambda t: p_of(l_c, l_u)(t).sum())(t)),
            "always 1",
        ),
        "no mean taken off": (lambda l_c, l_u, t: p_of(l_c, l_u)(t) * (l_c - l_u), "must be 0"),
        "one number": (lambda l_c, l_u, t: jax.grad(lambda t: p_of(l_c, l_u)(t).sum())(t), "shape"),
        "overflow": (overflowing, "too large for float32"),
        "numpy": (lambda l_c, l_u, t: np.array(by_formula(*map(np.asarray, (l_c, l_u, t)))), "cannot compile"),
    },
}


LETTERS = {
    "a bracket": lambda: "b)",
    "a sentence": lambda: "b: the mean of both",
    "two letters": lambda: "ab",
    "all letters": lambda: "a, b, c, d",
    "a list": lambda: ["b"],
    "bytes": lambda: b"b",
    "a number": lambda: 1,
    "another letter": lambda: "e",
    "nothing": lambda: None,
    "empty": lambda: "",
    "a function": lambda: LETTERS,
    "equal to everything": lambda: Equal("a"),
}
REFUSED = {
    "guided_logits": {
        "the mean of both": guided(lambda c, u, t: (c + u) / 2),
        "only without captions": guided(lambda c, u, t: u),
        "halves averaged by t": guided(lambda c, u, t: (c + t * u) / (1 + t)),
        "twice the scale": guided(lambda c, u, t: c + 2 * t * (c - u)),
        "half of the scale": guided(lambda c, u, t: c + t / 2 * (c - u)),
        "the scale rounded": guided(lambda c, u, t: c + jnp.round(t) * (c - u)),
        "normalized": guided(lambda c, u, t: jax.nn.log_softmax(c + t * (c - u))),
        "probabilities": guided(lambda c, u, t: jax.nn.softmax(c + t * (c - u))),
        "the scales reversed": guided(lambda c, u, t: c + t[::-1] * (c - u)),
        "for one image": lambda x, t: ((1 + t) * x[0] - t * x[1])[None],
        "rounded to integers": guided(lambda c, u, t: jnp.round(c + t * (c - u))),
        "positions and codes swapped": guided(lambda c, u, t: jnp.swapaxes(c + t * (c - u), 1, 2)),
    },
    "caption_batch": {
        "numbers for the mask": lambda x, m, y, n, has: (
            np.concatenate([x, y]),
            np.concatenate([m, n & has[:, None]]).astype(int),
        ),
        "the mask first": lambda *given: right_batch(*given)[::-1],
        "side by side": lambda *given: tuple(np.concatenate(np.split(part, 2), axis=1) for part in right_batch(*given)),
        "along the text": lambda x, m, y, n, has: batch(x, m, y, np.resize(has, n.shape) & n),
        "the first token kept": lambda x, m, y, n, has: batch(
            x, m, y, n & (has[:, None] | (np.arange(n.shape[1]) == 0))
        ),
        "the last token cleared": lambda x, m, y, n, has: batch(
            x, m, y, n & has[:, None] & (np.arange(n.shape[1]) < n.shape[1] - 1)
        ),
        "captions cleared": lambda x, m, y, n, has: batch(x, m & has[:, None], y, n & has[:, None]),
        "all tokens visible": lambda x, m, y, n, has: batch(x, m | True, y, (n | True) & has[:, None]),
        "only one half": lambda x, m, y, n, has: (y, n & has[:, None]),
        "masked text, no masks": lambda x, m, y, n, has: batch(x, m, y * has[:, None, None], n),
        "both masks required": lambda x, m, y, n, has: batch(x, m, y, n & m & has[:, None]),
        "as many as the captions": lambda x, m, y, n, has: batch(
            x, m, y, (np.arange(n.shape[1]) < n.sum(1)[:, None]) & has[:, None]
        ),
    },
    "ramp_end": {
        "steps one too many": lambda t, left, n: ramp(t, left, n, steps=lambda left: len(left) + 1),
        "steps one too few": lambda t, left, n: ramp(t, left, n, steps=lambda left: max(1, len(left) - 1)),
        "two early": lambda t, left, n: ramp(t, left, n, first=2),
        "of 64 always": lambda t, left, n: ramp(t, left, 64),
        "n forgotten": lambda t, left, n: ramp(t, left, left[0] + 1),
        "twice the scale": lambda t, left, n: 2 * t,
        "rounded": lambda t, left, n: round(float(ramp(t, left, n)), 1),
        "a ramp from 1": lambda t, left, n: 1 + (t - 1) * ramp(1, left, n),
        "the mean of the ends": lambda t, left, n: (t + ramp(t, left, n)) / 2,
        "a list": lambda t, left, n: [ramp(t, left, n)],
        "squared weights": lambda t, left, n: ramp(t, left, n, weights=lambda left, n: np.diff(left, prepend=n) ** 2),
        "only the last step": lambda t, left, n: t * n / max(1, -np.diff(left, prepend=n)[-1]),
        "exact for the example": lambda t, left, n: t / 0.875,
    },
    "first_step_of_s": LETTERS,
    "guidance_fault": {
        "zeros for the text, mask off for c": by_t(2.0, AT_2, empty=lambda text, mask: (0 * text, mask | True)),
        "half of the mask": by_t(2.0, AT_2, empty=lambda text, mask: (text, mask & (np.arange(mask.shape[1]) > 0))),
        "two names exchanged": by_t(2.0, AT_2 | {"swapped": 2, "off by one": -2}),
        "at t = -1": by_t(-1.0, {"sound": 0, "swapped": 1, "off by one": -1}),
        "three names": by_t(2.0, {name: AT_2[name] for name in ("sound", "swapped", "off by one")}),
        "capitals": lambda *given: by_t(2.0, AT_2)(*given).capitalize(),
        "underscores": lambda *given: by_t(2.0, AT_2)(*given).replace(" ", "_"),
        "a number": lambda *given: [*AT_2].index(by_t(2.0, AT_2)(*given)),
        "by means": from_one_number,
        "a list": lambda *given: [by_t(2.0, AT_2)(*given)],
        "always swapped": lambda *given: "swapped",
        "equal to everything": lambda *given: Equal("sound"),
        "nothing": lambda *given: None,
    },
    "guided_slopes": {
        "a coarse difference": difference,
        "a coarse difference on both sides": lambda l_c, l_u, t: (
            (p_of(l_c, l_u)(t + 0.5) - p_of(l_c, l_u)(t - 0.5)) / 1.0
        ),
        "absolute values": lambda l_c, l_u, t: abs(slopes(l_c, l_u, t)),
        "second derivatives": lambda l_c, l_u, t: jax.jacfwd(jax.jacfwd(p_of(l_c, l_u)))(t),
        "by the logits with a caption": lambda l_c, l_u, t: jax.grad(lambda l_c: p_of(l_c, l_u)(t)[..., 0].sum())(l_c),
        "p (1 - p)": lambda l_c, l_u, t: p_of(l_c, l_u)(t) * (1 - p_of(l_c, l_u)(t)),
        "the mean not weighted": lambda l_c, l_u, t: (
            p_of(l_c, l_u)(t) * (l_c - l_u - (l_c - l_u).mean(-1, keepdims=True))
        ),
        "the mean of all positions": lambda l_c, l_u, t: (
            p_of(l_c, l_u)(t) * (l_c - l_u - (p_of(l_c, l_u)(t) * (l_c - l_u)).sum())
        ),
        "only the first code": lambda l_c, l_u, t: slopes(l_c, l_u, t) * (jnp.arange(l_c.shape[-1]) == 0),
        "transposed": lambda l_c, l_u, t: slopes(l_c, l_u, t).T,
        "flat": lambda l_c, l_u, t: slopes(l_c, l_u, t).ravel(),
        "per unit of log t": lambda l_c, l_u, t: t * slopes(l_c, l_u, t),
        "clipped logits": lambda l_c, l_u, t: slopes(jnp.clip(l_c, -1, 1), jnp.clip(l_u, -1, 1), t),
    },
}
UNUSUAL = {
    "guided_logits": {
        "slices": lambda x, t: x[: len(t)] + t.reshape(-1, 1, 1) * (x[: len(t)] - x[len(t) :]),
        "einsum": by_einsum,
        "vmap": lambda x, t: jax.vmap(lambda c, u, t: (1 + t) * c - t * u)(x[: len(t)], x[len(t) :], t),
        "a Python loop": lambda x, t: jnp.stack([(1 + t[b]) * x[b] - t[b] * x[len(t) + b] for b in range(len(t))]),
    },
    "caption_batch": {
        "lists and loops": by_loop,
        "jnp": lambda x, m, y, n, has: (
            jnp.concatenate([x, y]),
            jnp.concatenate([m, jnp.where(has[:, None], n, False)]),
        ),
        "nan where nothing is seen": lambda x, m, y, n, has: batch(
            x, m, np.where(has[:, None, None], y, np.nan), n & has[:, None]
        ),
        "multiplied": lambda x, m, y, n, has: [*batch(x, m, y, n * has[:, None])],
    },
    "ramp_end": {
        "token by token": token_by_token,
        "jnp": lambda t, left, n: t * n / (-jnp.diff(left, prepend=n) @ jnp.linspace(1 / len(left), 1, len(left))),
        # Summed by parts: what is hidden after a step waits for a larger scale.
        "by what is hidden": lambda t, left, n: np.float32(t * n * len(left) / (n + sum(int(h) for h in left))),
    },
    "first_step_of_s": {
        "a capital": lambda: "B",
        "spaces": lambda: " b\n",
        "numpy": lambda: np.str_("b"),
    },
    "guidance_fault": {
        "two scales": by_two,
        "least squares": by_fit,
        "a large scale": by_t(9.0, {"sound": 10, "swapped": -9, "caption seen": 1, "off by one": 9}),
    },
    "guided_slopes": {
        "a formula": by_formula,
        "jvp": lambda l_c, l_u, t: jax.jvp(p_of(l_c, l_u), (t,), (jnp.ones_like(t),))[1],
        "reverse mode": lambda l_c, l_u, t: jax.jacrev(p_of(l_c, l_u))(t),
        "code by code": one_by_one,
    },
}
