"""Initial weights that already know the codebook and the text, for the transformers."""

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.transformer import START


def start_from_codes(params: dict, codebook: jax.Array, seed: int = 0, low_codebook: jax.Array | None = None) -> dict:
    """Fresh `params` (a nested dict) that know the codebook [K, code_dim], its codes of length 1; those of the
    super-resolution transformer the low-resolution codebook, too.

    Codes that look alike begin alike, as input and as output, so what is learned of one holds for its neighbours; a
    quarter of an input vector's variance stays random, to tell neighbours apart.
    """
    rng = np.random.default_rng(seed)

    def alike(embedding: jax.Array, codes: jax.Array) -> dict:
        (k, code_dim), width = codes.shape, embedding.shape[1]
        start = codes @ rng.normal(size=(code_dim, width)) * START / np.sqrt(code_dim)
        return dict(embedding=embedding.at[:k].set(np.sqrt(1 / 4) * embedding[:k] + np.sqrt(3 / 4) * start))

    spread = lambda codebook: (codebook - codebook.mean(0)) / codebook.std(0)
    codes = spread(codebook)
    code_dim, width = codes.shape[1], params["embed"]["embedding"].shape[1]
    found = dict(embed=alike(params["embed"]["embedding"], codes))
    logits = rng.normal(size=(width, code_dim)) @ codes.T / np.sqrt(code_dim * width)
    found["logits"] = dict(kernel=jnp.asarray(logits, jnp.float32))
    if low_codebook is not None:
        found["low_embed"] = alike(params["low_embed"]["embedding"], spread(low_codebook))
    return params | found


def start_from_text(params: dict, text: jax.Array) -> dict:
    """`params` that whiten text vectors like these [M, text_width]: much of what a T5 says is in directions in which
    its vectors hardly differ."""
    values, vectors = np.linalg.eigh(np.cov(text, rowvar=False))
    whiten = vectors / np.sqrt(values + 1e-3 * values.max()) @ vectors.T  # what hardly varies at all is left small
    return params | dict(
        text_mean=jnp.asarray(text.mean(0), jnp.float32),
        text_whiten=jnp.asarray(whiten, jnp.float32),
    )


def twin_from_codes(name: str, params: dict, codebook: jax.Array) -> dict:
    """Fresh params that know the codebook [K, C], its codes of length 1."""
    if name == "diffusion":
        return params | dict(codebook=codebook * codebook.shape[1] ** 0.5)
    return start_from_codes(params, codebook)
