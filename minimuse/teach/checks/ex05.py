"""Exercises 05: the masked transformer."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, compare, compiled, exercise, numbers, pair
from minimuse.teach.checks.tracing import gradient, right_slope, weights


def _log_p(logits: Any, axis: int = -1) -> np.ndarray:
    logits = np.asarray(logits, float)
    logits = logits - logits.max(axis, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis, keepdims=True))


def _loss(logits: Any, tokens: Any, mask: Any, smoothing: float) -> float:
    """Position by position."""
    logits, losses = np.asarray(logits, float), []
    for i, j in np.argwhere(np.asarray(mask)):
        log_p = [logit - max(logits[i, j]) for logit in logits[i, j]]
        total = math.log(math.fsum(map(math.exp, log_p)))
        costs = [total - value for value in log_p]
        losses.append((1 - smoothing) * costs[tokens[i, j]] + smoothing * sum(costs) / len(costs))
    return sum(losses) / len(losses)


def _costs(logits: Any, tokens: Any, smoothing: float, axis: int = -1, log_p: Any = None) -> np.ndarray:
    """The loss of every position [B, N], in one piece."""
    log_p = _log_p(logits, axis) if log_p is None else log_p
    own = -np.take_along_axis(log_p, np.asarray(tokens)[..., None], -1)[..., 0]
    return (1 - smoothing) * own - smoothing * log_p.mean(-1)


def _others_only(logits: Any, tokens: Any, mask: Any, smoothing: float) -> float:
    """The share goes to the K - 1 other codes."""
    own, every, k = _costs(logits, tokens, 0.0), _costs(logits, tokens, 1.0), np.shape(logits)[-1]
    return ((1 - smoothing) * own + smoothing * (every * k - own) / (k - 1))[np.asarray(mask)].mean()


def _hidden(change: Callable) -> Callable:
    """A mistake in the costs: change(costs [B, N], mask [B, N]) -> the loss."""
    return lambda logits, tokens, mask, smoothing: change(_costs(logits, tokens, smoothing), np.asarray(mask))


def _mean_of_means(costs: np.ndarray, mask: np.ndarray) -> Any:
    return np.mean([row[own].mean() for row, own in zip(costs, mask) if own.any()])


LOSS_MISTAKES = {
    "This is the mean over all positions. Known tokens are in the input, so they test nothing: count only the hidden "
    "positions.": _hidden(lambda costs, mask: costs.mean()),
    "The sum over the hidden positions is right, but it is divided by B N, which includes known positions. Divide by "
    "the number of hidden ones.": _hidden(lambda costs, mask: (costs * mask).mean()),
    "This is a mean per image, then a mean of those. Take one mean over all hidden positions of the batch, so that "
    "each of them counts the same.": _hidden(_mean_of_means),
    "The known positions are counted, not the hidden ones, which are True.": _hidden(lambda x, mask: x[~mask].mean()),
    "This is a sum. Divide it by the number of hidden positions.": _hidden(lambda costs, mask: costs[mask].sum()),
    "This is a sum, divided by B. Divide it by the number of hidden positions in the whole batch.": (
        _hidden(lambda costs, mask: costs[mask].sum() / len(mask))
    ),
    "The sign is missing: the logarithm of a probability is negative.": _hidden(lambda x, mask: -x[mask].mean()),
    "These are bits. Take the natural logarithm.": _hidden(lambda costs, mask: costs[mask].mean() / np.log(2)),
    "Logits are not log-probabilities yet. Subtract the logarithm of the sum of exp over the position's logits, so "
    "that the probabilities sum to 1.": lambda logits, tokens, mask, smoothing: _costs(
        logits, tokens, smoothing, log_p=np.asarray(logits, float)
    )[np.asarray(mask)].mean(),
    "The softmax goes over the positions. It goes over the K codes of each position, the last axis.": (
        lambda logits, tokens, mask, smoothing: _costs(logits, tokens, smoothing, axis=1)[np.asarray(mask)].mean()
    ),
    "The label smoothing is missing.": lambda logits, tokens, mask, smoothing: _loss(logits, tokens, mask, 0.0),
    "The share of the smoothing is spread over the other codes only. It goes to all K codes, the true one included.": (
        _others_only
    ),
    "The true code counts with 1, and the smoothing is added to it. It counts with 1 - smoothing.": (
        lambda x, tokens, mask, share: _loss(x, tokens, mask, 0.0) + share * _loss(x, tokens, mask, 1.0)
    ),
}


def _predictions(seed: int, b: int, n: int, k: int, smoothing: float, size: float = 3.0) -> tuple:
    rng = np.random.default_rng(seed)
    mask = rng.random((b, n)) < 0.5
    mask[-1, 0] = True
    logits = jnp.asarray(size * rng.normal(size=(b, n, k)), jnp.float32)
    return logits, jnp.asarray(rng.integers(0, k, (b, n))), jnp.asarray(mask), smoothing


def _finite(paragraph: str) -> Callable[[Any], Any]:
    """For `read`: a value as it is; Wrong, with this paragraph, if it is not finite."""

    def read(value: Any) -> Any:
        if getattr(value, "dtype", None) is not None and not np.isfinite(np.asarray(value, float)).all():
            raise Wrong(paragraph)
        return value

    return read


LARGE_LOGITS = _finite(
    "With logits of 2,000 the loss is not finite: exp(2,000) is too large to store, and the logarithm of a probability "
    "that became 0 is minus infinity. Work with logarithms of probabilities, as `jax.nn.log_softmax` does: subtract "
    "each position's largest logit, then the logarithm of the sum of exp."
)
LARGE_SCORES = _finite(
    "With large scores there are values that are not finite. Subtract each image token's largest score of a real text "
    "token before you take the exponential; `jax.nn.softmax` does that, after the mask."
)


@exercise(points=3)
def hidden_loss(answer: Callable) -> None:
    """logits float [B, N, K], tokens int [B, N], mask bool [B, N], smoothing float -> float, the mean loss in nats."""
    # Probabilities 1/2, 1/4, 1/8, 1/8 everywhere, so the codes cost 1, 2, 3, 3 times ln 2. Hidden: 1 | 2, 3, 3.
    logits = jnp.asarray(np.broadcast_to(np.log([4.0, 2, 1, 1]), (2, 3, 4)))
    tokens, mask = jnp.array([[0, 3, 1], [1, 2, 3]]), jnp.array([[True, False, False], [True, True, True]])
    far = jnp.array([[[2000.0, 0.0], [0.0, -2000.0]]])
    cases = [
        (logits, tokens, mask, 0.0),
        (logits, tokens, mask, 0.4),
        *(_predictions(seed, 2, 3, 4, smoothing) for seed, smoothing in ((0, 0.1), (1, 0.0))),
        *(_predictions(seed, 4, 7, 5, smoothing) for seed, smoothing in ((2, 0.0), (3, 0.1))),
    ]
    large = [
        (far, jnp.array([[0, 1]]), jnp.array([[True, True]]), 0.0),
        (far, jnp.array([[1, 1]]), jnp.array([[True, False]]), 0.0),
        (far, jnp.array([[0, 0]]), jnp.array([[False, True]]), 0.5),
    ]
    program = compiled(answer)
    compare(program, cases, _loss, LOSS_MISTAKES)
    if 4 < numbers(LARGE_LOGITS(call(program, *large[1]))) < 100:
        raise Wrong(
            "Where the true code has the probability exp(-2,000), the loss is too low: a small number is added to the "
            "probabilities before the logarithm. Work with logarithms, as `jax.nn.log_softmax` does."
        )
    compare(program, large, _loss, read=LARGE_LOGITS)
    slope = numbers(gradient(answer)(*cases[-1]), cases[-1][0].shape) / weights(())
    p, own = np.exp(_log_p(cases[-1][0])), np.eye(5)[np.asarray(cases[-1][1])]
    right = (p - 0.9 * own - 0.1 / 5) * np.asarray(cases[-1][2])[..., None] / int(cases[-1][2].sum())
    if not np.allclose(slope, right, atol=1e-4):
        raise Wrong("The value is right, but its gradient with respect to the logits is not.")


def _read(q: Any, k: Any, v: Any, text_mask: Any) -> np.ndarray:
    """Image token by image token."""
    q, k, v, text_mask = (np.asarray(array, float) for array in (q, k, v, text_mask))
    seen = np.zeros(q.shape)
    for i, j in np.ndindex(q.shape[:2]):
        real = np.flatnonzero(text_mask[i])
        scores = {t: math.fsum(q[i, j] * k[i, t]) / math.sqrt(q.shape[-1]) for t in real}
        raised = {t: math.exp(score - max(scores.values())) for t, score in scores.items()}
        seen[i, j] = sum(weight / sum(raised.values()) * v[i, t] for t, weight in raised.items())
    return seen


def _head(
    scale: Callable = lambda n, s, d: math.sqrt(d), low: float = -1e30, afterwards: bool = False, axis: int = -1
) -> Callable:
    """The head with what the common mistakes change."""

    def wrong(q: Any, k: Any, v: Any, text_mask: Any) -> np.ndarray:
        q, k, v, mask = (np.asarray(array) for array in (q, k, v, text_mask))
        scores = q @ k.swapaxes(1, 2) / scale(q.shape[1], k.shape[1], q.shape[2])
        scores = scores if afterwards else np.where(mask[:, None], scores, low)
        raised = np.exp(scores - scores.max(axis, keepdims=True))
        weights = raised / raised.sum(axis, keepdims=True) * (mask[:, None] if afterwards else 1)
        return weights @ v * mask.max(-1)[:, None, None]

    return wrong


NOT_LOW = "The score of padding is not low enough: real scores may be -5,000."
HEAD_MISTAKES = {
    "Padding gets attention: its weight must be 0. Where `text_mask` is False, make the score so low that its exp is "
    "0.": lambda q, k, v, mask: _head()(q, k, v, np.ones_like(mask)) * np.asarray(mask).max(-1)[:, None, None],
    "The weight of padding is 0, but the others do not sum to 1: they were masked after the softmax. Mask the scores "
    "before it.": _head(afterwards=True),
    "The scores of padding were set to 0. But exp(0) is 1, a real weight. Make them very low.": _head(low=0.0),
    "Only padding gets attention. `text_mask` is True for text.": lambda q, k, v, mask: _head()(q, k, v, ~mask),
    "The scores are not divided by √d, so the largest gets too much weight.": _head(lambda n, s, d: 1),
    "The scores are divided by d. Divide by its square root.": _head(lambda n, s, d: d),
    "The scores are divided by √N. d is the last axis of q.": _head(lambda n, s, d: math.sqrt(n)),
    "The scores are divided by √S. d is the last axis of q.": _head(lambda n, s, d: math.sqrt(s)),
    "The softmax goes over the image tokens, so the weights of each text token sum to 1. Each image token must divide "
    "its attention among the text tokens: the softmax goes over the last axis of the scores [B, N, S].": (
        _head(axis=1, afterwards=True)
    ),
    "k and v are exchanged: scores are q · k, and the output is a weighted sum of v.": (
        lambda q, k, v, mask: _read(q, v, k, mask)
    ),
    "All rows use the text mask of the first one. Each row has its own.": (
        lambda q, k, v, mask: _read(q, k, v, np.asarray(mask)[:1].repeat(len(mask), 0))
    ),
    "A row counts as empty if its first text token is padding. Look at all of them: padding may come first.": (
        lambda q, k, v, mask: _read(q, k, v, mask) * np.asarray(mask)[:, :1, None]
    ),
}


def _texts(seed: int, b: int, n: int, s: int, d: int, loud: float = 0.0) -> tuple:
    """q, k, v and a mask: in every second row padding is first. loud: the size of the keys at padding."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(b, length, d)) for length in (n, s, s))
    mask = np.arange(s) < rng.integers(1, s + 1, (b, 1))
    mask[1::2] = mask[1::2, ::-1]
    k[np.logical_not(mask)] += loud
    return *(jnp.asarray(array, jnp.float32) for array in (q, k, v)), jnp.asarray(mask)


def _low(seed: int) -> tuple:
    """Padding in each row, and scores of real text that are lower than -5,000, and exact in float32."""
    q, k, v, mask = _texts(seed, 3, 5, 7, 4)
    mask = mask.at[:, 3].set(False)
    return jnp.ceil(jnp.abs(q)), jnp.where(mask[..., None], jnp.round(k) - 3000, 0), v, mask


@exercise(points=4)
def read_caption(answer: Callable) -> None:
    """q float [B, N, d], k and v float [B, S, d], text_mask bool [B, S] -> float [B, N, d]."""
    # By hand: d = 4, so scores are q k / 2. Their exp is 3, 1, 4 and 1, 7, 8; the third text token is padding. The
    # values are one-hot, so the result is the weights: 3/4, 1/4, 0 and 1/8, 7/8, 0.
    raised = np.array([[3.0, 1, 4], [1, 7, 8]])
    q, k = 2 * jnp.eye(2, 4)[None], jnp.pad(jnp.log(raised).T, ((0, 0), (0, 2)))[None]
    by_hand = (q, k, jnp.eye(3, 4)[None], jnp.array([[True, True, False]]))
    program = compiled(answer)
    compare(
        program, [by_hand, _texts(0, 1, 2, 3, 4), _texts(1, 3, 5, 7, 4), _texts(2, 3, 5, 7, 4)], _read, HEAD_MISTAKES
    )
    empty = (q, k, jnp.full((1, 3, 4), 4.0), jnp.zeros((1, 3), bool))
    if not np.isfinite(value := np.asarray(call(program, *empty), float)).all():
        raise Wrong(
            "A row without text gives values that are not finite: 0 divided by 0, perhaps. Such a row must give "
            "zeros. Use a low but finite score for padding, and multiply by whether there is any text."
        )
    if value.any():
        raise Wrong(
            f"A row without text gives {value[0, 0, 0]:g}, made of its padding: where all scores are equally low, the "
            "softmax still distributes a total weight of 1. Such a row must give zeros: multiply by whether there is "
            "any text."
        )
    q, k, v, mask = _texts(3, 3, 5, 7, 4)
    gone = (q, k, v, mask.at[1].set(False))
    loud = [_texts(4, 3, 5, 7, 4, loud=3000.0), gone, (q, k.at[:, 0].mul(900), v, mask)]
    compare(program, loud, _read, HEAD_MISTAKES, read=LARGE_SCORES)
    compare(program, [_low(3), _low(5)], _read, {NOT_LOW: lambda q, k, v, mask: _read(0 * q, k, v, ~mask)})
    for which in range(3):
        if not np.isfinite(slope := np.asarray(gradient(answer, which)(*gone), float)).all():
            raise Wrong(
                "The values are right, but the gradient is nan for a row without text, and one nan spoils all weights "
                "in training. `jnp.where` does not help after a division 0 / 0: its gradient passes through both "
                "sides. Use a low but finite score, so that nothing is divided by 0."
            )
        right_slope(slope, _read, which, *gone)


@exercise(points=3)
def masked_batch(answer: Callable) -> None:
    """tokens int [B, N], hidden bool [B, N], mask_id int -> what the model sees int [B, N], what counts bool [B, N]."""
    cases = []
    for seed, (b, n, mask_id) in enumerate([(1, 3, 5), (2, 6, 16), (1, 15, 5), (3, 64, 1024)]):
        rng = np.random.default_rng(seed)
        tokens, hidden = rng.integers(1, mask_id - 1, (b, n)), rng.random((b, n)) < 0.4
        hidden[0, :2] = True, False
        cases.append((tokens, hidden, mask_id))
    kinds = [np.asarray(part).dtype.kind for part in pair(call(answer, *cases[0]), "return inputs, counted")]
    if kinds[0] == "b" and kinds[1] in "iu":
        raise Wrong("The two are exchanged: first what the model sees, then which positions count.")
    both = lambda value, part: pair(value, "return inputs, counted")[part]
    compare(
        answer,
        cases,
        lambda tokens, hidden, mask_id: [
            [mask_id if hides else token for token, hides in zip(*rows)] for rows in zip(tokens, hidden)
        ],
        {
            "Known tokens became [MASK], and those to be predicted are shown: kept and masked are still swapped.": (
                lambda tokens, hidden, mask_id: np.where(hidden, tokens, mask_id)
            ),
            "Hidden positions hold 0. But 0 is a code like any other: the id of [MASK] is `mask_id`.": (
                lambda tokens, hidden, mask_id: np.where(hidden, 0, tokens)
            ),
            "The model sees all tokens unchanged. The hidden ones must become [MASK].": lambda tokens, *rest: tokens,
            "All positions became [MASK]. Only hidden ones do.": lambda x, hidden, mask_id: np.full(x.shape, mask_id),
            "Hidden positions hold `mask_id` - 1, the last code. [MASK] is one past the codebook: `mask_id` itself.": (
                lambda tokens, hidden, mask_id: np.where(hidden, mask_id - 1, tokens)
            ),
            "Hidden positions hold 64. Use the argument `mask_id`.": lambda x, hidden, mask_id: np.where(hidden, 64, x),
        },
        kind="int",
        read=lambda value: both(value, 0),
    )
    compare(
        answer,
        cases,
        lambda tokens, hidden, mask_id: hidden,
        {
            "What the model sees is right. But all positions still count, and known tokens can be copied.": (
                lambda tokens, hidden, mask_id: np.ones_like(hidden)
            ),
            "What the model sees is right. But the known positions count, and the hidden ones do not.": (
                lambda tokens, hidden, mask_id: ~hidden
            ),
        },
        kind="bool",
        read=lambda value: both(value, 1),
    )


def _dropped(answer: Callable, mask: np.ndarray, rate: float, seed: int) -> np.ndarray:
    return numbers(call(answer, mask, rate, np.random.default_rng(seed)), mask.shape, "bool")


def _shares(answer: Callable, mask: np.ndarray) -> None:
    """Raise Wrong unless whole captions are dropped, and the right share of them."""
    for seed, rate in enumerate((0.1, 0.25, 0.9)):
        got = _dropped(answer, mask, rate, seed)
        if (got & ~mask).any():
            raise Wrong("Some padding became True. Rows that keep their caption stay unchanged, padding included.")
        lost = ~got.any(1)
        share = lost.mean()
        if (got != mask)[~lost].any():
            raise Wrong(
                "Some rows lost part of their caption. Drop a whole caption or nothing of it: draw one random number "
                "per row, with shape [B, 1]."
            )
        of = f"Of {len(mask):,} captions at rate {rate:g},"
        if share in (0, 1):
            raise Wrong(
                f"{of} {'all' if share else 'none'} are gone. Draw one random number per row, not one for the batch."
            )
        if abs(share - (1 - rate)) < 0.04:
            raise Wrong(
                f"{of} {share:.0%} are gone: it is still inverted. A caption is dropped where its random number is "
                "below the rate, and kept otherwise."
            )
        if abs(share - rate) > 0.04:
            raise Wrong(f"{of} {share:.0%} are gone. It should be {rate:.0%}.")


def _independent(answer: Callable) -> None:
    """Raise Wrong unless every combination of three rows is lost as often as independent chances would lose it."""
    n, rate = 800, 0.4
    calls = (_dropped(answer, np.ones((3, 2), bool), rate, 10 + i) for i in range(n))
    lost = Counter(tuple(not row.any() for row in kept) for kept in calls)
    for rows in product((False, True), repeat=3):
        expected = math.prod(rate if gone else 1 - rate for gone in rows)
        if abs(lost[rows] / n - expected) > 0.075:  # five standard deviations
            gone = [i for i, row in enumerate(rows) if row]
            which = f"only the rows {gone} are" if gone else "no row is"
            raise Wrong(
                f"The share is right, but rows depend on each other: with 3 captions at rate {rate:g}, {which} lost in "
                f"{lost[rows] / n:.0%} of {n:,} calls; independent chances give "
                f"{expected:.0%}. Each row needs a random number of its own."
            )


@exercise(points=2)
def drop_some_captions(answer: Callable) -> None:
    """text_mask bool [B, S], rate float, rng numpy Generator -> bool [B, S]; rows without a caption are all False."""
    mask = np.arange(7) < np.random.default_rng(0).integers(1, 8, (4000, 1))
    mask[1::2] = mask[1::2, ::-1]
    _shares(answer, mask)
    for shape in ((1, 5), (6, 1), (30, 2)):
        none, all_ = (_dropped(answer, np.ones(shape, bool), rate, 3) for rate in (0.0, 1.0))
        if not none.all() or all_.any():
            raise Wrong("At rate 0 every caption must stay, and at rate 1 every caption must go.")
    one, again, third = (_dropped(answer, mask, 0.5, seed) for seed in (1, 1, 2))
    if (one != again).any():
        raise Wrong("The same rng drops different captions each time. Take all random numbers from `rng`.")
    if (one == third).all():
        raise Wrong("A different rng drops the same captions. Take the numbers from `rng`, not from a fixed seed.")
    _independent(answer)


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
