"""Exercises 08: guidance."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, describe, exercise, numbers, pair, same, unless


@exercise(points=2)
def guided_logits(answer: Callable) -> None:
    """logits float [2 B, N, K], the half with captions first; t float -> float [B, N, K]."""
    c, u, t = *np.random.default_rng(0).normal(size=(2, 2, 3, 5)), 2.5
    logits = np.concatenate([c, u])
    got, difference = numbers(call(answer, logits, t), c.shape), c - u
    unless(
        got,
        {
            "This pushes away from the captions: the halves are swapped. The first B rows are those with captions.": u
            - t * difference,
            "This is l_u + t (l_c - l_u), where t = 1 means no guidance. In equation 1, t = 0 means no guidance.": u
            + t * difference,
            "Both halves are added. Equation 1 subtracts the unconditional half: - t l_u.": (1 + t) * c + t * u,
            "This is t (l_c - l_u), only the difference. The conditional logits themselves are missing: 1 + t.": t
            * difference,
            "Rows 0 and 1 are treated as one image, and rows 2 and 3 as the next. The halves come one after the "
            "other: row b belongs to row B + b.": logits[::2] + t * (logits[::2] - logits[1::2]),
            "These are only the logits with captions. Where is t?": c,
        },
    )
    by_hand = numbers(call(answer, np.array([[[1.0, 2, 0]], [[0, 2, 1.0]]]), 2.0), (1, 1, 3))
    same(by_hand, [[[3, 2, -2]]], "l_c = [1, 2, 0], l_u = [0, 2, 1] and t = 2")
    for seed, shape in enumerate([(1, 4, 7), (3, 6, 2)]):
        c, u = np.random.default_rng(seed).normal(size=(2, *shape))
        logits = np.concatenate([c, u])
        none, some = (numbers(call(answer, logits, t), shape) for t in (0.0, 4.0))
        same(none, c, "t = 0, where guidance changes nothing")
        same((some - none) / 4, c - u, "the change from t = 0 to t = 4, divided by 4")


@exercise(points=3)
def caption_batch(answer: Callable) -> None:
    """text, negative float [B, S, D], their masks bool [B, S], has_negative bool [B] -> [2 B, S, D], bool [2 B, S]."""
    for seed, has in ((0, [False, True, False]), (1, [False]), (2, [True]), (3, [False, False]), (4, [True] * 4)):
        rng, has, b, s = np.random.default_rng(seed), np.array(has), len(has), 6
        text, negative = rng.normal(size=(2, b, s, 4))
        own = np.arange(s) < rng.integers(3, s + 1, (b, 1))
        other = np.arange(s) < np.where(has, rng.integers(2, s, b), 1)[:, None]  # "" has an end mark
        got_text, got_mask = pair(call(answer, text, own, negative, other, has), "return text, mask")
        got_text, got_mask = numbers(got_text, (2 * b, s, 4)), numbers(got_mask, (2 * b, s), "bool")
        nothing = np.zeros_like(own)
        second = np.where(has[:, None], other, nothing)
        expected = np.concatenate([own, second])
        unless(
            got_mask,
            {
                "Without a negative caption, the end mark of the empty text is visible. The transformer was "
                "trained on masks that are all False there: clear those rows.": np.concatenate([own, other]),
                "The second half never sees anything, so negative captions do nothing. Clear only the rows of "
                "images that have none.": np.concatenate([own, nothing]),
                "The half without captions sees the captions' mask. Then both halves are the same, and t has no "
                "effect.": np.concatenate([own, own]),
                "The halves are swapped. The captions go first.": np.concatenate([second, own]),
                "The rows of the halves alternate. Put the second half after the first: row b and row B + b are "
                "one image.": np.stack([own, second], 1).reshape(2 * b, s),
                "It is inverted: the rows of images that have a negative caption were cleared, and the others were "
                "not.": np.concatenate([own, np.where(has[:, None], nothing, other)]),
            },
            right=expected,
        )
        same(got_mask, expected, f"has_negative = {has.tolist()}, the mask")
        seen = expected[..., None]
        unless(
            got_text * seen,
            {
                "The masks are right, but the second half's text is that of the captions. It must be the negative "
                "captions.": np.concatenate([text, text]) * seen,
                "The masks are right, but the texts of the two halves are swapped.": np.concatenate([negative, text])
                * seen,
            },
            right=np.concatenate([text, negative]) * seen,
        )
        same(got_text * seen, np.concatenate([text, negative]) * seen, f"has_negative = {has.tolist()}, the text seen")


RAMPS = [  # left, n, and the mean over the tokens of a ramp that ends at 1
    ([62, 59, 53, 45, 35, 24, 12, 0], 64, 0.69140625),
    ([9, 7, 3, 0], 10, 0.725),
    ([3, 0], 4, 0.875),
    ([5, 4, 3, 2, 1, 0], 6, 7 / 12),
    ([0], 64, 1.0),
]


@exercise(points=3)
def ramp_end(answer: Callable) -> None:
    """t float, left int [T], n int -> float: where a linear ramp ends whose mean over the n tokens is t."""
    for left, n, mean in RAMPS:
        for t in (0.5, 3.0):
            left, steps = np.array(left), len(left)
            got = numbers(call(answer, t, left, n))
            hidden = (np.arange(1, steps + 1) / steps * left).sum()
            late = mean - (n - left[0]) / steps / n  # without the first step's tokens
            mistakes = {
                "That is the mean of a ramp that ends at t. Return the end of a ramp whose mean is t; it is more "
                "than t.": t * mean,
                "Every step counts the same. But late steps reveal more tokens than early ones: weight each step "
                "by the tokens that it reveals.": t * 2 * steps / (steps + 1),
                "The steps are weighted by the tokens that they leave hidden. Weight them by those that they reveal.": t
                * n
                / max(hidden, 1e-9),
                "The tokens of the first step are missing: n minus the number hidden after it.": t / max(late, 1e-9),
                "This ramp begins at 0. At step s, counted from 0, Muse's is at (s + 1) / T of its end.": t
                / max(mean - 1 / steps, 1e-9),
                "This divides by a sum over tokens, not by their mean. How many tokens are there?": t / (mean * n),
                "That is t itself: a ramp that ends there is below t at all steps but the last.": t,
            }
            unless(got, mistakes, right=t / mean)
            same(got, t / mean, f"t = {t:g}, left = {left.tolist()} and n = {n}")
    same(numbers(call(answer, 0.0, np.array([3, 0]), 4)), 0.0, "t = 0")


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
    """A toy transformer of k codes, with captions of width d."""
    codes, words = (np.random.default_rng(seed).normal(size=(rows, k)) for rows in (k + 1, d))

    def model(tokens: np.ndarray, text: np.ndarray, text_mask: np.ndarray) -> np.ndarray:
        caption = np.tanh((text * text_mask[..., None]).sum(1, keepdims=True) @ words)
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


@exercise(points=3)
def guidance_fault(answer: Callable) -> None:
    """program(model, tokens, text, text_mask, t), model(tokens, text, text_mask), tokens, text, text_mask -> str."""
    returned = []
    for seed, (b, n, s, k) in enumerate([(2, 6, 3, 5), (1, 4, 1, 3), (3, 2, 5, 8)]):
        rng, model = np.random.default_rng(seed), a_model(seed, k, 4)
        tokens, text = rng.integers(0, k + 1, (b, n)), rng.normal(size=(b, s, 4))
        text_mask = np.arange(s) < rng.integers(1, s + 1, (b, 1))
        for fault in FAULTS:
            got = call(answer, a_program(fault, seed % 2), model, tokens, text, text_mask)
            if not isinstance(got, str) or got not in FAULTS:
                names = ", ".join(f'"{name}"' for name in FAULTS)
                raise Wrong(
                    f"It returned {describe(got)} for a program that is {fault!r}; return one of {names}. If nothing "
                    "matched, compare with a tolerance, as np.allclose does, because sums are rounded."
                )
            returned.append((fault, got))
    wrong = Counter(pair for pair in returned if pair[0] != pair[1])
    if not wrong:
        return
    if len({got for _, got in returned}) == 1:
        raise Wrong(
            f'It returns "{returned[0][1]}" for every program. Compare the output with l_c and l_u of the model; '
            "for l_u the mask must be all False."
        )
    pairs = {frozenset(pair) for pair in wrong}
    if pairs <= {frozenset(("sound", "caption seen")), frozenset(("swapped", "off by one"))}:
        raise Wrong(
            "Some programs that give the same result at t = 0 are confused: there a sound one and one whose caption "
            "is seen both give l_c, and the other two give l_u. Try a second t."
        )
    if pairs == {frozenset(("caption seen", "off by one"))}:
        raise Wrong(
            "Programs whose caption is seen and those off by one are confused. At t = 1 both give l_c. Try a second "
            "t, or a different one."
        )
    if pairs == {frozenset(("sound", "swapped"))}:
        raise Wrong(
            "Sound and swapped programs are confused. A sound one moves away from l_u, beyond l_c. Is your l_u "
            "computed with a mask that is all False?"
        )
    (fault, got), count = wrong.most_common(1)[0]
    raise Wrong(
        f'{sum(wrong.values())} of {len(returned)} programs are not identified. The most frequent error is "{got}" '
        f'for one that is "{fault}". Write down what each of the four gives at t = 2, in l_c and l_u.'
    )
