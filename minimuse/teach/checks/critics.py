"""What the check of the critic's loss, exercise 14.3, knows: the loss by hand, its mistakes, and pictures to judge."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong
from minimuse.teach.checks.formulas import floats
from minimuse.teach.checks.tracing import UNTRACEABLE


def _nats(x: np.ndarray, label: np.ndarray | bool) -> np.ndarray:
    return np.where(label, np.logaddexp(0, -x), np.logaddexp(0, x))


def judged(
    labels: Callable = lambda hidden, wrong: (hidden, wrong),
    mean: Callable = lambda losses, hidden: losses.mean(),
    loss: Callable = _nats,
) -> Callable:
    """Both losses: `labels` of (hidden, wrong), and how the losses of all places become one number."""

    def losses(logits: Any, tokens: Any, real: Any, hidden: Any) -> np.ndarray:
        hidden, wrong = np.asarray(hidden), np.asarray(tokens) != np.asarray(real)
        return np.array([mean(loss(floats(logits), label), hidden) for label in labels(hidden, wrong)])

    return losses


MISTAKES = {
    "Only the hidden places count in your answer. All do: the critic must also learn which tokens are real.": (
        judged(mean=lambda losses, hidden: losses[hidden].mean())
    ),
    "The sum is over the hidden places only. All places count, B N in number.": (
        judged(mean=lambda losses, hidden: losses[hidden].sum() / hidden.size)
    ),
    "The sum over all places is divided by the number of hidden ones. Divide by that of all places.": (
        judged(mean=lambda losses, hidden: losses.sum() / hidden.sum())
    ),
    "That is the sum over all places. Take the mean.": judged(mean=lambda losses, hidden: losses.sum()),
    "The losses of a picture are added up. Take the mean over all places of all pictures.": (
        judged(mean=lambda losses, hidden: losses.sum(1).mean())
    ),
    "There is a loss for each picture. Take the mean over all places of all pictures.": (
        judged(mean=lambda losses, hidden: losses.mean(1))
    ),
    "Both labels are turned round. 1 is what the critic should find: a token that was sampled, or that is wrong.": (
        judged(lambda hidden, wrong: (~hidden, ~wrong))
    ),
    "The first label is turned round. It is 1 where the token was sampled.": (
        judged(lambda hidden, wrong: (~hidden, wrong))
    ),
    "The second label is turned round. It is 1 where the token differs from the true one.": (
        judged(lambda hidden, wrong: (hidden, ~wrong))
    ),
    "Both are the loss with the label `wrong`. With the label `sampled`, a hidden place is 1 even if the base has "
    "sampled the true token.": judged(lambda hidden, wrong: (wrong, wrong)),
    "Both are the loss with the label `sampled`. With the label `wrong`, a place is 1 only if its token differs from "
    "the true one.": judged(lambda hidden, wrong: (hidden, hidden)),
    "The second label is 1 at hidden places whose token is the true one. It should be 1 where it is not.": (
        judged(lambda hidden, wrong: (hidden, hidden & ~wrong))
    ),
    "The order is wrong: first the loss with the label `sampled`, then that with `wrong`.": (
        judged(lambda hidden, wrong: (wrong, hidden))
    ),
    "Only places with label 1 have a loss in your answer. With label 0 it is -ln(1 - p).": (
        judged(loss=lambda x, label: label * _nats(x, label))
    ),
    "With label 0 the loss is -ln(1 - p), the logarithm of 1 - p. In your answer, it is -(1 - ln p).": (
        judged(loss=lambda x, label: np.where(label, _nats(x, True), -1 - _nats(x, True)))
    ),
    "The sign is missing: the loss is minus a logarithm.": judged(loss=lambda x, label: -_nats(x, label)),
    "Those are bits. Use the natural logarithm.": judged(loss=lambda x, label: _nats(x, label) / np.log(2)),
    "That is the squared error of the probability. Use the cross-entropy.": (
        judged(loss=lambda x, label: (1 / (1 + np.exp(-x)) - label) ** 2)
    ),
    "The probability goes through the sigmoid twice. A function that expects logits needs the logits themselves.": (
        judged(loss=lambda x, label: _nats(1 / (1 + np.exp(-x)), label))
    ),
    "The probabilities of a picture sum to 1, as after a softmax. Every place has its own, by the sigmoid.": (
        judged(loss=lambda x, label: -np.log(np.abs(~label - np.exp(x) / np.exp(x).sum(-1, keepdims=True))))
    ),
}


def slope_of(answer: Callable, logits: Any, tokens: Any, real: Any, hidden: Any) -> jax.Array:
    """The gradient of the first loss plus twice the second, with respect to the logits."""

    def total(x: jax.Array) -> jax.Array:
        sampled, wrong = answer(x, tokens, real, hidden)
        return sampled + 2 * wrong

    try:
        return jax.grad(total)(jnp.asarray(logits, jnp.float32))
    except Exception as error:
        raise Wrong(
            f"The values are right, but JAX cannot take a gradient ({type(error).__name__}). {UNTRACEABLE}"
        ) from None


def slope_by_hand(logits: Any, tokens: Any, real: Any, hidden: Any) -> np.ndarray:
    p, wrong = 1 / (1 + np.exp(-floats(logits))), np.asarray(tokens) != np.asarray(real)
    return ((p - np.asarray(hidden)) + 2 * (p - wrong)) / p.size


SLOPE_MISTAKES = {
    "The losses are right, but no gradient reaches the logits, so the critic cannot learn. Is there a `stop_gradient`, "
    "or a comparison of logits?": lambda logits, *_: np.zeros(np.shape(logits)),
}


def filled(seed: int, b: int, n: int) -> tuple:
    """Logits of pictures in which about half of the places were hidden, and some of these got the true token."""
    rng = np.random.default_rng(seed)
    real, drawn = rng.integers(0, 9, (2, b, n))
    hidden = rng.random((b, n)) < 0.5
    hidden[:, 0], hidden[:, -1] = True, False
    tokens = np.where(hidden & (rng.random((b, n)) < 0.7), drawn, real)
    tokens[:, 0] = (real[:, 0] + np.arange(b) % 2) % 9  # of every second picture, a hidden place has the true token
    return jnp.asarray(2 * rng.normal(size=(b, n)), jnp.float32), *map(jnp.asarray, (tokens, real, hidden))
