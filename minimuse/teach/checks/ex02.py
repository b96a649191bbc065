"""Exercises 02: images as tokens."""

import tracemalloc
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, exercise, numbers, pair, same, unless

POINTS = np.array([[0.9, 0.1], [0.2, 0.8], [-1.0, 0.0], [2.0, 0.5], [0.6, 0.7]])
CODES = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [0.2, -0.1]])  # of different lengths
NEAREST = [0, 1, 3, 0, 1]


@exercise(points=3)
def nearest_token(answer: Callable) -> None:
    """z float [..., C], codebook float [K, C] -> int [...]: the index of the nearest code."""
    got = call(answer, POINTS, CODES)
    if np.shape(got) == (5, 4):
        raise Wrong("It returned one number per code. Take the index of the smallest with `np.argmin` over axis -1.")
    if np.shape(got) == (5, 2):
        raise Wrong("It returned the codes themselves. Return their index, the token.")
    got = numbers(got, (5,), "int")
    product, length = POINTS @ CODES.T, (CODES**2).sum(1)
    by_product, by_angle = product.argmax(1), (product / np.sqrt(length)).argmax(1)
    unless(
        got,
        {
            "Those are the codes with the largest product. The codes differ in length, so |e|² counts too.": by_product,
            "Those are the farthest codes. The nearest has the smallest distance: argmin.": np.argmax(
                length - 2 * product, 1
            ),
            "The factor 2 is missing: |z - e|² = |z|² - 2 z·e + |e|².": (length - product).argmin(1),
            "The product has the wrong sign: |z - e|² = |z|² - 2 z·e + |e|².": (length + 2 * product).argmin(1),
            "Those are the codes of the nearest direction, by cosine. Use the distance.": by_angle,
        },
        right=NEAREST,
    )
    same(got, NEAREST, "five points and four codes")
    for seed, shape, k in ((0, (1, 4, 6, 3), 7), (1, (2, 5, 3, 16), 40), (2, (3, 1), 2), (3, (8,), 5), (4, (1, 2), 1)):
        rng = np.random.default_rng(seed)
        z, codebook = rng.normal(size=shape), rng.normal(size=(k, shape[-1])) * rng.uniform(0.3, 3, (k, 1))
        got = numbers(call(answer, z, codebook), shape[:-1], "int")
        distance = np.stack([np.linalg.norm(z - code, axis=-1) for code in codebook], -1)
        chosen_distance = np.take_along_axis(distance, np.clip(got, 0, k - 1)[..., None], -1)[..., 0]
        same(chosen_distance, distance.min(-1), f"z {list(shape)} and {k} codes, the distance to the chosen code")
    z, codebook = np.ones((512, 64)), np.ones((512, 64))
    tracemalloc.start()
    try:
        call(answer, z, codebook)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > 8 * 512 * 512 * 64 / 4:
        raise Wrong(
            f"The tokens are right, but for z [512, 64] and 512 codes it needed {peak / 1e6:.0f} MB: an array of "
            "shape [..., K, C]. Expand |z - e|², and use one matrix product."
        )


def _gradients(answer: Callable, *arrays, weight=None, **kwargs) -> list[np.ndarray]:
    """Gradients of sum(weight * answer(*arrays)) with respect to each of the arrays."""

    def loss(*arrays):
        value = answer(*arrays, **kwargs)
        return jnp.sum(value if weight is None else weight * value)

    try:
        found = jax.grad(loss, tuple(range(len(arrays))))(*map(jnp.asarray, arrays))
    except Exception as error:
        raise Wrong(
            f"The forward pass works, but JAX cannot take a gradient of it ({type(error).__name__}). Use only jnp and "
            "jax, not numpy."
        ) from None
    return [numbers(gradient, array.shape) for gradient, array in zip(found, arrays)]


@exercise(points=2)
def straight_through_copy(answer: Callable) -> None:
    """z, quantized float [..., C] -> float [..., C]: quantized in the forward pass, the identity of z backward."""
    for seed, shape in enumerate(((2, 3, 5, 4), (1, 6))):
        rng = np.random.default_rng(seed)
        z, quantized, weight = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
        got = numbers(call(answer, *map(jnp.asarray, (z, quantized))), shape)
        unless(
            got,
            {
                "The forward pass gives z. The decoder needs the code: `quantized`.": z,
                "The forward pass gives only the difference. Add z to it.": quantized - z,
                "In the forward pass the sign of the difference is wrong: z + (quantized - z) is `quantized`.": 2 * z
                - quantized,
            },
            right=quantized,
        )
        same(got, quantized, f"arrays of shape {list(shape)}, the forward pass")
        if seed:  # gradients of one shape only: every further shape costs a compilation
            continue
        by_z, by_quantized = _gradients(answer, z, quantized, weight=weight)
        if np.allclose(by_z, 0) and np.allclose(by_quantized, 0):
            raise Wrong(
                "The forward pass is right, but neither z nor `quantized` gets a gradient: everything is inside "
                "`stop_gradient`. Leave z outside."
            )
        if np.allclose(by_z, 0):
            raise Wrong(
                "The forward pass is right, but z gets no gradient; the code gets it instead. If nothing is stopped, "
                "the two z cancel in the backward pass as well: put `stop_gradient` around the difference."
            )
        same(by_z, weight, f"arrays of shape {list(shape)}, the gradient of z")
        if not np.allclose(by_quantized, 0):
            raise Wrong(
                "z gets its gradient, but `quantized` gets one as well. The decoder's gradient must not move the "
                "codes: stop it there."
            )


@exercise(points=3)
def repaired_vq_loss(answer: Callable) -> None:
    """z, quantized: jax arrays float [..., C]; beta float -> scalar: codebook loss plus beta times commitment loss."""
    for seed, (shape, beta) in enumerate((((2, 3, 5, 4), 0.25), ((2, 3, 5, 4), 0.0), ((1, 6), 2.0))):
        rng = np.random.default_rng(seed)
        z, quantized = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
        positions, gap = np.prod(shape[:-1]), z - quantized
        squares = (gap**2).sum()
        got = numbers(call(answer, *map(jnp.asarray, (z, quantized)), beta), ())
        unless(
            got,
            {
                "The squares are averaged over the C numbers of a code. Sum them, over axis -1, and average only "
                "over positions.": (1 + beta) * squares / gap.size,
                "The squares are summed over all positions. Average over the positions.": (1 + beta) * squares,
                "There is only one term, without β. Use two, one of them times β.": squares / positions,
                "There is only one term, times β. Use two.": beta * squares / positions,
                "Both terms have weight 1. Which of them takes β?": 2 * squares / positions,
                "β is on both terms. The codebook term has weight 1.": 2 * beta * squares / positions,
            },
            right=(1 + beta) * squares / positions,
        )
        about = f"z and quantized of shape {list(shape)} and beta {beta}"
        same(got, (1 + beta) * squares / positions, f"{about}, the loss", tolerance=1e-3)
        if seed == 2:  # gradients of one shape only: every further shape costs a compilation
            continue
        by_z, by_code = _gradients(answer, z, quantized, beta=beta)
        unit = 2 * gap / positions  # the gradient of a term of weight 1 for z; for the code it is the opposite
        share = [float((found * unit).sum() / (unit**2).sum()) for found in (by_z, -by_code)]
        told_shares = f"For {about}, z is pulled with weight {share[0]:.3g} and the code with weight {share[1]:.3g}."
        if not np.allclose(by_z, share[0] * unit, atol=1e-4) or not np.allclose(-by_code, share[1] * unit, atol=1e-4):
            raise Wrong("The gradients do not point from z to its code, or from the code to z, at every position.")
        mistakes = {
            "No gradient is stopped, so both terms move both. Use `jax.lax.stop_gradient`.": [1 + beta, 1 + beta],
            "Everything is inside `stop_gradient`. In each term only one of the two belongs there.": [0, 0],
            "β is still on the term that moves the codes. It belongs on the one that moves z.": [1, beta],
            "Both terms stop z. One must stop z, the other `quantized`.": [0, 1 + beta],
            "Both terms stop `quantized`. One must stop z, the other `quantized`.": [1 + beta, 0],
        }
        mistakes = {f"{told_shares} {advice}": weights for advice, weights in mistakes.items()}
        unless(np.array(share), mistakes, right=[beta, 1], tolerance=1e-3)
        same(np.array(share), [beta, 1.0], f"{about}, the weights with which z and the code are pulled", tolerance=1e-3)


TOKENS = np.array([[[0, 0], [0, 0]], [[1, 1], [2, 2]]])  # 1/2, 1/4, 1/4: an entropy of 1.5 log 2


@exercise(points=3)
def codes_in_use(answer: Callable) -> None:
    """tokens int [B, h, w], k int -> (usage, perplexity), floats."""
    right = [3 / 5, 2**1.5]
    got = _pair(call(answer, TOKENS, 5))
    entropy = 1.5 * np.log(2)
    unless(
        got,
        {
            "Usage and perplexity are in the wrong order: (usage, perplexity).": right[::-1],
            "Usage is 1, because every code that occurs does occur. Divide by k, the size of the whole codebook.": [
                1,
                right[1],
            ],
            "Usage is a count of codes. Divide it by k.": [3, right[1]],
            "Usage is the share of codes that are not used. Return the share of those that are.": [
                2 / 5,
                right[1],
            ],
            "The second is the entropy. Perplexity is its exponential.": [right[0], entropy],
            "The second is the entropy in bits. Perplexity is exp of the entropy in natural logarithms.": [
                right[0],
                1.5,
            ],
            "The logarithm has base 2, but the power has base e. Use the same base for both.": [right[0], np.exp(1.5)],
            "The sign is lost: perplexity is exp(-Σ p log p), and Σ p log p is negative.": [right[0], 2**-1.5],
            "p is a share of the codes, not of the tokens: every code counts the same. Divide the counts by the "
            "number of tokens.": [right[0], 3.0],
        },
        right=right,
    )
    same(got, right, "tokens of which 1/2, 1/4 and 1/4 are codes 0, 1 and 2, of 5 codes,")
    cases = {  # tokens, k, usage, perplexity
        "only one code": (np.full((1, 2, 3), 7), 16, 1 / 16, 1.0),
        "all codes equally often": (np.arange(24).reshape(2, 3, 4), 24, 1.0, 24.0),
        "half of the codes": (np.arange(0, 16, 2).reshape(1, 1, 8), 16, 0.5, 8.0),
        "the highest codes": (np.array([[[9, 9, 9, 8]]]), 10, 0.2, 4 / 27**0.25),  # p = 3/4, 1/4
    }
    for name, (tokens, k, *expected) in cases.items():
        same(_pair(call(answer, tokens, k)), expected, f"{name}, tokens {list(tokens.shape)} and k = {k},")
    for seed, shape, k in ((0, (3, 4, 6), 50), (1, (1, 8, 8), 1024), (2, (40, 8, 8), 300)):
        tokens = (k * np.random.default_rng(seed).random(shape) ** 2).astype(int)
        frequency = np.array([(tokens == token).mean() for token in tokens.ravel()])  # of each token's code
        expected = [len(set(tokens.ravel().tolist())) / k, 1 / np.exp(np.log(frequency).mean())]
        same(_pair(call(answer, tokens, k)), expected, f"random tokens {list(shape)} and k = {k},")


def _pair(value) -> np.ndarray:
    """Usage and perplexity, float [2]."""
    both = pair(value.ravel().tolist() if isinstance(value, np.ndarray) else value, "return usage, perplexity")
    if (perplexity := np.asarray(both[1])).dtype.kind == "f" and np.isnan(perplexity).any():
        raise Wrong("The perplexity is not a number (nan): 0 · log 0. Leave out the codes that no token has.")
    return np.array([numbers(each) for each in both])


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
