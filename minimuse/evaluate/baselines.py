"""Two other ways to draw the same tokens, to compare Muse with: an autoregressive and a latent diffusion twin.

Each has the base transformer's blocks, text and sizes, and is trained on the same tokens for as many steps. The
autoregressive twin stands for Parti (arXiv 2206.10789): one token after another, row by row. The diffusion twin stands
for Stable Diffusion (arXiv 2112.10752): all places at once, as continuous vectors, noise taken away step by step.
Nothing of Muse needs this file.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse import layers, transformer
from minimuse.config import DiffusionConfig, Preset, TransformerConfig, from_dict
from minimuse.decoding import both_halves, checked, draw_tokens, guide, other_keys, whole_number
from minimuse.layers import attend
from minimuse.muse import Muse
from minimuse.transformer import BaseTransformer, Block
from minimuse.vqgan import nearest_code
from minimuse.weights import find_checkpoint, load_weights, read_config

# --- autoregressive -------------------------------------------------------------------------------------------------


class CausalBlock(Block):
    """A block whose self-attention sees a place itself and those before it."""

    def look_around(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] -> [B, N, D], all places at once, for training."""
        back = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))[None]
        return x + self.out(attend(*self.queries_keys_values(x), back, self.attention))


class AutoregressiveTransformer(BaseTransformer):
    """Logits of every token given those before it. What it reads is shifted by one place: the token id K, which is
    [MASK] elsewhere, begins the picture; then come all tokens but the last."""

    block = CausalBlock

    def __call__(self, tokens: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """As BaseTransformer: tokens int [B, N] -> logits [B, N, K], of which place i has seen tokens 0 to i - 1."""
        start = jnp.full_like(tokens[:, :1], self.embed.num_embeddings - 1)
        return super().__call__(jnp.concatenate([start, tokens[:, :-1]], 1), keys_values, text_mask)

    def step(self, token: jax.Array, i: jax.Array, past: tuple, keys_values: tuple, text_mask: jax.Array) -> tuple:
        """One place: token int [B], the one before place i -> (logits [B, K], past with place i added).

        past    keys and values of every layer, each [depth, B, N, heads, D / heads], of the places before i
        """
        n = past[0].shape[2]
        seen = (jnp.arange(n) <= i)[None]

        def layer(carry, inputs):
            x, past = carry
            number, block, (keys, values) = inputs
            q, *new = block.queries_keys_values(x)
            # Written into the whole stack, so that the loop changes it in place and copies nothing.
            past = [jax.lax.dynamic_update_slice(a, b[None], (number, 0, i, 0, 0)) for a, b in zip(past, new)]
            k, v = (jax.lax.dynamic_index_in_dim(a, number, keepdims=False) for a in past)
            x = x + block.out(attend(q, k, v, seen, block.attention))
            return (block.read(x, keys, values, text_mask), past), None

        x = (self.embed(token) + self.positions()[i])[:, None]
        numbers = jnp.arange(len(past[0]))
        (x, past), _ = jax.lax.scan(layer, (x, list(past)), (numbers, self.blocks, keys_values))
        return self.head(x)[:, 0], tuple(past)


@functools.partial(jax.jit, static_argnames=("graphdef", "guided", "top_k"))
def sample_autoregressive(graphdef, params, text, negative, keys, options, *, guided: bool, top_k: int = 0):
    """Tokens int [B, N], one after another in one compiled loop; keys and values of past places are kept.

    text, negative, keys   as `Muse.prompts` makes them
    options                guidance, the same at every place, and token_temperature
    """
    model, batch = nnx.merge(graphdef, params), len(keys)
    if guided:
        text = both_halves(text, negative)
    embeddings, text_mask = text
    keys_values = model.text_keys_values(embeddings)
    depth, rows, _, *head = keys_values[0].shape
    n, mask_id = len(model.positions()), model.embed.num_embeddings - 1

    def place(carry, i):
        token, past = carry
        both = both_halves(token, token) if guided else token
        logits, past = model.step(both, i, past, keys_values, text_mask)
        if guided:
            logits = guide(logits[:batch], logits[batch:], options["guidance"])
        here = other_keys(keys, i)
        drawn, _ = draw_tokens(here, logits[:, None], options["token_temperature"], top_k)
        return (drawn[:, 0], past), drawn[:, 0]

    past = (jnp.zeros((depth, rows, n, *head)),) * 2
    start = jnp.full(batch, mask_id, jnp.int32)
    return jax.lax.scan(place, (start, past), jnp.arange(n))[1].T


# --- diffusion ------------------------------------------------------------------------------------------------------


def signal_and_noise(progress: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How much of z = alpha x + sigma e is picture and how much noise, at progress 0 (picture) to 1 (noise)."""
    return jnp.cos(jnp.pi / 2 * progress), jnp.sin(jnp.pi / 2 * progress)


class DiffusionTransformer(BaseTransformer):
    """Sees noisy latents and predicts v = alpha e - sigma x (arXiv 2202.00512), which tells both picture x and noise e.

    A latent is the code of a token, scaled to a variance of 1: what the tokenizer's decoder is given, so the decoder
    needs nothing new. Where sampling ends, the nearest code is taken, as latent diffusion does with a VQGAN.
    """

    def __init__(self, config: DiffusionConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        d, c = config.width, config.code_dim
        self.embed = layers.Linear(c, d, nnx.initializers.normal(transformer.START * c**-0.5), rngs=rngs)
        self.logits = layers.Linear(d, c, nnx.initializers.zeros, rngs=rngs)
        self.time = layers.Linear(d, d, nnx.initializers.normal(transformer.START * d**-0.5), rngs=rngs)
        self.codebook = nnx.Param(jnp.zeros((config.codebook_size, c)))  # the tokenizer's, not trained

    def codes(self) -> jax.Array:
        """[K, C], fixed."""
        return jax.lax.stop_gradient(self.codebook[...])

    def __call__(self, z: jax.Array, progress: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """z [B, N, C] at progress [B] -> v [B, N, C]."""
        d = self.time.kernel.shape[0]
        waves = progress[:, None] * jnp.geomspace(1, 1000, d // 2)
        time = self.time(jnp.sqrt(2) * jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], -1))
        return self.head(self.through_blocks(self.place(z) + time[:, None], keys_values, text_mask))


@functools.partial(jax.jit, static_argnames=("graphdef", "guided", "steps"))
def sample_diffusion(graphdef, params, text, negative, keys, options, *, guided: bool, steps: int):
    """Tokens int [B, N] by DDIM (arXiv 2010.02502): `steps` even steps from noise to picture, without fresh noise.

    text, negative, keys   as `Muse.prompts` makes them
    options                guidance, the same at every step
    """
    model, batch = nnx.merge(graphdef, params), len(keys)
    if guided:
        text = both_halves(text, negative)
    embeddings, text_mask = text
    keys_values = model.text_keys_values(embeddings)
    shape = len(model.positions()), model.codes().shape[1]

    def step(carry, s):
        z, _ = carry
        now, then = 1 - s / steps, 1 - (s + 1) / steps
        both = both_halves(z, z) if guided else z
        v = model(both, jnp.full(len(both), now), keys_values, text_mask)
        if guided:
            v = guide(v[:batch], v[batch:], options["guidance"])
        alpha, sigma = signal_and_noise(now)
        picture, noise = alpha * z - sigma * v, sigma * z + alpha * v
        alpha, sigma = signal_and_noise(then)
        return (alpha * picture + sigma * noise, picture), None

    z = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    (_, picture), _ = jax.lax.scan(step, (z, z), jnp.arange(steps))
    return nearest_code(picture, model.codes())


# --- both -----------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What a twin is made of."""

    config: type
    module: type[BaseTransformer]
    sample: Callable  # (graphdef, params, text, negative, keys, options, *, guided, ...) -> tokens int [B, N]
    numbers: dict  # its options that need no compiling anew, and what they are when they are not told
    static: dict  # those that do


TWINS = {
    "autoregressive": Kind(
        TransformerConfig,
        AutoregressiveTransformer,
        sample_autoregressive,
        dict(guidance=0.5, token_temperature=1.0),
        dict(top_k=0),
    ),
    "diffusion": Kind(DiffusionConfig, DiffusionTransformer, sample_diffusion, dict(guidance=2.0), dict(steps=50)),
}


def twin_config(name: str, preset: Preset) -> TransformerConfig:
    """The sizes of a preset's base transformer."""
    config = preset.base
    if name == "diffusion":
        config = DiffusionConfig(**dataclasses.asdict(config), code_dim=preset.tokenizer.code_dim)
    return config


class Twin:
    """A baseline that draws with a Muse's text encoder and tokenizer."""

    def __init__(self, name: str, muse: Muse, config: TransformerConfig, params: dict):
        self.name, self.muse, self.config, self.params = name, muse, config, params
        self.defaults = TWINS[name].numbers | TWINS[name].static
        self.graphdef, _ = layers.abstract(TWINS[name].module, config)

    @classmethod
    def from_pretrained(cls, name: str, checkpoint: str | os.PathLike = "tiny", muse: Muse | None = None) -> "Twin":
        """The twin of that name, `autoregressive` or `diffusion`, in a checkpoint folder; `muse` if it is loaded."""
        if name not in TWINS:
            raise ValueError(f"There is no twin {name!r}; there are {', '.join(TWINS)}.")
        folder = find_checkpoint(checkpoint)
        values = read_config(folder)
        if name not in values:
            raise ValueError(f"{folder} has no {name} twin. Train it: python -m minimuse train {name}")
        config = from_dict(TWINS[name].config, values[name])
        params = load_weights(folder / f"{name}.safetensors", layers.abstract(TWINS[name].module, config)[1])
        return cls(name, muse or Muse.from_pretrained(checkpoint), config, params)

    def tokens(self, captions, n: int = 1, seed: int = 0, *, negative=None, **options) -> jax.Array:
        """Tokens int [B, N]; the arguments are those of `generate`."""
        kind = TWINS[self.name]
        if unknown := sorted(set(options) - set(self.defaults)):
            raise ValueError(f"The {self.name} twin has no {', '.join(unknown)}; it has {', '.join(self.defaults)}.")
        numbers, static = ({k: options.get(k, v) for k, v in part.items()} for part in (kind.numbers, kind.static))
        numbers = checked(numbers)
        for option, value in static.items():
            low, high = dict(steps=(1, 1000), top_k=(0, self.config.codebook_size))[option]
            whole_number(option, value, low, high)
        text, negative, keys = self.muse.prompts(captions, n, seed, negative)
        guided = numbers["guidance"] > 0
        return kind.sample(self.graphdef, self.params, text, negative, keys, numbers, guided=guided, **static)

    def generate(self, captions, n: int = 1, seed: int = 0, *, negative=None, **options) -> np.ndarray:
        """As `Muse.generate`: uint8 [len(captions) * n, H, W, 3], a caption's images side by side.

        options    guidance; token_temperature and top_k of the autoregressive twin, steps of the diffusion twin
        """
        return np.asarray(self.muse.detokenize(self.tokens(captions, n, seed, negative=negative, **options)))
