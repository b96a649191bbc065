"""The transformers: masked image tokens and what they are drawn from in, logits over the codebook out.

The base transformer (paper section 2.3) draws from a caption, the super-resolution transformer (2.4) from a caption and
the base's tokens. Both enter by cross-attention. Their keys and values do not depend on the masked tokens, so
`condition` computes them once an image, not once a decoding step. No module holds state or randomness.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from minimuse import layers
from minimuse.config import SuperresConfig, TransformerConfig
from minimuse.layers import _heads, attend, rows_apart

# Size of token and position vectors before training. The usual 0.02 is a tenth of what a fresh layer adds to it, which
# all but drowns them (tests/test_transformer.py compares the two).
START = 0.5
# What of a layer is kept for its backward pass; the rest is computed again. Keeping what the matrix products gave needs
# less memory than keeping all, and on a CPU it is faster than either keeping all (too much to write) or nothing (too
# much to compute again).
REMAT = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def _linear(width_in: int, width_out: int, rngs: nnx.Rngs, scale: float = 1.0) -> layers.Linear:
    init = nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
    return layers.Linear(width_in, width_out, init, rngs=rngs)


class SelfBlock(nnx.Module):
    """Self-attention among image tokens, then an MLP; each after a norm, each added to x."""

    branches = 2

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        d, self.heads, self.attention = config.width, config.heads, config.attention
        if self.heads < 1 or d % self.heads:
            raise ValueError(f"a width of {d} does not part into {self.heads} heads")
        self.out_scale = 1 / (self.branches * config.depth)  # all branches of all layers add up; start them small
        self.norm1, self.norm3 = (nnx.RMSNorm(d, rngs=rngs) for _ in range(2))
        self.qkv = _linear(d, 3 * d, rngs)
        self.out = _linear(d, d, rngs, self.out_scale)
        self.up = _linear(d, config.mlp_width, rngs)
        self.down = _linear(config.mlp_width, d, rngs, self.out_scale)

    def queries_keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of the self-attention: x [B, N, D] -> three times [B, N, heads, D / heads]."""
        q, k, v = (_heads(part, self.heads) for part in jnp.split(self.qkv(self.norm1(x)), 3, axis=-1))
        return q, k, v

    def look_around(self, x: jax.Array) -> jax.Array:
        """The first branch, self-attention: x [B, N, D] -> [B, N, D]."""
        return x + self.out(attend(*self.queries_keys_values(x), how=self.attention))

    def think(self, x: jax.Array) -> jax.Array:
        """The last branch, the MLP: x [B, N, D] -> [B, N, D]."""
        return x + self.down(jax.nn.gelu(self.up(self.norm3(x))))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] -> [B, N, D]."""
        return self.think(self.look_around(x))


class Block(SelfBlock):
    """With cross-attention to the text between the two."""

    branches = 3

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        d = config.width
        self.norm2 = nnx.RMSNorm(d, rngs=rngs)
        self.cross_q = _linear(d, d, rngs)
        self.cross_kv = _linear(d, 2 * d, rngs)
        self.cross_out = _linear(d, d, rngs, self.out_scale)

    def keys_values(self, text: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Projected text [B, S, D] -> keys and values, each [B, S, heads, D / heads]."""
        k, v = jnp.split(self.cross_kv(text), 2, axis=-1)
        return _heads(k, self.heads), _heads(v, self.heads)

    def read(self, x: jax.Array, keys: jax.Array, values: jax.Array, text_mask: jax.Array) -> jax.Array:
        """The other two branches, cross-attention and MLP: x [B, N, D] -> [B, N, D]."""
        q = _heads(self.cross_q(self.norm2(x)), self.heads)
        seen = attend(q, keys, values, text_mask, self.attention)
        # Without a caption there is nothing to attend to: only self-attention is left (section 2.7).
        has_text = jnp.any(text_mask, -1)[:, None, None]
        return self.think(x + self.cross_out(seen) * has_text)

    def __call__(self, x, keys, values, text_mask):
        """x [B, N, D]; keys, values of `keys_values`; text_mask bool [B, S] -> [B, N, D]."""
        return self.read(self.look_around(x), keys, values, text_mask)


def to_windows(x: jax.Array, grid: tuple[int, int], side: int) -> jax.Array:
    """Image tokens [B, N, D], row by row, in the order of windows of side x side places: first all of the first."""
    (b, _, d), (h, w) = x.shape, grid
    x = x.reshape(b, h // side, side, w // side, side, d)
    return x.swapaxes(2, 3).reshape(b, h * w, d)


def from_windows(x: jax.Array, grid: tuple[int, int], side: int) -> jax.Array:
    """The inverse of to_windows."""
    (b, _, d), (h, w) = x.shape, grid
    x = x.reshape(b, h // side, w // side, side, side, d)
    return x.swapaxes(2, 3).reshape(b, h * w, d)


class MultiAxisBlock(Block):
    """Multi-axis self-attention (HiT, arXiv 2106.07631), for grids where N x N is too much.

    Tokens come window by window (`to_windows`). Half of the heads attend within a token's own window, the other half to
    the tokens at the same place of every window; two layers bring every token to every other. A token then has
    P + N / P others to look at instead of N, with P places a window.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.places = config.window**2

    def look_around(self, x: jax.Array) -> jax.Array:
        """x [B, N, D], window by window -> [B, N, D]."""
        (b, n, _), p, half = x.shape, self.places, self.heads // 2
        q, k, v = (part.reshape(b, n // p, p, self.heads, -1) for part in self.queries_keys_values(x))
        one_batch = lambda part: part.reshape(-1, *part.shape[2:])
        near = attend(*(one_batch(part[..., :half, :]) for part in (q, k, v)), how=self.attention)
        far = attend(*(one_batch(part[..., half:, :].swapaxes(1, 2)) for part in (q, k, v)), how=self.attention)
        far = far.reshape(b, p, n // p, -1).swapaxes(1, 2)
        return x + self.out(jnp.concatenate([near.reshape(b, n, -1), far.reshape(b, n, -1)], -1))


def _stack(block: type[SelfBlock], config: TransformerConfig, depth: int, rngs: nnx.Rngs) -> SelfBlock:
    """`depth` blocks as one whose weights have one more axis, for lax.scan."""
    keys = jax.random.split(rngs.params(), depth)
    return jax.vmap(lambda key: block(config, rngs=nnx.Rngs(key)))(keys)


class BaseTransformer(nnx.Module):
    """[MASK] is the token id K, one past the codebook."""

    block = Block

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        d, (h, w) = config.width, config.grid
        self.grid, self.mask_id, self.window = config.grid, config.codebook_size, config.window
        self.remat = config.remat
        if config.remat not in REMAT:
            raise ValueError(f"There is no remat {config.remat!r}; there are {', '.join(REMAT)}.")
        if config.window and (h % config.window or w % config.window or config.heads % 2):
            raise ValueError(
                f"Multi-axis attention parts {h} x {w} tokens into windows of {config.window} x {config.window}, and "
                f"{config.heads} heads into two halves. Choose a window that divides both sides, and an even number."
            )
        normal = lambda *shape: START * jax.random.normal(rngs.params(), shape)
        self.embed = layers.Embed(config.codebook_size + 1, d, embedding_init=nnx.initializers.normal(START), rngs=rngs)
        # A learned 2D position is a row's vector plus a column's.
        self.rows, self.columns = nnx.Param(normal(h, 1, d)), nnx.Param(normal(1, w, d))
        self.text_mean = nnx.Param(jnp.zeros(config.text_width))
        self.text_whiten = nnx.Param(jnp.eye(config.text_width))  # both from `start_from_text`, not trained
        self.text = _linear(config.text_width, d, rngs)
        # T5 knows relative positions alone, and its pretraining decides whether its vectors tell the order of words.
        # Where they do not, "a cat left of a dog" is a bag of words; so the places of a caption have vectors, too.
        self.text_positions = nnx.Param(normal(config.text_length, d))
        self.blocks = _stack(MultiAxisBlock if config.window else self.block, config, config.depth, rngs)
        self.norm = nnx.RMSNorm(d, rngs=rngs)
        self.hidden = _linear(d, d, rngs)
        self.logits = _linear(d, config.codebook_size, rngs)

    def text_keys_values(self, text: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Text embeddings [B, S, text_width] -> every layer's keys and values, each [depth, B, S, heads, D/heads]."""
        mean, whiten = jax.lax.stop_gradient((self.text_mean[...], self.text_whiten[...]))
        positions, s = self.text_positions[...], text.shape[1]
        if s > len(positions):
            raise ValueError(f"A caption of {s} text tokens; this transformer was made for {len(positions)} at most.")
        text = self.text((text.astype(mean.dtype) - mean) @ whiten) + positions[:s]
        return jax.lax.map(lambda block: block.keys_values(text), self.blocks)

    def condition(self, text: tuple[jax.Array, jax.Array], low: jax.Array | None = None) -> tuple[tuple, jax.Array]:
        """What the masked tokens are drawn from: text (embeddings [B, S, text_width], mask bool [B, S]) -> keys and
        values for `__call__`, and their mask. `low` is for the super-resolution transformer."""
        embeddings, text_mask = text
        return self.text_keys_values(embeddings), text_mask

    def positions(self) -> jax.Array:
        """One vector a place, [N, D]."""
        positions = self.rows[...] + self.columns[...]
        return positions.reshape(-1, positions.shape[-1])

    def place(self, tokens: jax.Array) -> jax.Array:
        """Image tokens int [B, N] (N = h w, row by row) -> their vectors with their positions' added, [B, N, D]."""
        h, w = self.grid
        if tokens.shape[1] != h * w:
            raise ValueError(f"This transformer was made for {h} x {w} tokens; it was given {tokens.shape[1]}.")
        return self.embed(tokens) + self.positions()

    def through_blocks(self, x: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """x [B, N, D] through every layer, [B, N, D]."""

        @functools.partial(jax.checkpoint, policy=REMAT[self.remat])
        def layer(x, inputs):
            block, (keys, values) = inputs
            return rows_apart(block(rows_apart(x), keys, values, text_mask)), None

        if self.window:
            x = to_windows(x, self.grid, self.window)
        x, _ = jax.lax.scan(layer, x, (self.blocks, keys_values))
        return from_windows(x, self.grid, self.window) if self.window else x

    def head(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] -> logits [B, N, K]."""
        return self.logits(jax.nn.gelu(self.hidden(self.norm(x))))

    def __call__(self, tokens: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """Image tokens int [B, N], keys_values of `text_keys_values`, text_mask bool [B, S] (False at padding, all
        False for no caption) -> logits [B, N, K]."""
        return self.head(self.through_blocks(self.place(tokens), keys_values, text_mask))


class SuperresTransformer(BaseTransformer):
    """Tokens of the fine grid, given a caption and the tokens of the coarse one (figure 4 of the paper).

    The coarse, low-resolution tokens go through self-attention layers of their own. What comes out stands beside the
    text, and the masked tokens read both alike.
    """

    def __init__(self, config: SuperresConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.low_grid = config.low_grid
        if any(fine % coarse for fine, coarse in zip(config.grid, config.low_grid)):
            raise ValueError(f"A grid of {config.grid} tokens is no whole multiple of one of {config.low_grid}.")
        normal = nnx.initializers.normal(START)
        self.low_embed = layers.Embed(config.low_codebook_size, config.width, embedding_init=normal, rngs=rngs)
        self.low_blocks = _stack(SelfBlock, dataclasses.replace(config, depth=config.low_depth), config.low_depth, rngs)
        self.low_norm = nnx.RMSNorm(config.width, rngs=rngs)

    def low_positions(self) -> jax.Array:
        """One vector a coarse place, [n, D]: the mean of those of the fine places it covers, so that the two grids
        are laid over each other before anything is learned."""
        (h, w), (rows, columns) = self.low_grid, self.grid
        return self.positions().reshape(h, rows // h, w, columns // w, -1).mean((1, 3)).reshape(h * w, -1)

    def read_low(self, low: jax.Array) -> jax.Array:
        """Low-resolution tokens int [B, n] -> what the masked tokens may read of them, [B, n, D]."""
        h, w = self.low_grid
        if low.shape[1] != h * w:
            raise ValueError(f"This transformer was made for {h} x {w} low-resolution tokens; it got {low.shape[1]}.")
        x = self.low_embed(low) + self.low_positions()
        x, _ = jax.lax.scan(lambda x, block: (rows_apart(block(rows_apart(x))), None), x, self.low_blocks)
        return self.low_norm(x) + self.low_positions()

    def condition(self, text: tuple[jax.Array, jax.Array], low: jax.Array | None = None) -> tuple[tuple, jax.Array]:
        """As BaseTransformer's, with low-resolution tokens int [B, n] before the text; they are never masked.

        There may be a multiple of B texts, as in guidance: the low-resolution tokens are then taken again from the
        first, and still computed once.
        """
        if low is None:
            raise ValueError("The super-resolution transformer draws from low-resolution tokens; it was given none.")
        embeddings, text_mask = text
        seen = self.read_low(low)
        seen = jax.lax.map(lambda block: block.keys_values(seen), self.blocks)
        again = len(text_mask) // len(low)
        join = lambda a, b: jnp.concatenate([jnp.tile(a, (1, again, 1, 1, 1)), b], 2)
        mask = jnp.concatenate([jnp.ones((len(text_mask), low.shape[1]), bool), text_mask], 1)
        return jax.tree.map(join, seen, self.text_keys_values(embeddings)), mask


@functools.partial(jax.jit, static_argnames="graphdef")
def forward(
    graphdef, params: dict, tokens: jax.Array, text: jax.Array, text_mask: jax.Array, low: jax.Array | None = None
) -> jax.Array:
    """Logits [B, N, K] in one call, for looking at the model; decoding reuses keys and values instead."""
    model = nnx.merge(graphdef, params)
    return model(tokens, *model.condition((text, text_mask), low))
