"""Wrong answers to exercises 02."""

import jax
import jax.numpy as jnp
import numpy as np

stop = jax.lax.stop_gradient


def product(z, codebook, factor=-2, lengths=1.0, best=np.argmin):
    return best(lengths * (codebook**2).sum(-1) + factor * z @ codebook.T, -1)


def cosine(z, codebook):
    return np.argmax(z @ codebook.T / np.linalg.norm(codebook, axis=-1), -1)


def every_difference(z, codebook):
    return np.argmin(((z[..., None, :] - codebook) ** 2).sum(-1), -1)


def largest(z, codebook):
    return product(z, codebook, factor=1, lengths=0.0, best=np.argmax)


def term(z, quantized, moves="", add=lambda x: jnp.mean(jnp.sum(x, -1))):
    z, quantized = (z if "z" in moves else stop(z)), (quantized if "e" in moves else stop(quantized))
    return add((z - quantized) ** 2)


def use(tokens, k, base=np.e, power=np.exp, of=None, sign=-1):
    counts = np.bincount(np.ravel(tokens))
    p = counts[counts > 0] / np.size(tokens)
    return len(p) / (of or k), power(sign * (p * np.log(p)).sum() / np.log(base))


def with_zeros(tokens, k):
    p = np.bincount(tokens.ravel(), minlength=k) / tokens.size
    with np.errstate(all="ignore"):
        return np.mean(p > 0), np.exp(-(p * np.log(p)).sum())


def of_the_first_picture(tokens, k):
    return use(tokens[:1], k)


WRONG = {
    "nearest_token": {
        "the largest product": (largest, "largest product"),
        "the farthest": (lambda z, e: product(z, e, best=np.argmax), "farthest"),
        "no factor 2": (lambda z, e: product(z, e, factor=-1), "factor 2"),
        "a plus": (lambda z, e: product(z, e, factor=2), "wrong sign"),
        "cosine": (cosine, "by cosine"),
        "the codes themselves": (lambda z, e: e[product(z, e)], "their index"),
        "all distances": (lambda z, e: (e**2).sum(-1) - 2 * z @ e.T, "per code"),
        "an array of all differences": (every_difference, "MB"),
        "batches of one squeezed": (lambda z, e: np.squeeze(product(z, e)), "return shape"),
        "floats": (lambda z, e: product(z, e).astype(float), "return ints"),
        "flat": (lambda z, e: product(z, e).ravel(), "return shape"),
    },
    "straight_through_copy": {
        "quantized": (lambda z, quantized: quantized, "the code gets it instead"),
        "everything stopped": (lambda z, quantized: stop(quantized), "Leave z outside"),
        "nothing stopped": (lambda z, quantized: z + (quantized - z), "the code gets it instead"),
        "z": (lambda z, quantized: z, "gives z"),
        "the wrong one stopped": (lambda z, quantized: quantized + stop(z - quantized), "gives z"),
        "the difference": (lambda z, quantized: stop(quantized - z), "only the difference"),
        "another sign": (lambda z, quantized: z + stop(z - quantized), "sign of the difference"),
        "a gradient for both": (lambda z, quantized: z + quantized - stop(z), "gets one as well"),
        "numpy": (lambda z, quantized: np.asarray(z) + stop(quantized - np.asarray(z)), "not numpy"),
    },
    "repaired_vq_loss": {
        "as it was": (lambda z, e, beta: term(z, e, "z") + beta * term(z, e, "e"), "still on the term"),
        "nothing stopped": (lambda z, e, beta: (1 + beta) * term(z, e, "ze"), "No gradient is stopped"),
        "all stopped": (lambda z, e, beta: (1 + beta) * term(z, e), "Everything is inside"),
        "z stopped twice": (lambda z, e, beta: (1 + beta) * term(z, e, "e"), "Both terms stop z"),
        "the code stopped twice": (lambda z, e, beta: (1 + beta) * term(z, e, "z"), "Both terms stop `quantized`"),
        "beta on both": (lambda z, e, beta: beta * term(z, e, "z") + beta * term(z, e, "e"), "on both terms"),
        "no beta": (lambda z, e, beta: term(z, e, "z") + term(z, e, "e"), "Both terms have weight 1"),
        "only commitment": (lambda z, e, beta: beta * term(z, e, "z"), "one term, times"),
        "only codebook": (lambda z, e, beta: term(z, e, "e"), "without β"),
        "mean of all numbers": (
            lambda z, e, beta: term(z, e, "e", jnp.mean) + beta * term(z, e, "z", jnp.mean),
            "averaged over the C",
        ),
        "sum of all": (
            lambda z, e, beta: term(z, e, "e", jnp.sum) + beta * term(z, e, "z", jnp.sum),
            "summed over all",
        ),
    },
    "codes_in_use": {
        "the wrong order": (lambda tokens, k: use(tokens, k)[::-1], "wrong order"),
        "of the codes that occur": (lambda tokens, k: use(tokens, k, of=len(np.unique(tokens))), "size of the whole"),
        "a number of codes": (lambda tokens, k: use(tokens, k, of=1), "count of codes"),
        "unused": (lambda tokens, k: (1 - use(tokens, k)[0], use(tokens, k)[1]), "not used"),
        "entropy": (lambda tokens, k: use(tokens, k, power=float), "is the entropy."),
        "bits": (lambda tokens, k: use(tokens, k, base=2, power=float), "entropy in bits"),
        "two bases": (lambda tokens, k: use(tokens, k, base=2), "same base"),
        "no minus": (lambda tokens, k: use(tokens, k, sign=1), "sign is lost"),
        "0 log 0": (with_zeros, "0 · log 0"),
        "equal codes": (lambda tokens, k: (use(tokens, k)[0], float(len(np.unique(tokens)))), "share of the codes"),
        "codes up to the largest": (lambda tokens, k: use(tokens, tokens.max() + 1), "size of the whole"),
        "one picture": (of_the_first_picture, "the answer is"),
        "one number": (lambda tokens, k: use(tokens, k)[1], "two values"),
    },
    "bits_of_proposals": {
        "a": (lambda: "a", "B is right"),
        "b": (lambda: "b", "A is right"),
        "d": (lambda: "d", "Both are too few"),
    },
}
