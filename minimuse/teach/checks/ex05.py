"""Exercises 05: the masked transformer."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, close, exercise, numbers, pair, same, unless

LN2 = np.log(2)


@exercise(points=3)
def hidden_loss(answer: Callable) -> None:
    """logits float [B, N, K], tokens int [B, N], mask bool [B, N] -> float: mean cross-entropy at hidden positions."""
    # Probabilities 1/2, 1/4, 1/8, 1/8 everywhere, so the codes cost 1, 2, 3, 3 times ln 2. Hidden: 1 | 2, 3, 3.
    logits = np.broadcast_to(np.log([4.0, 2, 1, 1]), (2, 3, 4)).copy()
    tokens, mask = np.array([[0, 3, 1], [1, 2, 3]]), np.array([[True, False, False], [True, True, True]])
    got = numbers(call(answer, logits, tokens, mask))
    unless(
        got,
        {
            "This is the mean over all positions. Known tokens are in the input, so they test nothing: count only "
            "the hidden positions.": 14 / 6 * LN2,
            "The sum over the hidden positions is right, but it is divided by B N, which includes known positions. "
            "Divide by the number of hidden ones.": 9 / 6 * LN2,
            "This is a mean per image, then a mean of those. Take one mean over all hidden positions of the batch, "
            "so that each of them counts the same.": (1 + 8 / 3) / 2 * LN2,
            "The known positions are counted, and the hidden ones are not. The mask is True where a position is "
            "hidden.": 2.5 * LN2,
            "This is a sum. Divide it by the number of hidden positions in the whole batch.": 9 * LN2,
            "This is a sum, divided by B. Divide it by the number of hidden positions in the whole batch.": 4.5 * LN2,
            "The sign is missing: the logarithm of a probability is negative, and the loss is minus that.": -2.25 * LN2,
            "These are bits. Take the natural logarithm, `np.log`, not `np.log2`.": 2.25,
            "Logits are not log-probabilities yet. Subtract the logarithm of the sum of exp over the position's "
            "logits, so that the probabilities sum to 1.": -0.75 * LN2,
        },
    )
    same(got, 2.25 * LN2, "the probabilities 1/2, 1/4, 1/8, 1/8, with the codes 0, 1, 2 and 3 hidden")
    for seed, (b, n, k) in enumerate([(1, 1, 2), (1, 6, 5), (4, 15, 11)]):
        rng = np.random.default_rng(seed)
        logits, tokens = 3 * rng.normal(size=(b, n, k)), rng.integers(0, k, (b, n))
        mask = rng.random((b, n)) < 0.6
        mask[0, 0] = True
        costs = []
        for i, j in np.argwhere(mask):
            raised = [math.exp(logit) for logit in logits[i, j]]
            costs.append(math.log(sum(raised) / raised[tokens[i, j]]))
        got = numbers(call(answer, logits, tokens, mask))
        same(got, np.mean(costs), f"random logits of shape {[b, n, k]} and {len(costs)} hidden positions")
    logits = np.array([[[2000.0, 1999.0], [-2000.0, -1999.0]]])
    value = call(answer, logits, np.zeros((1, 2), int), np.ones((1, 2), bool))
    if not_finite(value):
        raise Wrong(
            "With logits of 2,000 the loss is not finite: exp(2,000) is too large to store. Subtract each position's "
            "largest logit first; that does not change the probabilities."
        )
    same(
        numbers(value),
        math.log1p(math.e) - 0.5,
        "two positions with two codes, logits 2,000 and 1,999, -2,000 and -1,999",
    )


def not_finite(value: Any) -> bool:
    """Whether a value of any shape holds infinities or nan; False for what is not numeric."""
    try:
        return not np.isfinite(np.asarray(value, float)).all()
    except (TypeError, ValueError):
        return False


@exercise(points=4)
def read_caption(answer: Callable) -> None:
    """q float [B, N, d], k and v float [B, S, d], text_mask bool [B, S] -> float [B, N, d]."""
    # By hand: d = 4, so scores are q k / 2. Their exp is 3, 1, 4 and 1, 7, 8; the third text token is padding. The
    # values are one-hot, so the result is the weights.
    raised = np.array([[3.0, 1, 4], [1, 7, 8]])
    q, k = 2 * np.eye(2, 4)[None], np.pad(np.log(raised).T, ((0, 0), (0, 2)))[None]
    v, mask = np.eye(3, 4)[None], np.array([[True, True, False]])
    shown = raised * mask
    padded = lambda weights: np.pad(weights, ((0, 0), (0, 1)))[None]
    expected = padded(np.array([[3 / 4, 1 / 4, 0], [1 / 8, 7 / 8, 0]]))
    got = numbers(call(answer, q, k, v, mask), (1, 2, 4))
    unless(
        got,
        {
            "Padding gets attention: its weight must be 0. Where `text_mask` is False, make the score so low that "
            "its exp is 0.": padded(raised / raised.sum(-1, keepdims=True)),
            "The weight of padding is 0, but the others do not sum to 1: they were masked after the softmax. Mask "
            "the scores before it.": padded(shown / raised.sum(-1, keepdims=True)),
            "The scores of padding were set to 0. But exp(0) is 1, a real weight. Make them very low.": padded(
                np.where(mask, raised, 1) / np.where(mask, raised, 1).sum(-1, keepdims=True)
            ),
            "Only padding gets attention. `text_mask` is True for text and False for padding.": padded(
                1.0 - mask.repeat(2, 0)
            ),
            "The scores are not divided by √d, so the largest gets too much weight.": padded(
                shown**2 / (shown**2).sum(-1, keepdims=True)
            ),
            "The scores are divided by d. Divide by its square root.": padded(
                shown**0.5 / (shown**0.5).sum(-1, keepdims=True)
            ),
            "The softmax goes over the image tokens, so the weights of each text token sum to 1. Each image token "
            "must divide its attention among the text tokens: the softmax goes over the last axis of the scores "
            "[B, N, S].": padded(shown / raised.sum(0)),
        },
        right=expected,
    )
    same(got, expected, "two image tokens whose scores have exp 3, 1 and 1, 7, and one-hot values")

    v = np.array([[[4.0, 4, 4, 4], [8, 8, 8, 8], [3, 3, 3, 3]]])
    value = call(answer, q, k, v, np.zeros((1, 3), bool))
    if not_finite(value):
        raise Wrong(
            "A row without text gives values that are not finite: 0 divided by 0, perhaps. Such a row must give "
            "zeros. Use a low but finite score for padding, and multiply by whether there is any text."
        )
    got = numbers(value, (1, 2, 4))
    if np.ptp(got) < 1e-6 < abs(got[0, 0, 0]):
        raise Wrong(
            f"A row without text gives {got[0, 0, 0]:g}, made of its padding: where all scores are equally low, the "
            "softmax still distributes a total weight of 1. Such a row must give zeros: multiply by whether there is "
            "any text."
        )
    same(got, np.zeros((1, 2, 4)), "a row without any text")

    for seed, (b, n, s, d) in enumerate([(1, 1, 1, 1), (1, 6, 3, 2), (4, 5, 7, 3), (3, 2, 4, 16)]):
        rng = np.random.default_rng(seed)
        q, k, v = (rng.normal(size=(b, length, d)) for length in (n, s, s))
        mask = np.arange(s) < rng.integers(1, s + 1, (b, 1))
        mask[-1] &= b < 3  # the last of three or four rows has no text
        expected = np.zeros((b, n, d))
        for i, j in np.ndindex(b, n):
            raised = {t: math.exp(math.fsum(q[i, j] * k[i, t]) / math.sqrt(d)) for t in range(s) if mask[i, t]}
            for t, weight in raised.items():
                expected[i, j] += weight / sum(raised.values()) * v[i, t]
        about = f"random q [{b}, {n}, {d}] and {s} text tokens, of which {mask.sum(1).tolist()} are not padding"
        got = numbers(call(answer, q, k, v, mask), (b, n, d))
        if b > 1 and close(got[0], expected[0]) and not close(got, expected):
            raise Wrong(f"For {about}, the first row is right and some others are not. Each row has its own text mask.")
        same(got, expected, about)


@exercise(points=3)
def masked_batch(answer: Callable) -> None:
    """tokens int [B, N], hidden bool [B, N], mask_id int -> what the model sees int [B, N], what counts bool [B, N]."""
    for seed, (b, n, mask_id) in enumerate([(2, 6, 16), (1, 15, 5), (3, 64, 1024)]):
        rng = np.random.default_rng(seed)
        tokens, hidden = rng.integers(1, mask_id - 1, (b, n)), rng.random((b, n)) < 0.4
        hidden[0, :2] = True, False
        inputs, counted = pair(call(answer, tokens, hidden, mask_id), "return inputs, counted")
        inputs, counted = numbers(inputs, (b, n), "int"), numbers(counted, (b, n), "bool")
        unless(
            inputs,
            {
                "Known tokens became [MASK], and those to be predicted are shown: kept and masked are still "
                "swapped.": np.where(hidden, tokens, mask_id),
                "Hidden positions hold 0. But 0 is a code like any other: the id of [MASK] is `mask_id`.": np.where(
                    hidden, 0, tokens
                ),
                "The model sees all tokens unchanged. The hidden ones must become [MASK].": tokens,
                "All positions became [MASK]. Those that are not hidden keep their tokens.": np.full((b, n), mask_id),
                "Hidden positions hold `mask_id` - 1, the last code. [MASK] is one past the codebook: `mask_id` "
                "itself.": np.where(hidden, mask_id - 1, tokens),
            },
        )
        if (inputs[hidden] == inputs[hidden][0]).all() and inputs[hidden][0] != mask_id:
            raise Wrong(
                f"Hidden positions hold {inputs[hidden][0]} for every `mask_id`; here it is {mask_id}. Use the "
                "argument."
            )
        expected = [[mask_id if hidden[i, j] else tokens[i, j] for j in range(n)] for i in range(b)]
        same(inputs, expected, f"shape {[b, n]} and mask_id = {mask_id}, what the model sees")
        if counted.all():
            raise Wrong("What the model sees is right. But all positions still count, and known tokens can be copied.")
        if (counted != hidden).all():
            raise Wrong("What the model sees is right. But the known positions count, and the hidden ones do not.")
        same(counted, hidden, f"shape {[b, n]}, which positions count")


@exercise(points=2)
def drop_some_captions(answer: Callable) -> None:
    """text_mask bool [B, S], rate float, rng numpy Generator -> bool [B, S]; rows without a caption are all False."""
    b, s = 4000, 7
    mask = np.arange(s) < np.random.default_rng(0).integers(1, s + 1, (b, 1))
    for seed, rate in enumerate((0.1, 0.25, 0.9)):
        got = numbers(call(answer, mask, rate, np.random.default_rng(seed)), (b, s), "bool")
        if (got & ~mask).any():
            raise Wrong("Some padding became True. Rows that keep their caption stay unchanged, padding included.")
        lost = ~got.any(1)
        share = lost.mean()
        if (got != mask)[~lost].any():
            raise Wrong(
                "Some rows lost part of their caption. Drop a whole caption or nothing of it: draw one random number "
                "per row, with shape [B, 1]."
            )
        if share in (0, 1):
            raise Wrong(
                f"Of {b:,} captions at rate {rate:g}, {'all' if share else 'none'} are gone. Draw one random number "
                "per row, not one for the batch."
            )
        if abs(share - (1 - rate)) < 0.04:
            raise Wrong(
                f"At rate {rate:g}, {share:.0%} of the captions are gone: it is still inverted. A caption is dropped "
                "where its random number is below the rate, and kept otherwise."
            )
        if abs(share - rate) > 0.04:
            raise Wrong(f"At rate {rate:g}, {share:.0%} of {b:,} captions are gone. It should be {rate:.0%}.")
    for shape in ((1, 5), (6, 1), (30, 2)):
        some = np.ones(shape, bool)
        none, all_ = (numbers(call(answer, some, rate, np.random.default_rng(3)), shape, "bool") for rate in (0.0, 1.0))
        if not none.all() or all_.any():
            raise Wrong(
                "At rate 0 every caption must stay, and at rate 1 every caption must go; that does not hold yet."
            )
    one, again, third = (numbers(call(answer, mask, 0.5, np.random.default_rng(i)), (b, s), "bool") for i in (1, 1, 2))
    if (one != again).any():
        raise Wrong("The same rng drops different captions each time. Take all random numbers from `rng`.")
    if (one == third).all():
        raise Wrong("A different rng drops the same captions. Take the numbers from `rng`, not from a fixed seed.")


@exercise(points=1)
def why_lower_loss(answer: Callable) -> None:
    """No arguments -> the letter "a", "b", "c" or "d"."""
    chosen(
        answer,
        "c",
        {
            "a": (
                "A mean does not fall with the count. With ten times as many hidden positions, A's would stay the "
                "same. What matters is which positions are added."
            ),
            "b": (
                "This would be a reason, but it was ruled out: both give hidden tokens the same probabilities. The "
                "loss differs although the models are equally good."
            ),
            "d": (
                "All hidden positions count the same, in A and in B: a sum over all of them, divided by one number. "
                "Look at the positions that only B counts."
            ),
        },
    )
