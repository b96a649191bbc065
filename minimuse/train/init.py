"""Initial weights that already know the codebook and the text, for the transformers."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.transformer import INIT_STD, BaseTransformer
from minimuse.weights import named_arrays, with_arrays

Model = TypeVar("Model", bound=BaseTransformer)


def start_from_codes(
    model: Model, codebook: jax.Array | np.ndarray, seed: int = 0, low_codebook: jax.Array | np.ndarray | None = None
) -> Model:
    """The fresh `model` with weights that know the codebook [K, code_dim], its codes of length 1; those of the
    super-resolution transformer also the low-resolution codebook.

    Similar codes start with similar vectors, as input and as output, so what is learned of one holds for others; a
    quarter of an input vector's variance stays random, to distinguish neighbours.
    """
    rng, fresh = np.random.default_rng(seed), named_arrays(model)

    def similar(embedding: jax.Array, codes: jax.Array | np.ndarray) -> jax.Array:
        (k, code_dim), width = codes.shape, embedding.shape[1]
        start = codes @ rng.normal(size=(code_dim, width)) * INIT_STD / np.sqrt(code_dim)
        return embedding.at[:k].set(np.sqrt(1 / 4) * embedding[:k] + np.sqrt(3 / 4) * start)

    def standardized(codebook: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        return (codebook - codebook.mean(0)) / codebook.std(0)

    codes = standardized(codebook)
    code_dim, width = codes.shape[1], fresh["embed.embedding"].shape[1]
    found = {"embed.embedding": similar(fresh["embed.embedding"], codes)}
    logits = rng.normal(size=(width, code_dim)) @ codes.T / np.sqrt(code_dim * width)
    found["logits.kernel"] = jnp.asarray(logits, jnp.float32)
    if low_codebook is not None:
        found["low_embed.embedding"] = similar(fresh["low_embed.embedding"], standardized(low_codebook))
    return with_arrays(model, found)


def sample_rows(rows: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """`most` rows of [M, D], drawn at random without replacement and in their order; all of them if there are no more.

    The first ones would not stand for data that are sorted.
    """
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def start_from_text(model: Model, text: np.ndarray) -> Model:
    """`model` with weights that whiten text vectors like these [M, text_width]: much of what a T5 says is in directions
    in which its vectors hardly differ. Mean and covariance are computed in float64."""
    values, vectors = np.linalg.eigh(np.cov(text, rowvar=False, dtype=np.float64))
    whiten = vectors / np.sqrt(values + 1e-3 * values.max()) @ vectors.T  # what hardly varies at all is left small
    found = dict(text_mean=text.mean(0, dtype=np.float64), text_whiten=whiten)
    return with_arrays(model, {name: jnp.asarray(value, jnp.float32) for name, value in found.items()})


def twin_from_codes(name: str, model: Model, codebook: jax.Array | np.ndarray) -> Model:
    """A fresh baseline with weights that know the codebook [K, C], its codes of length 1."""
    if name == "diffusion":
        return with_arrays(model, dict(codebook=jnp.asarray(codebook * codebook.shape[1] ** 0.5)))
    return start_from_codes(model, codebook)
