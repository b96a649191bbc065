"""Wrong answers to exercises 08."""

import numpy as np


def ramp(t, left, n, first=1, weights=lambda left, n: -np.diff(left, prepend=n)):
    part = (np.arange(len(left)) + first) / len(left)
    return t * n / max((weights(left, n) * part).sum(), 1e-6)


def halves(logits):
    return np.split(logits, 2)


def batch(text, text_mask, negative, negative_mask):
    return np.concatenate([text, negative]), np.concatenate([text_mask, negative_mask])


def interleaved(text, mask, negative, negative_mask, has):
    text, mask = batch(text, mask, negative, negative_mask & has[:, None])
    order = np.arange(len(text)).reshape(2, -1).T.reshape(-1)
    return text[order], mask[order]


def opinions(model, tokens, text, text_mask):
    return model(tokens, text, text_mask), model(tokens, text, np.zeros_like(text_mask))


def by_t(t, names, empty=np.zeros_like):
    """The name whose expected result at t is nearest; names: {name: how far from l_u to l_c}."""

    def answer(program, model, tokens, text, text_mask):
        c, u = model(tokens, text, text_mask), model(tokens, text, empty(text_mask))
        got = program(model, tokens, text, text_mask, t)
        return min(names, key=lambda name: np.abs(u + names[name] * (c - u) - got).max())

    return answer


def exactly(program, model, tokens, text, text_mask):
    c, u = opinions(model, tokens, text, text_mask)
    got = program(model, tokens, text, text_mask, 2.0)
    names = {"sound": 3 * c - 2 * u, "swapped": 3 * u - 2 * c, "caption seen": c, "off by one": 2 * c - u}
    return next((name for name, logits in names.items() if (logits == got).all()), None)


WRONG = {
    "guided_logits": {
        "halves exchanged": (lambda x, t: (1 + t) * halves(x)[1] - t * halves(x)[0], "halves are swapped"),
        "t taken for s": (lambda x, t: (1 - t) * halves(x)[1] + t * halves(x)[0], "l_u + t (l_c - l_u)"),
        "both added": (lambda x, t: (1 + t) * halves(x)[0] + t * halves(x)[1], "added"),
        "only the difference": (lambda x, t: t * (halves(x)[0] - halves(x)[1]), "only the difference"),
        "neighbours as a pair": (lambda x, t: (1 + t) * x[::2] - t * x[1::2], "one after the other"),
        "no guidance": (lambda x, t: halves(x)[0], "Where is t"),
        "both halves back": (lambda x, t: (1 + t) * x, "shape"),
    },
    "caption_batch": {
        "the end mark seen": (lambda x, m, y, n, has: batch(x, m, y, n), "end mark"),
        "negatives never seen": (lambda x, m, y, n, has: batch(x, m, y, n & False), "never sees anything"),
        "the captions' mask twice": (lambda x, m, y, n, has: batch(x, m, y, m), "t has no effect"),
        "halves exchanged": (lambda x, m, y, n, has: batch(y, n & has[:, None], x, m), "go first"),
        "rows in turns": (interleaved, "alternate"),
        "all or none": (lambda x, m, y, n, has: batch(x, m, y, n & has.any()), "end mark"),
        "the first decides": (lambda x, m, y, n, has: batch(x, m, y, n & has[0]), "never sees anything"),
        "the wrong rows": (lambda x, m, y, n, has: batch(x, m, y, n & ~has[:, None]), "inverted"),
        "the captions' text twice": (lambda x, m, y, n, has: batch(x, m, x, n & has[:, None]), "that of the captions"),
        "texts exchanged": (
            lambda x, m, y, n, has: (batch(y, m, x, n)[0], batch(x, m, y, n & has[:, None])[1]),
            "texts of",
        ),
        "only the text": (lambda x, m, y, n, has: np.concatenate([x, y]), "two values"),
    },
    "ramp_end": {
        "the mean": (lambda t, left, n: t * t / ramp(t, left, n), "mean of a ramp that ends at t"),
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
        "a sum": (lambda t, left, n: ramp(t, left, n) / n, "a sum over tokens"),
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
        "l_u with the caption": (
            by_t(2.0, {"sound": 3, "swapped": -2, "caption seen": 1, "off by one": 2}, empty=np.copy),
            "for every program",
        ),
        "s = t + 2": (by_t(2.0, {"sound": 4, "swapped": -2, "caption seen": 1, "off by one": 3}), "gives at t = 2"),
    },
}
