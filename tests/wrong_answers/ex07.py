"""Wrong answers to exercises 07."""

import numpy as np


def picked(p, tokens):
    return np.take_along_axis(p, np.clip(tokens, 0, p.shape[-1] - 1)[..., None], -1)[..., 0]


def passed(p, u):
    return np.minimum((np.cumsum(p, -1) <= u[..., None]).sum(-1), p.shape[-1] - 1)


def drawn_by(tokens_of, clip=True):
    """An answer that returns the tokens of tokens_of(p, u)."""

    def answer(p, u):
        tokens = tokens_of(p, u)
        return tokens, picked(p, tokens) if clip else np.take_along_axis(p, tokens[..., None], -1)[..., 0]

    return answer


def not_below(p, u):
    return np.minimum((np.cumsum(p, -1) < u[..., None]).sum(-1), p.shape[-1] - 1)


def unclipped(p, u):
    return (np.cumsum(p, -1) <= u[..., None]).sum(-1)


def step(tokens, drawn, confidence, left, mask_id, known_score=np.inf, sign=1, ranks=2, keep=False):
    known = tokens != mask_id
    rank = np.where(known, confidence if known_score is None else known_score, sign * confidence)
    for _ in range(ranks):
        rank = np.argsort(rank, 1)
    left = (~known).sum(1) - left if keep else left
    return np.where(rank < left[:, None], mask_id, np.where(known, tokens, drawn))


def overwritten(tokens, drawn, confidence, left, mask_id):
    hidden = step(tokens, drawn, confidence, left, mask_id) == mask_id
    return np.where(hidden, mask_id, drawn)


def alike(tokens, drawn, confidence, left, mask_id):
    return step(tokens, drawn, confidence, np.full_like(left, left[0]), mask_id)


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
        "the most likely": (drawn_by(lambda p, u: p.argmax(-1)), "most likely"),
        "one too far": (drawn_by(lambda p, u: passed(p, u) + 1), "one code too far"),
        "one too few": (drawn_by(lambda p, u: passed(p, u) - 1), "one code too few"),
        "the sums above u": (drawn_by(lambda p, u: (np.cumsum(p, -1) > u[..., None]).sum(-1)), "sums above u"),
        "no sums": (drawn_by(lambda p, u: (p <= u[..., None]).sum(-1)), "probabilities themselves"),
        "the greatest as confidence": (lambda p, u: (passed(p, u), p.max(-1)), "largest probability"),
        "the sum as confidence": (lambda p, u: (passed(p, u), picked(np.cumsum(p, -1), passed(p, u))), "running sum;"),
        "as great as u": (drawn_by(not_below), "not equal"),
        "past the end": (drawn_by(unclipped), "it returned 10"),
        "an index past the end": (drawn_by(unclipped, clip=False), "IndexError"),
        "only tokens": (passed, "two values"),
    },
    "hide_again": {
        "known ones hidden": (lambda *args: step(*args, known_score=None), "Known tokens were hidden"),
        "known ones overwritten": (overwritten, "replaced"),
        "the most confident": (lambda *args: step(*args, sign=-1), "most confident"),
        "argsort once": (lambda *args: step(*args, ranks=1), "`argsort`"),
        "kept, not hidden": (lambda *args: step(*args, keep=True), "keeps `left`"),
        "the first row's number": (alike, "as many as the first one"),
        "nothing revealed": (lambda tokens, *rest: tokens, "Nothing was revealed"),
        "all revealed": (lambda x, drawn, c, left, m: np.where(x == m, drawn, x), "All hidden"),
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
        "those that stayed": (
            lambda x, m: ((x[:-1] != m) & (x[1:] == x[:-1])).sum((1, 2)),
            "did not change",
        ),
        "those revealed": (
            lambda x, m: ((x[:-1] == m) & (x[1:] != m)).sum((1, 2)),
            "tokens revealed at each step",
        ),
    },
    "waits_and_work": {
        "a": (lambda: "a", "does not wait longer"),
        "b": (lambda: "b", "waiting"),
        "c": (lambda: "c", "only the new position"),
    },
}
