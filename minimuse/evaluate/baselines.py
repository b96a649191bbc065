"""Two different ways to sample the same tokens, to compare Muse with: an autoregressive and a latent diffusion twin.

Each has the base transformer's blocks, text and sizes, and is trained on the same tokens for the same number of steps.
The autoregressive twin stands for Parti (arXiv 2206.10789): one token after another, row by row. The diffusion twin
stands for Stable Diffusion (arXiv 2112.10752): all positions at once, as continuous vectors, denoised step by step.
Nothing in Muse needs this file.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse.config import DiffusionConfig, Preset, Sampling, TransformerConfig, from_dict
from minimuse.decoding import Prompts, both_halves, check_sampling, draw_tokens, guided_predict, other_keys
from minimuse.layers import Linear, abstract, attend
from minimuse.muse import Muse
from minimuse.transformer import INIT_STD, BaseTransformer, Block
from minimuse.vqgan import nearest_code
from minimuse.weights import find_checkpoint, load_weights, read_config

MOST_STEPS = 1000  # of diffusion

# --- autoregressive -------------------------------------------------------------------------------------------------


class CausalBlock(Block):
    """A block in which a position attends to itself and to the positions before it."""

    def self_attention(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] -> [B, N, D], all positions at once, for training."""
        causal = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))[None]
        return x + self.out(attend(*self.queries_keys_values(x), causal, self.attention))


class AutoregressiveTransformer(BaseTransformer):
    """Logits of every token given the tokens before it. Its input is shifted by one position: it begins with the token
    id K, which is [MASK] in the base transformer, and leaves out the last token."""

    block = CausalBlock

    def __call__(self, tokens: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """As BaseTransformer: tokens int [B, N] -> logits [B, N, K]; at position i they depend on tokens 0 to i - 1."""
        start = jnp.full_like(tokens[:, :1], self.mask_id)
        return super().__call__(jnp.concatenate([start, tokens[:, :-1]], 1), keys_values, text_mask)

    def step(
        self, token: jax.Array, i: jax.Array, past: tuple, keys_values: tuple, text_mask: jax.Array
    ) -> tuple[jax.Array, tuple]:
        """One position: token int [B], the one before position i -> (logits [B, K], past with position i added).

        past    keys and values of every layer, each [depth, B, N, heads, D / heads], of the positions before i
        """
        n = past[0].shape[2]
        seen = (jnp.arange(n) <= i)[None]

        def layer(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
            x, past = carry
            number, block, (keys, values) = inputs
            q, *new = block.queries_keys_values(x)
            # Written into the whole stack, so that the loop changes it in place and copies nothing.
            past = [jax.lax.dynamic_update_slice(a, b[None], (number, 0, i, 0, 0)) for a, b in zip(past, new)]
            k, v = (jax.lax.dynamic_index_in_dim(a, number, keepdims=False) for a in past)
            x = x + block.out(attend(q, k, v, seen, block.attention))
            return (block.mlp(block.cross_attention(x, keys, values, text_mask)), tuple(past)), None

        x = (self.embed(token) + self.positions()[i])[:, None]
        numbers = jnp.arange(len(past[0]))
        (x, past), _ = jax.lax.scan(layer, (x, past), (numbers, self.blocks, keys_values))
        return self.head(x)[:, 0], past


@jax.jit
def sample_autoregressive(model: AutoregressiveTransformer, sampling: Sampling, prompts: Prompts) -> jax.Array:
    """Tokens int [B, N], one after another in one compiled loop; keys and values of past positions are kept.

    sampling    guidance (the same at every position), token_temperature and top_k count
    """
    (text, negative, keys), n = prompts, math.prod(model.grid)
    embeddings, text_mask = both_halves(text, negative) if sampling.guided else text
    keys_values = model.text_keys_values(embeddings)
    depth, rows, _, *head = keys_values[0].shape

    def position(carry: tuple, i: jax.Array) -> tuple[tuple, jax.Array]:
        token, past = carry
        predict = lambda token: model.step(token, i, past, keys_values, text_mask)
        logits, past = guided_predict(predict, sampling.guided, has_aux=True)(token, sampling.guidance)
        here = other_keys(keys, i)
        sampled, _ = draw_tokens(here, logits[:, None], sampling.token_temperature, sampling.top_k)
        return (sampled[:, 0], past), sampled[:, 0]

    past = (jnp.zeros((depth, rows, n, *head), jnp.float32),) * 2
    start = jnp.full(len(keys), model.mask_id, jnp.int32)
    return jax.lax.scan(position, (start, past), jnp.arange(n, dtype=jnp.int32))[1].T


# --- diffusion ------------------------------------------------------------------------------------------------------


def signal_and_noise(progress: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The factors of z = alpha x + sigma e, of picture x and noise e, at progress from 0 (picture) to 1 (noise)."""
    return jnp.cos(jnp.pi / 2 * progress), jnp.sin(jnp.pi / 2 * progress)


class DiffusionTransformer(BaseTransformer):
    """Takes noisy latents and predicts v = alpha e - sigma x (arXiv 2202.00512), from which picture x and noise e
    follow.

    A latent is the code of a token, scaled to a variance of 1. That is the input of the tokenizer's decoder, so the
    decoder needs no change. At the end of sampling each latent becomes its nearest code, as in latent diffusion with a
    VQGAN.
    """

    def __init__(self, config: DiffusionConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        d, c = config.width, config.code_dim
        self.embed = Linear(c, d, nnx.initializers.normal(INIT_STD * c**-0.5), rngs=rngs)
        self.logits = Linear(d, c, nnx.initializers.zeros, rngs=rngs)
        self.time = Linear(d, d, nnx.initializers.normal(INIT_STD * d**-0.5), rngs=rngs)
        self.codebook = nnx.Param(jnp.zeros((config.codebook_size, c)))  # the tokenizer's, not trained

    def codes(self) -> jax.Array:
        """The tokenizer's codebook [K, C], without gradients."""
        return jax.lax.stop_gradient(self.codebook[...])

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]  # noisy latents take the place of tokens
        self, z: jax.Array, progress: jax.Array, keys_values: tuple, text_mask: jax.Array
    ) -> jax.Array:
        """z [B, N, C] at progress [B] -> v [B, N, C]."""
        d = self.time.kernel.shape[0]
        waves = progress[:, None] * jnp.geomspace(1, 1000, d // 2)
        time = self.time(jnp.sqrt(2) * jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], -1))
        return self.head(self.through_blocks(self.embed_tokens(z) + time[:, None], keys_values, text_mask))


@jax.jit
def sample_diffusion(model: DiffusionTransformer, sampling: Sampling, prompts: Prompts) -> jax.Array:
    """Tokens int [B, N] by DDIM (arXiv 2010.02502): equal steps from noise to picture, without new noise.

    sampling    steps and guidance (the same at every step) count
    """
    (text, negative, keys), steps = prompts, sampling.steps
    embeddings, text_mask = both_halves(text, negative) if sampling.guided else text
    keys_values = model.text_keys_values(embeddings)
    shape = math.prod(model.grid), model.codes().shape[1]

    def step(carry: tuple, s: jax.Array) -> tuple[tuple, None]:
        z, _ = carry
        now, then = 1 - s / steps, 1 - (s + 1) / steps
        predict = lambda z: model(z, jnp.full(len(z), now), keys_values, text_mask)
        v = guided_predict(predict, sampling.guided)(z, sampling.guidance)
        alpha, sigma = signal_and_noise(now)
        picture, noise = alpha * z - sigma * v, sigma * z + alpha * v
        alpha, sigma = signal_and_noise(then)
        return (alpha * picture + sigma * noise, picture), None

    z = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
    (_, picture), _ = jax.lax.scan(step, (z, z), jnp.arange(steps))
    return nearest_code(picture, model.codes())


# --- both -----------------------------------------------------------------------------------------------------------


class Baseline(NamedTuple):
    """What a twin is made of."""

    config: type[TransformerConfig]
    module: type[BaseTransformer]
    sample: Callable[[Any, Sampling, Prompts], jax.Array]  # -> tokens int [B, N]
    sampling: Sampling  # what it samples with by default
    options: tuple[str, ...]  # the fields of `sampling` that it uses


BASELINES = {
    "autoregressive": Baseline(
        TransformerConfig,
        AutoregressiveTransformer,
        sample_autoregressive,
        Sampling(guidance=0.5, token_temperature=1.0, ramp=False),
        ("guidance", "token_temperature", "top_k"),
    ),
    "diffusion": Baseline(
        DiffusionConfig,
        DiffusionTransformer,
        sample_diffusion,
        Sampling(guidance=2.0, steps=50, ramp=False),
        ("guidance", "steps"),
    ),
}


def twin_config(name: str, preset: Preset) -> TransformerConfig:
    """The sizes of a preset's base transformer, for the twin of that name."""
    config = preset.base
    if name == "diffusion":
        config = DiffusionConfig(**dataclasses.asdict(config), code_dim=preset.tokenizer.code_dim)
    return config


class Twin:
    """A baseline that draws with a Muse's text encoder and tokenizer."""

    def __init__(self, name: str, muse: Muse, config: TransformerConfig, model: BaseTransformer):
        self.name, self.muse, self.config, self.model = name, muse, config, model
        baseline = BASELINES[name]
        self.defaults = {option: getattr(baseline.sampling, option) for option in baseline.options}

    @classmethod
    def from_pretrained(cls, name: str, checkpoint: str | os.PathLike = "tiny", muse: Muse | None = None) -> "Twin":
        """The twin `autoregressive` or `diffusion` of a checkpoint folder; `muse` is the folder's, if it is loaded.

        ValueError if the name or the folder's twin does not exist; FileNotFoundError if the folder does not exist.
        """
        if name not in BASELINES:
            raise ValueError(f"There is no twin {name!r}; there are {', '.join(BASELINES)}.")
        folder = find_checkpoint(checkpoint)
        values = read_config(folder)
        if name not in values:
            raise ValueError(f"{folder} has no {name} twin. Train it: python -m minimuse train {name}")
        config = from_dict(BASELINES[name].config, values[name])
        model = load_weights(folder / f"{name}.safetensors", abstract(BASELINES[name].module, config))
        return cls(name, muse or Muse.from_pretrained(checkpoint), config, model)

    def tokens(
        self,
        captions: str | Sequence[str],
        n: int = 1,
        seed: int = 0,
        *,
        negative: str | Sequence[str] | None = None,
        **options: Any,
    ) -> jax.Array:
        """Tokens int [B, N]; the arguments are those of `generate`."""
        baseline = BASELINES[self.name]
        if unknown := sorted(set(options) - set(baseline.options)):
            raise ValueError(f"The {self.name} twin has no {', '.join(unknown)}; it has {', '.join(baseline.options)}.")
        given = {name: value for name, value in options.items() if value is not None}
        sampling = dataclasses.replace(baseline.sampling, **given)
        sampling = check_sampling(sampling, MOST_STEPS, self.config.codebook_size)
        return baseline.sample(self.model, sampling, self.muse.prompts(captions, n, seed, negative))

    def generate(
        self,
        captions: str | Sequence[str],
        n: int = 1,
        seed: int = 0,
        *,
        negative: str | Sequence[str] | None = None,
        **options: Any,
    ) -> np.ndarray:
        """As `Muse.generate`: uint8 [len(captions) * n, H, W, 3], the images of a caption next to each other.

        options    guidance; token_temperature and top_k of the autoregressive twin, steps of the diffusion twin

        ValueError for an option that the twin does not have, or a value that is out of range.
        """
        return np.asarray(self.muse.detokenize(self.tokens(captions, n, seed, negative=negative, **options)))
