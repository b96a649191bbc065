"""Exercises 08: guidance."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, compare, compiles, describe, exercise, in_any_order, pair


def _halves(logits: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both halves of logits [2 B, N, K], and t as [B, 1, 1]."""
    logits, b = np.asarray(logits, float), len(t)
    return logits[:b], logits[b:], np.asarray(t, float).reshape(b, 1, 1)


def _guided(logits: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Equation 1, image by image."""
    conditional, unconditional, _ = _halves(logits, t)
    rows = zip(conditional, unconditional, np.asarray(t, float))
    return np.stack([c + scale * (c - u) for c, u, scale in rows])


def _as_if(f: Callable) -> Callable:
    """A mistake as a function of logits and t: f of both halves and t [B, 1, 1]."""
    return lambda logits, t: f(*_halves(logits, t))


GUIDANCE_MISTAKES = {
    "This pushes away from the captions: the halves are swapped. The first B rows are those with captions.": (
        _as_if(lambda c, u, t: u + t * (u - c))
    ),
    "This is l_u + t (l_c - l_u), where t = 1 means no guidance. In equation 1, t = 0 means no guidance.": (
        _as_if(lambda c, u, t: u + t * (c - u))
    ),
    "Both halves are added. Equation 1 subtracts the unconditional half: - t l_u.": (
        _as_if(lambda c, u, t: (1 + t) * c + t * u)
    ),
    "This is (1 + t) l_c - l_u: the unconditional half has lost its factor t.": _as_if(lambda c, u, t: (1 + t) * c - u),
    "This is t l_c - t l_u, only the difference. The conditional logits themselves are missing: 1 + t.": (
        _as_if(lambda c, u, t: t * (c - u))
    ),
    "Rows 0 and 1 are treated as one image, and rows 2 and 3 as the next. The halves come one after the other: row b "
    "belongs to row B + b.": lambda logits, t: (
        np.asarray(logits)[::2] + np.reshape(t, (-1, 1, 1)) * (np.asarray(logits)[::2] - np.asarray(logits)[1::2])
    ),
    "These are only the logits with captions. Where is t?": _as_if(lambda c, u, t: c),
    "All images get the scale of the first one. Each has a scale of its own.": (
        _as_if(lambda c, u, t: c + t[:1] * (c - u))
    ),
    "All images get the mean of the scales. Each has a scale of its own.": (
        _as_if(lambda c, u, t: c + t.mean() * (c - u))
    ),
}


@exercise(points=2)
def guided_logits(answer: Callable) -> None:
    """logits float [2 B, N, K], the half with captions first; t float [B], one scale per image -> float [B, N, K]."""
    cases = [(jnp.array([[[1.0, 2, 0]], [[0, 2, 1.0]]]), jnp.array([2.0]))]
    for seed, shape in enumerate([(2, 3, 5), (3, 4, 2)]):
        rng = np.random.default_rng(seed)
        logits, t = rng.normal(size=(2 * shape[0], *shape[1:])), rng.uniform(0.5, 8, shape[0]).round(2)
        t[:1] *= seed % 2  # t = 0 among others
        cases.append((jnp.asarray(logits, jnp.float32), jnp.asarray(t, jnp.float32)))
    compare(answer, cases, _guided, GUIDANCE_MISTAKES)
    compiles(answer, *cases[1])


def _batches() -> list[tuple]:
    """Arguments of caption_batch. Where there is no negative caption, `negative` is "" or holds what is left over."""
    batches = []
    for seed, has in enumerate([[False], [True], [False, True, False], [False, False], [True] * 4, [True, False] * 2]):
        rng, b, s = np.random.default_rng(seed), len(has), 5 + seed % 2
        text, negative = rng.normal(size=(2, b, s, 4))
        text_mask, negative_mask = rng.random((2, b, s)) < 0.6  # padding may stand anywhere
        text_mask[:, seed % s] = negative_mask[:, 0] = True  # at least an end token
        if seed == 2:
            negative_mask[:] = np.arange(s) == 0  # a negative caption of one token, and two that are ""
        batches.append((text, text_mask, negative, negative_mask, np.array(has)))
    return batches


def _masks(text: Any, text_mask: Any, negative: Any, negative_mask: Any, has_negative: Any) -> np.ndarray:
    rows = [mask if has else np.zeros_like(mask) for mask, has in zip(negative_mask, has_negative)]
    return np.stack([*text_mask, *rows])


MASK_MISTAKES = {
    "Without a negative caption, the end token of the empty text is visible. The transformer was trained on masks that "
    "are all False there: clear those rows.": lambda x, m, y, n, has: np.concatenate([m, n]),
    "The second half never sees anything, so negative captions do nothing. Clear only the rows of images that have "
    "none.": lambda x, m, y, n, has: np.concatenate([m, n & False]),
    "The half without captions sees the captions' mask. Where the texts are the same, too, t has no effect.": (
        lambda x, m, y, n, has: np.concatenate([m, m])
    ),
    "The halves are swapped. The captions go first.": lambda *given: np.roll(_masks(*given), len(given[4]), 0),
    "The rows of the halves alternate. Put the second half after the first: row b and row B + b are one image.": (
        lambda *given: np.reshape(_masks(*given), (2, *np.shape(given[1]))).swapaxes(0, 1).reshape(-1, len(given[1][0]))
    ),
    "It is inverted: the rows of images that have a negative caption were cleared, and the others were not.": (
        lambda x, m, y, n, has: np.concatenate([m, n & ~has[:, None]])
    ),
    "If one image has a negative caption, all rows of the second half are visible. Decide for each image.": (
        lambda x, m, y, n, has: np.concatenate([m, n & has.any()])
    ),
    "The first image decides for all. Decide for each image.": lambda x, m, y, n, has: np.concatenate([m, n & has[0]]),
    "You conclude from `negative_mask` which images have a negative caption. Only `has_negative` says so.": (
        lambda x, m, y, n, has: np.concatenate([m, n & (n.sum(1) > 1)[:, None]])
    ),
    "Images without a negative caption get their caption in the second half. They must not see any text there.": (
        lambda x, m, y, n, has: np.concatenate([m, np.where(has[:, None], n, m)])
    ),
}
TEXT_MISTAKES = {
    "The masks are right, but the second half's text is that of the captions. It must be the negative captions.": (
        lambda x, *_: np.concatenate([x, x])
    ),
    "The masks are right, but the texts of the two halves are swapped.": (lambda x, m, y, *_: np.concatenate([y, x])),
}


@exercise(points=3)
def caption_batch(answer: Callable) -> None:
    """text, negative float [B, S, D], their masks bool [B, S], has_negative bool [B] -> [2 B, S, D], bool [2 B, S]."""
    cases = _batches()
    compare(answer, cases, _masks, MASK_MISTAKES, kind="bool", read=lambda value: pair(value, "return text, mask")[1])

    def visible(text: Any, *given: Any) -> np.ndarray:
        """The text that can be seen, and 0 elsewhere."""
        return np.where(_masks(text, *given)[..., None], text_of(text, *given), 0)

    def text_of(text: Any, text_mask: Any, negative: Any, *_: Any) -> np.ndarray:
        return np.stack([*text, *negative])

    def seen(value: Any) -> np.ndarray:
        text, mask = np.asarray(value[0]), np.asarray(value[1])
        return np.where(mask[..., None], text, 0) if text.shape[:2] == mask.shape else text

    def as_seen(mistake: Callable) -> Callable:
        return lambda *given: np.where(_masks(*given)[..., None], mistake(*given), 0)

    mistakes = {paragraph: as_seen(mistake) for paragraph, mistake in TEXT_MISTAKES.items()}
    compare(answer, cases, visible, mistakes, read=seen)


def _end(t: float, left: np.ndarray, n: int) -> float:
    """The end of the ramp: each token with the scale of its step."""
    scales, hidden = [], n
    for step, now in enumerate(left):
        scales += [(step + 1) / len(left)] * int(hidden - now)
        hidden = now
    return t / (sum(scales) / n)


def _weighted(t: float, weights: np.ndarray, first: int = 1) -> float:
    """The end of a ramp whose mean with these weights is t."""
    return t / (np.asarray(weights) * (np.arange(len(weights)) + first)).sum() * len(weights)


RAMP_MISTAKES = {
    "That is the mean of a ramp that ends at t. Return the end of a ramp whose mean is t; it is more than t.": (
        lambda t, left, n: t / _end(1.0, left, n)
    ),
    "Every step counts the same. But late steps reveal more tokens than early ones: weight each step by the tokens "
    "that it reveals.": lambda t, left, n: _weighted(t, np.ones(len(left)) / len(left)),
    "The steps are weighted by the tokens that they leave hidden. Weight them by those that they reveal.": (
        lambda t, left, n: _weighted(t, np.array(left) / n)
    ),
    "The steps are weighted by the tokens that they leave hidden, divided by the sum of these. Weight them by those "
    "that they reveal.": lambda t, left, n: _weighted(t, np.array(left) / max(1, np.sum(left))),
    "The tokens of the first step are missing: n minus the number hidden after it.": (
        lambda t, left, n: _weighted(t, -np.diff(left, prepend=left[0]) / n)
    ),
    "Here the scale begins at 0, or each step has the tokens of the next one (`append` for `prepend`). At step s, "
    "counted from 0, the scale is (s + 1) / T of its end, for the tokens that were hidden before and are not after "
    "it.": lambda t, left, n: _weighted(t, -np.diff(left, prepend=n) / n, first=0),
    "This divides by a sum over tokens, not by their mean. How many tokens are there?": (
        lambda t, left, n: _end(t, left, n) / n
    ),
    "That is t itself: a ramp that ends there is below t at all steps but the last.": lambda t, left, n: t,
    "The ramp begins with its largest scale and falls. It should rise.": (
        lambda t, left, n: _weighted(t, -np.diff(left, prepend=n)[::-1] / n)
    ),
}


@exercise(points=3)
def ramp_end(answer: Callable) -> None:
    """t float, left int [T], n int -> float: where a linear ramp ends whose mean over the n tokens is t."""
    cases: list[tuple] = [(1.75, [3, 0], 4), (0.5, [9, 7, 3, 0], 10), (3.0, [5, 4, 3, 2, 1, 0], 6), (2.5, [2, 1, 0], 9)]
    cases += [(4.0, [62, 59, 53, 45, 35, 24, 12, 0], 64), (3.0, [0], 7), (0.0, [3, 0], 4)]
    compare(answer, [(t, np.array(left), n) for t, left, n in cases], _end, RAMP_MISTAKES)


@exercise(points=2)
def first_step_of_s(answer: Callable) -> None:
    """No arguments -> a letter: what the first step samples from if s = 4 (step + 1) / 8."""
    chosen(
        answer,
        "b",
        {
            "a": "That would be s = 1, which this ramp reaches at its second step. At the first step s is 0.5.",
            "c": (
                "Both factors, 1 - s and s, are 0.5: nothing is subtracted. To push away from the caption, s would "
                "have to be below 0."
            ),
            "d": "That adds one where it should be subtracted: s = 1 + t, so t = s - 1 = -0.5.",
        },
    )


def a_model(seed: int, k: int, d: int) -> Callable:
    """A toy transformer of k codes, with captions of width d. It notices visible text tokens even if they are zero."""
    codes, words = (np.random.default_rng(seed).normal(size=(rows, k)) for rows in (k + 1, d))

    def model(tokens: np.ndarray, text: np.ndarray, text_mask: np.ndarray) -> np.ndarray:
        caption = np.tanh(((text + 0.7) * text_mask[..., None]).sum(1, keepdims=True) @ words)
        return codes[tokens] + 0.3 * codes[tokens].mean(1, keepdims=True) + caption

    return model


def a_program(fault: str, way: int) -> Callable:
    """A program with this fault, written in one of two ways."""

    def program(model: Callable, tokens: np.ndarray, text: np.ndarray, text_mask: np.ndarray, t: float) -> np.ndarray:
        empty = text_mask if fault == "caption seen" else np.zeros_like(text_mask)
        both = model(np.tile(tokens, (2, 1)), np.tile(text, (2, 1, 1)), np.concatenate([text_mask, empty]))
        c, u = np.split(both, 2)[:: -1 if fault == "swapped" else 1]
        s = t if fault == "off by one" else 1 + t
        return u + s * (c - u) if way else s * c - (s - 1) * u

    return program


FAULTS = ("sound", "swapped", "caption seen", "off by one")
CONFUSED = {  # which are confused: why
    frozenset([frozenset(("sound", "caption seen")), frozenset(("swapped", "off by one"))]): (
        "Some programs that give the same result at t = 0 are confused: there a sound one and one whose caption is "
        "seen both give l_c, and the other two give l_u. Try a second t."
    ),
    frozenset([frozenset(("caption seen", "off by one"))]): (
        "Programs whose caption is seen and those off by one are confused. At t = 1 both give l_c. Try a second t, or "
        "a different one."
    ),
    frozenset([frozenset(("sound", "swapped"))]): (
        "Sound and swapped programs are confused. A sound one moves away from l_u, beyond l_c. Is your l_u computed "
        "with a mask that is all False?"
    ),
}


def _named(answer: Callable) -> list[tuple[str, str]]:
    """The fault of each program, and what the answer calls it."""
    programs, faults = [], []
    for seed, (b, n, s, k) in enumerate([(2, 6, 3, 5), (1, 4, 1, 3), (3, 2, 5, 8)]):
        rng, model = np.random.default_rng(seed), a_model(seed, k, 4)
        tokens, text = rng.integers(0, k + 1, (b, n)), rng.normal(size=(b, s, 4))
        text_mask = np.arange(s) < rng.integers(1, s + 1, (b, 1))
        faults += FAULTS
        programs += [(a_program(fault, seed % 2), model, tokens, text, text_mask) for fault in FAULTS]

    def name(program: tuple) -> str:
        got = call(answer, *program)
        if not isinstance(got, str) or str.__str__(got) not in FAULTS:
            names = ", ".join(f'"{name}"' for name in FAULTS)
            raise Wrong(
                f"It returned {describe(got)}; return one of {names}. If nothing matched, compare with a tolerance, as "
                "np.allclose does, because sums are rounded."
            )
        return str.__str__(got)

    return [*zip(faults, in_any_order(name, programs))]


@exercise(points=3)
def guidance_fault(answer: Callable) -> None:
    """program(model, tokens, text, text_mask, t), model(tokens, text, text_mask), tokens, text, text_mask -> str."""
    returned = _named(answer)
    wrong = Counter(pair for pair in returned if pair[0] != pair[1])
    if not wrong:
        return
    if len({got for _, got in returned}) == 1:
        raise Wrong(
            f'It returns "{returned[0][1]}" for every program. Compare the output with l_c and l_u of the model; '
            "for l_u the mask must be all False."
        )
    pairs = {frozenset(pair) for pair in wrong}
    for confused, paragraph in CONFUSED.items():
        if pairs <= confused:
            raise Wrong(paragraph)
    (fault, got), count = wrong.most_common(1)[0]
    raise Wrong(
        f'{sum(wrong.values())} of {len(returned)} programs are not identified. The most frequent error is "{got}" '
        f'for one that is "{fault}". Is your l_u that of a mask that is all False, with the text as it is? Write down '
        "what each of the four gives at t = 2, in l_c and l_u."
    )


def _p(l_c: Any, l_u: Any, t: Any, axis: int = -1) -> np.ndarray:
    """Guided probabilities in float64."""
    l_c, l_u, t = (np.asarray(value, float) for value in (l_c, l_u, t))
    logits = (1 + t) * l_c - t * l_u
    raised = np.exp(logits - logits.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


def _slopes(l_c: Any, l_u: Any, t: Any, p: Callable = _p, h: float = 1e-5) -> np.ndarray:
    """The slopes of the guided probabilities by a central difference."""
    t = np.asarray(t, float)
    return (p(l_c, l_u, t + h) - p(l_c, l_u, t - h)) / (2 * h)


SLOPE_MISTAKES = {
    "These are the guided probabilities. Return how fast they change with t.": _p,
    "These are the slopes of the guided logits, l_c - l_u. Return those of the probabilities: softmax first, then the "
    "derivative.": lambda l_c, l_u, t: np.asarray(l_c - l_u),
    "These are the slopes of the log probabilities. Return those of the probabilities.": (
        lambda l_c, l_u, t: _slopes(l_c, l_u, t, lambda *given: np.log(_p(*given)))
    ),
    "These are the slopes at t = 0. Return those at t.": lambda l_c, l_u, t: _slopes(l_c, l_u, 0.0),
    "Here t is used as s, in l_u + s (l_c - l_u). In equation 1, the logits are (1 + t) l_c - t l_u.": (
        lambda l_c, l_u, t: _slopes(l_c, l_u, t - 1)
    ),
    "l_c and l_u are swapped.": lambda l_c, l_u, t: _slopes(l_u, l_c, t),
    "The signs are opposite: codes that become more likely must have a positive slope.": (
        lambda l_c, l_u, t: -_slopes(l_c, l_u, t)
    ),
    "The softmax goes over the first axis. The codes are on the last one.": (
        lambda l_c, l_u, t: _slopes(l_c, l_u, t, lambda *given: _p(*given, axis=0))
    ),
    "All slopes are 0: that is the derivative of the sum of all probabilities, which is always 1. Take the derivative "
    "of each: `jax.jacfwd`.": lambda l_c, l_u, t: 0 * np.asarray(l_c),
    "The sum of the slopes of a position must be 0, since its probabilities always sum to 1. Here p is multiplied by "
    "l_c - l_u; subtract the mean of l_c - l_u under p first.": (
        lambda l_c, l_u, t: _p(l_c, l_u, t) * np.asarray(l_c - l_u)
    ),
}


@exercise(points=3)
def guided_slopes(answer: Callable) -> None:
    """l_c, l_u float [..., K], t float -> float [..., K]: the derivative of each guided probability in t."""
    cases = []
    for seed, (shape, t) in enumerate([((3,), 0.5), ((2, 4), 2.0), ((2, 4), 1.25), ((2, 4), 0.0), ((2, 2, 3), 3.0)]):
        l_c, l_u = np.random.default_rng(seed).normal(size=(2, *shape))
        cases.append((jnp.asarray(l_c, jnp.float32), jnp.asarray(l_u, jnp.float32), jnp.float32(t)))
    compare(answer, cases, _slopes, SLOPE_MISTAKES)
    l_c, l_u = np.array([[300.0, 299, -200, 0], [-300, -300.5, -301, -900]]), np.array([[290, 289.5, 250, 0]] * 2)
    large = jnp.asarray(l_c, jnp.float32), jnp.asarray(l_u, jnp.float32), jnp.float32(1.0)
    got = np.asarray(call(answer, *large), float)
    if not np.isfinite(got).all():
        raise Wrong(
            "Logits of 300 give inf or nan: exp(300) is too large for float32. `jax.nn.softmax` subtracts the "
            "largest logit first."
        )
    compare(answer, [large], _slopes, tolerance=1e-3)
    compiles(answer, *cases[1])
