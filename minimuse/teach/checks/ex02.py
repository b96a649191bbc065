"""Exercises 02: images as tokens."""

from collections import Counter
from collections.abc import Callable
from math import exp, log, prod
from typing import Any

import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, chosen, compare, compiled, exercise, numbers, pair
from minimuse.teach.checks.formulas import floats
from minimuse.teach.checks.tracing import constant_length, gradient, random, recorded, weights

POINTS = jnp.array([[0.9, 0.1], [0.2, 0.8], [-1.0, 0.0], [2.0, 0.5], [0.6, 0.7]])
CODES = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [0.2, -0.1]])  # of different norms; nearest: 0, 1, 3, 0, 1


def _distances(z: Any, codebooks: Any) -> np.ndarray:
    """Squared distances, code by code, float [..., G, K]: group g to the codes of codebook g."""
    z, codebooks = floats(z), floats(codebooks)
    every = [[((z[..., g, :] - code) ** 2).sum(-1) for code in codebook] for g, codebook in enumerate(codebooks)]
    return np.stack([np.stack(group, -1) for group in every], -2)


def _nearest(z: Any, codebooks: Any) -> np.ndarray:
    return _distances(z, codebooks).argmin(-1)


def _scored(score: Callable) -> Callable:
    """The code with the lowest score, a function of the product z·e and of |e|², both for every group and code."""

    def tokens(z: Any, codebooks: Any) -> np.ndarray:
        norms = (floats(codebooks) ** 2).sum(-1)  # [G, K]
        products = ((floats(z) ** 2).sum(-1)[..., None] + norms - _distances(z, codebooks)) / 2
        return score(products, norms).argmin(-1)

    return tokens


def _small_and_short(answer: Callable) -> None:
    """Wrong if the program holds an array [..., G, K, C], or goes through the codes one by one."""
    shape, long = (96, 2, 8), 37
    few, many = (recorded(answer, jnp.ones(shape), jnp.ones((2, k, 8))) for k in (5, long))
    if many.largest >= prod(shape) * long:
        raise Wrong(
            f"The tokens are right, but for z {list(shape)} and {long} codes the program holds an array of "
            f"{many.largest:,} numbers: [..., G, K, C]. Expand |z - e|², and use one matrix product."
        )
    advice = "Expand |z - e|², and use one matrix product."
    constant_length([few, many], f"{long} codes", advice)
    if long in many.loops:
        raise Wrong(f"The tokens are right, but the program goes through the codes one by one. {advice}")


@exercise(points=3)
def nearest_token(answer: Callable) -> None:
    """z float [..., G, C], codebooks float [G, K, C] -> int [..., G]: the nearest code of each group's own codebook."""
    cases = [
        (POINTS[:1, None], CODES[None]),
        (jnp.stack([POINTS[:3], POINTS[2:]], 1), jnp.stack([CODES, CODES[::-1] * 0.5])),
    ]
    for seed, (shape, k) in enumerate([((3, 3), 3), ((2, 3, 4, 5), 7), ((1, 2, 2, 2, 16), 40), ((1, 2, 2), 1)]):
        z, codebooks, norms = random(seed, shape, (shape[-2], k, shape[-1]), (shape[-2], k, 1))
        cases.append((z, codebooks * jnp.exp(norms)))
    compare(
        answer,
        cases,
        _nearest,
        {
            "Those are the codes with the largest product. The codes differ in length, so |e|² counts too.": (
                _scored(lambda products, norms: -products)
            ),
            "Those are the farthest codes. The nearest has the smallest distance: argmin.": (
                lambda z, codebooks: _distances(z, codebooks).argmax(-1)
            ),
            "The factor 2 is missing: |z - e|² = |z|² - 2 z·e + |e|².": (
                _scored(lambda products, norms: norms - products)
            ),
            "The product has the wrong sign: |z - e|² = |z|² - 2 z·e + |e|².": (
                _scored(lambda products, norms: norms + 2 * products)
            ),
            "Those are the codes of the nearest direction, by cosine. Use the distance.": (
                _scored(lambda products, norms: -products / np.sqrt(norms))
            ),
            "Every group uses the first codebook. Group g has codebook g.": (
                lambda z, codebooks: _nearest(z, codebooks[:1].repeat(len(codebooks), 0))
            ),
            "It returned one number per code. Take the index of the smallest: `argmin` over the last axis.": _distances,
            "It returned the codes themselves. Return their indices, the tokens.": lambda z, codebooks: floats(
                codebooks
            )[np.arange(len(codebooks)), _nearest(z, codebooks)],
        },
        kind="int",
    )
    _small_and_short(answer)
    compare(compiled(answer), cases[2:3], _nearest, kind="int")


def _near(z: Any, quantized: Any, limit: float) -> np.ndarray:
    """1 at positions whose encoding is at most `limit` from its code, else 0: float [..., 1]."""
    gap = floats(z) - floats(quantized)
    return (np.sqrt((gap**2).sum(-1, keepdims=True)) <= limit).astype(float)


def _passed(mask: Callable) -> Callable:
    """The gradient with respect to z if it passes where a function of (z - quantized, limit) is true."""
    return lambda z, quantized, limit: weights(z.shape) * mask(floats(z) - floats(quantized), limit)


@exercise(points=2)
def straight_through_copy(answer: Callable) -> None:
    """z, quantized float [..., C], limit -> quantized; backward the identity of z where z is near its code."""
    hand = jnp.array([[3.0, 4.0], [3.0, 4.5], [-4.5, 0.0], [0.0, 0.0]]), jnp.zeros((4, 2)), 5.0  # 5, 5.4, 4.5, 0
    cases: list[tuple] = [hand] + [
        (*random(seed, shape, shape), limit)
        for seed, (shape, limit) in enumerate([((1, 6), 1.0), ((1, 6), 9.0), ((2, 3, 5, 4), 2.5), ((3, 5), 3.0)])
    ]
    cases.insert(1, (cases[1][0], cases[1][0], 0.0))
    compare(
        answer,
        cases,
        lambda z, quantized, limit: quantized,
        {
            "The forward pass gives z. The decoder needs the code: `quantized`.": lambda z, quantized, limit: z,
            "The forward pass gives only the difference. Add z to it.": lambda z, quantized, limit: quantized - z,
            "In the forward pass the sign of the difference is wrong: z + (quantized - z) is `quantized`.": (
                lambda z, quantized, limit: 2 * z - quantized
            ),
            "The forward pass gives the code only near it, and z elsewhere. The limit is for the backward pass.": (
                lambda z, quantized, limit: np.where(_near(z, quantized, limit), quantized, z)
            ),
            "The forward pass gives the code only near it, and 0 elsewhere. The limit is for the backward pass.": (
                lambda z, quantized, limit: quantized * _near(z, quantized, limit)
            ),
        },
    )
    compare(
        gradient(answer),
        cases[:5],  # every further shape costs a compilation
        lambda z, quantized, limit: weights(z.shape) * _near(z, quantized, limit),
        {
            "The forward pass is right, but no gradient reaches z. A z must stay outside of `stop_gradient`, and what "
            "takes it off again must be inside.": _passed(lambda gap, limit: 0),
            "The forward pass is right, but the gradient reaches every z. Where z is farther than `limit` from its "
            "code, stop it.": _passed(lambda gap, limit: 1),
            "The gradient reaches the z that are far from their codes. It should reach those that are near.": (
                _passed(lambda gap, limit: np.linalg.norm(gap, axis=-1, keepdims=True) > limit)
            ),
            "You compare each of the C numbers with the limit. The distance of a position is the norm over its C "
            "numbers.": _passed(lambda gap, limit: abs(gap) <= limit),
            "The squared distance is compared with the limit. Take the root, or square the limit.": (
                _passed(lambda gap, limit: (gap**2).sum(-1, keepdims=True) <= limit)
            ),
            "One distance decides for the whole array. Every position has its own: the norm over axis -1.": (
                _passed(lambda gap, limit: np.linalg.norm(gap) <= limit)
            ),
            "A distance of exactly `limit` is allowed: compare with <=.": (
                _passed(lambda gap, limit: np.linalg.norm(gap, axis=-1, keepdims=True) < limit)
            ),
        },
    )
    for z, quantized, limit in cases[:3]:
        if np.any(numbers(gradient(answer, 1)(z, quantized, limit), z.shape)):
            raise Wrong(
                "z gets its gradient, but `quantized` gets one as well. The decoder's gradient must not move the "
                "codes: stop it there."
            )
    compare(compiled(answer), cases[:1], lambda z, quantized, limit: quantized)


def _total(mean: Callable, weight: Callable) -> Callable:
    """A loss: `mean` of the squared differences, times a function of beta."""
    return lambda z, quantized, beta: weight(beta) * mean((floats(z) - floats(quantized)) ** 2)


def _by_position(squares: np.ndarray) -> float:
    return sum(squares.ravel().tolist()) / prod(squares.shape[:-1])


def _pulls(answer: Callable) -> Callable:
    """The weights of the squared distance in the gradients for z and for the code, float [2]."""

    def found(z: Any, quantized: Any, beta: float) -> np.ndarray:
        unit = 2 * (floats(z) - floats(quantized)) / prod(z.shape[:-1]) * weights(())
        slopes = [numbers(gradient(answer, i)(z, quantized, beta), z.shape) * sign for i, sign in ((0, 1), (1, -1))]
        shares = [float((slope * unit).sum() / (unit**2).sum()) for slope in slopes]
        if not all(np.allclose(slope, share * unit, atol=1e-4) for slope, share in zip(slopes, shares)):
            raise Wrong("The gradients do not point from z to its code, and from the code to z, at every position.")
        return np.array(shares)

    return found


@exercise(points=3)
def repaired_vq_loss(answer: Callable) -> None:
    """z, quantized: jax arrays float [..., C]; beta float -> scalar: codebook loss plus beta times commitment loss."""
    cases = [
        (*random(seed, shape, shape), beta)
        for seed, (shape, beta) in enumerate([((1, 2), 0.25), ((3, 2), 0.75), ((2, 3, 5, 4), 0.25), ((1, 6), 2.0)])
    ]
    cases += [(*cases[1][:2], 0.0), (*cases[1][:2], 1.0)]
    compare(
        answer,
        cases,
        _total(_by_position, lambda beta: 1 + beta),
        {
            "The squares are averaged over the C numbers of a code. Sum them, over axis -1, and average only over "
            "positions.": _total(np.mean, lambda beta: 1 + beta),
            "The squares are summed over all positions. Average over the positions.": (
                _total(np.sum, lambda beta: 1 + beta)
            ),
            "The weights of both terms add up to 1. The codebook term has weight 1, and the commitment term β.": (
                _total(_by_position, lambda beta: 1)
            ),
            "The weights of both terms add up to β. The codebook term has weight 1, and the commitment term β.": (
                _total(_by_position, lambda beta: beta)
            ),
            "Both terms have weight 1. Which of them takes β?": _total(_by_position, lambda beta: 2),
            "β is on both terms. The codebook term has weight 1.": _total(_by_position, lambda beta: 2 * beta),
        },
        tolerance=1e-3,
    )
    about = "The value is right; these are the weights with which z and the code are pulled to each other. "
    compare(
        _pulls(answer),
        [cases[1], cases[2], *cases[4:]],  # every further shape costs a compilation
        lambda z, quantized, beta: np.array([beta, 1]),
        {
            f"{about}No gradient is stopped, so both terms move both. Use `jax.lax.stop_gradient`.": (
                lambda z, quantized, beta: [1 + beta, 1 + beta]
            ),
            f"{about}Everything is inside `stop_gradient`. In each term only one of the two belongs there.": (
                lambda z, quantized, beta: [0, 0]
            ),
            f"{about}β is still on the term that moves the codes. It belongs on the one that moves z.": (
                lambda z, quantized, beta: [1, beta]
            ),
            f"{about}Both terms stop z. One must stop z, the other `quantized`.": (
                lambda z, quantized, beta: [0, 1 + beta]
            ),
            f"{about}Both terms stop `quantized`. One must stop z, the other `quantized`.": (
                lambda z, quantized, beta: [1 + beta, 0]
            ),
        },
        tolerance=1e-3,
    )
    compare(compiled(answer), cases[:1], _total(_by_position, lambda beta: 1 + beta))


def _in_use(tokens: np.ndarray, k: int) -> tuple[float, float]:
    """Usage and perplexity, code by code."""
    counts = Counter(np.asarray(tokens).ravel().tolist())
    shares = [count / sum(counts.values()) for count in counts.values()]
    return len(counts) / k, exp(-sum(p * log(p) for p in shares))


def _misused(change: Callable) -> Callable:
    """A mistake: a function of usage, perplexity, the number of codes that occur, and k."""
    return lambda tokens, k: change(*_in_use(tokens, k), len(np.unique(tokens)), k)


def _pair(value: Any) -> np.ndarray:
    """Usage and perplexity, float [2]."""
    both = pair(value.tolist() if hasattr(value, "tolist") else value, "return usage, perplexity")
    if (perplexity := np.asarray(both[1])).dtype.kind == "f" and np.isnan(perplexity).any():
        raise Wrong("The perplexity is not a number (nan): 0 · log 0. Leave out the codes that no token has.")
    return np.array([numbers(each) for each in both])


@exercise(points=3)
def codes_in_use(answer: Callable) -> None:
    """tokens int [B, h, w], k int -> (usage, perplexity), floats."""
    cases = [
        (np.array([[[0, 0], [0, 0]], [[1, 1], [2, 2]]]), 5),  # 1/2, 1/4, 1/4: an entropy of 1.5 log 2
        (np.array([[[9, 9, 9, 8]]]), 10),
        (np.full((1, 2, 3), 7), 16),
        (np.array([[[0]]]), 1),
        (np.arange(24).reshape(2, 3, 4), 24),
        (np.arange(0, 16, 2, dtype=np.uint16).reshape(1, 1, 8), 16),
    ]
    for seed, shape, k in ((0, (3, 4, 6), 50), (1, (1, 8, 8), 1024), (2, (40, 8, 8), 300)):
        cases.append(((k * np.random.default_rng(seed).random(shape) ** 2).astype(np.int32), k))
    compare(
        answer,
        cases,
        _in_use,
        {
            "Usage and perplexity are in the wrong order: (usage, perplexity).": _misused(lambda u, p, n, k: (p, u)),
            "Usage is 1, because every code that occurs does occur. Divide by k, the size of the whole codebook.": (
                _misused(lambda u, p, n, k: (1, p))
            ),
            "Usage is divided by the largest token. Divide by k, the size of the whole codebook.": (
                lambda tokens, k: (len(np.unique(tokens)) / (int(tokens.max()) + 1), _in_use(tokens, k)[1])
            ),
            "Usage is a count of codes. Divide it by k.": _misused(lambda u, p, n, k: (n, p)),
            "Usage is the share of codes that are not used. Return the share of those that are.": (
                _misused(lambda u, p, n, k: (1 - u, p))
            ),
            "The second is the entropy. Perplexity is its exponential.": _misused(lambda u, p, n, k: (u, log(p))),
            "The second is the entropy in bits. Perplexity is exp of the entropy in natural logarithms.": (
                _misused(lambda u, p, n, k: (u, np.log2(p)))
            ),
            "The logarithm has base 2, but the power has base e. Use the same base for both.": (
                _misused(lambda u, p, n, k: (u, exp(np.log2(p))))
            ),
            "The sign is lost: perplexity is exp(-Σ p log p), and Σ p log p is negative.": (
                _misused(lambda u, p, n, k: (u, 1 / p))
            ),
            "p is a share of the codes, not of the tokens: every code counts the same. Divide the counts by the "
            "number of tokens.": _misused(lambda u, p, n, k: (u, n)),
            "That is the mean over the images. Count the tokens of all images together.": (
                lambda tokens, k: np.mean([_in_use(one, k) for one in tokens], 0)
            ),
            "Only the first image is counted.": lambda tokens, k: _in_use(tokens[:1], k),
        },
        read=_pair,
    )


@exercise(points=2)
def bits_of_proposals(answer: Callable) -> None:
    """No arguments -> the letter of the right numbers."""
    chosen(
        answer,
        "c",
        {
            "a": (
                "B is right. But twice as many codes do not take twice as many bits: one of 2048 takes 11 bits, one "
                "more than 10."
            ),
            "b": "A is right. But half the side of a patch gives twice as many patches in each direction: four times "
            "as many tokens.",
            "d": (
                "Both are too few. 10 bits cannot distinguish 2048 codes, and halving the side of a patch gives four "
                "times as many patches."
            ),
        },
    )
