"""The transformers: masked image tokens and a condition in, logits over the codebook out.

The base transformer (paper section 2.3) is conditioned on a caption, the super-resolution transformer (2.4) on a
caption and the base's tokens. Both enter by cross-attention. Their keys and values do not depend on the masked tokens,
so `condition` computes them once per image, not once per decoding step. No module holds state or randomness.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from minimuse.config import SuperresConfig, TransformerConfig
from minimuse.layers import Embed, Linear, attend, rows_apart, split_heads

# Standard deviation of token and position vectors before training. The usual 0.02 is a tenth of what a fresh layer adds
# to them, which outweighs them.
INIT_STD = 0.5
# What a layer keeps for its backward pass; the rest is computed again. Keeping the results of matrix products needs
# less memory than keeping everything, and on a CPU it is faster than keeping everything (too much to write) or nothing
# (too much to compute again).
REMAT = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def _linear(width_in: int, width_out: int, rngs: nnx.Rngs, scale: float = 1.0) -> Linear:
    init = nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
    return Linear(width_in, width_out, init, rngs=rngs)


class SelfBlock(nnx.Module):
    """Self-attention among image tokens, then an MLP; each after a norm, each added to x."""

    branches = 2

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        d, self.heads, self.attention = config.width, config.heads, config.attention
        if self.heads < 1 or d % self.heads:
            raise ValueError(f"a width of {d} cannot be split into {self.heads} heads")
        self.out_scale = 1 / (self.branches * config.depth)  # all branches of all layers add up; start them small
        self.norm1, self.norm3 = (nnx.RMSNorm(d, rngs=rngs) for _ in range(2))
        self.qkv = _linear(d, 3 * d, rngs)
        self.out = _linear(d, d, rngs, self.out_scale)
        self.up = _linear(d, config.mlp_width, rngs)
        self.down = _linear(config.mlp_width, d, rngs, self.out_scale)

    def queries_keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values of self-attention: x [B, N, D] -> three times [B, N, heads, D / heads]."""
        q, k, v = (split_heads(part, self.heads) for part in jnp.split(self.qkv(self.norm1(x)), 3, axis=-1))
        return q, k, v

    def self_attention(self, x: jax.Array) -> jax.Array:
        """The first branch: x [B, N, D] -> [B, N, D]."""
        return x + self.out(attend(*self.queries_keys_values(x), how=self.attention))

    def mlp(self, x: jax.Array) -> jax.Array:
        """The last branch: x [B, N, D] -> [B, N, D]."""
        return x + self.down(jax.nn.gelu(self.up(self.norm3(x))))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] -> [B, N, D]."""
        return self.mlp(self.self_attention(x))


class Block(SelfBlock):
    """A SelfBlock with cross-attention to the text between self-attention and MLP."""

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
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def cross_attention(self, x: jax.Array, keys: jax.Array, values: jax.Array, text_mask: jax.Array) -> jax.Array:
        """The second branch: x [B, N, D] -> [B, N, D]; see `keys_values`; text_mask is bool [B, S]."""
        q = split_heads(self.cross_q(self.norm2(x)), self.heads)
        seen = attend(q, keys, values, text_mask, self.attention)
        # Without a caption there is nothing to attend to: only self-attention is left (section 2.7).
        has_text = jnp.any(text_mask, -1)[:, None, None]
        return x + self.cross_out(seen) * has_text

    def __call__(self, x: jax.Array, keys: jax.Array, values: jax.Array, text_mask: jax.Array) -> jax.Array:
        """All three branches: x [B, N, D] -> [B, N, D]."""
        return self.mlp(self.cross_attention(self.self_attention(x), keys, values, text_mask))


def to_windows(x: jax.Array, grid: tuple[int, int], side: int) -> jax.Array:
    """Image tokens [B, N, D] in rows, reordered window by window; a window has side x side positions."""
    (b, _, d), (h, w) = x.shape, grid
    x = x.reshape(b, h // side, side, w // side, side, d)
    return x.swapaxes(2, 3).reshape(b, h * w, d)


def from_windows(x: jax.Array, grid: tuple[int, int], side: int) -> jax.Array:
    """The inverse of to_windows."""
    (b, _, d), (h, w) = x.shape, grid
    x = x.reshape(b, h // side, w // side, side, side, d)
    return x.swapaxes(2, 3).reshape(b, h * w, d)


class MultiAxisBlock(Block):
    """Multi-axis self-attention (HiT, arXiv 2106.07631), for grids where N x N scores are too many.

    Tokens come window by window (`to_windows`). Half of the heads attend within a token's own window, the other half to
    the tokens at the same position of every window; two layers connect every token to every other. With P positions in
    a window, a token attends to P + N / P tokens instead of N.
    """

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.window_size = config.window**2

    def self_attention(self, x: jax.Array) -> jax.Array:
        """x [B, N, D], window by window -> [B, N, D]."""
        (b, n, _), p, half = x.shape, self.window_size, self.heads // 2
        q, k, v = (part.reshape(b, n // p, p, self.heads, -1) for part in self.queries_keys_values(x))
        one_batch = lambda part: part.reshape(-1, *part.shape[2:])
        near = attend(*(one_batch(part[..., :half, :]) for part in (q, k, v)), how=self.attention)
        far = attend(*(one_batch(part[..., half:, :].swapaxes(1, 2)) for part in (q, k, v)), how=self.attention)
        far = far.reshape(b, p, n // p, -1).swapaxes(1, 2)
        return x + self.out(jnp.concatenate([near.reshape(b, n, -1), far.reshape(b, n, -1)], -1))


def _stack(block: type[SelfBlock], config: TransformerConfig, depth: int, rngs: nnx.Rngs) -> SelfBlock:
    """`depth` blocks as one block whose weights have one more axis, for lax.scan."""
    keys = jax.random.split(rngs.params(), depth)
    return jax.vmap(lambda key: block(config, rngs=nnx.Rngs(key)))(keys)


class BaseTransformer(nnx.Module):
    """Logits of image tokens given a caption. [MASK] is the token id K, one past the codebook."""

    block = Block

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        d, (h, w) = config.width, config.grid
        self.grid, self.mask_id, self.window = config.grid, config.codebook_size, config.window
        self.remat = config.remat
        if config.remat not in REMAT:
            raise ValueError(f"There is no remat {config.remat!r}; there are {', '.join(REMAT)}.")
        if config.window and (h % config.window or w % config.window or config.heads % 2):
            raise ValueError(
                f"Multi-axis attention splits {h} x {w} tokens into windows of {config.window} x {config.window}, and "
                f"{config.heads} heads into two halves. Choose a window that divides both sides, and an even number."
            )
        normal = lambda *shape: INIT_STD * jax.random.normal(rngs.params(), shape)
        self.embed = Embed(config.codebook_size + 1, d, embedding_init=nnx.initializers.normal(INIT_STD), rngs=rngs)
        # A learned 2D position is a row's vector plus a column's.
        self.rows, self.columns = nnx.Param(normal(h, 1, d)), nnx.Param(normal(1, w, d))
        self.text_mean = nnx.Param(jnp.zeros(config.text_width))
        self.text_whiten = nnx.Param(jnp.eye(config.text_width))  # both set by `start_from_text`, not trained
        self.text = _linear(config.text_width, d, rngs)
        # T5 knows relative positions only, and its pretraining decides whether its vectors encode the order of words.
        # Where they do not, "a cat left of a dog" is a bag of words; so positions in the caption have vectors, too.
        self.text_positions = nnx.Param(normal(config.text_length, d))
        self.blocks = _stack(MultiAxisBlock if config.window else self.block, config, config.depth, rngs)
        self.norm = nnx.RMSNorm(d, rngs=rngs)
        self.head_proj = _linear(d, d, rngs)
        self.logits = _linear(d, config.codebook_size, rngs)

    def text_keys_values(self, text: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Text embeddings [B, S, text_width] -> every layer's keys and values, each [depth, B, S, heads, D/heads]."""
        mean, whiten = jax.lax.stop_gradient((self.text_mean[...], self.text_whiten[...]))
        positions, s = self.text_positions[...], text.shape[1]
        if s > len(positions):
            raise ValueError(f"The caption has {s} text tokens; this transformer takes {len(positions)} at most.")
        text = self.text((text.astype(mean.dtype) - mean) @ whiten) + positions[:s]
        return jax.lax.map(lambda block: block.keys_values(text), self.blocks)

    def condition(self, text: tuple[jax.Array, jax.Array], low: jax.Array | None = None) -> tuple[tuple, jax.Array]:
        """What the masked tokens attend to: text (embeddings [B, S, text_width], mask bool [B, S]) -> keys and values
        for `__call__`, and their mask. `low` is for the super-resolution transformer."""
        del low
        embeddings, text_mask = text
        return self.text_keys_values(embeddings), text_mask

    def first_half(self, condition: tuple[tuple, jax.Array]) -> tuple[tuple, jax.Array]:
        """What `condition` returned for 2 B texts, for the first B of them."""
        keys_values, mask = condition
        half = len(mask) // 2
        return jax.tree.map(lambda x: x[:, :half], keys_values), mask[:half]

    def positions(self) -> jax.Array:
        """One vector per position, [N, D]."""
        positions = self.rows[...] + self.columns[...]
        return positions.reshape(-1, positions.shape[-1])

    def embed_tokens(self, tokens: jax.Array) -> jax.Array:
        """Image tokens int [B, N] (N = h w, row by row) -> token plus position vectors, [B, N, D]."""
        h, w = self.grid
        if tokens.shape[1] != h * w:
            raise ValueError(f"This transformer takes {h} x {w} tokens; it was given {tokens.shape[1]}.")
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
        return self.logits(jax.nn.gelu(self.head_proj(self.norm(x))))

    def __call__(self, tokens: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """Image tokens int [B, N], keys_values of `text_keys_values`, text_mask bool [B, S] (False at padding, all
        False for no caption) -> logits [B, N, K]."""
        return self.head(self.through_blocks(self.embed_tokens(tokens), keys_values, text_mask))


class SuperresTransformer(BaseTransformer):
    """Tokens of the fine grid, given a caption and the tokens of the coarse one (figure 4 of the paper).

    The coarse, low-resolution tokens go through self-attention layers of their own. Their output is concatenated with
    the text, and masked tokens attend to both.
    """

    def __init__(self, config: SuperresConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.low_grid = config.low_grid
        if any(fine % coarse for fine, coarse in zip(config.grid, config.low_grid)):
            raise ValueError(f"A grid of {config.grid} tokens is not a multiple of one of {config.low_grid}.")
        normal = nnx.initializers.normal(INIT_STD)
        self.low_embed = Embed(config.low_codebook_size, config.width, embedding_init=normal, rngs=rngs)
        self.low_blocks = _stack(SelfBlock, dataclasses.replace(config, depth=config.low_depth), config.low_depth, rngs)
        self.low_norm = nnx.RMSNorm(config.width, rngs=rngs)

    def low_positions(self) -> jax.Array:
        """One vector per coarse position, [n, D]: the mean over the fine positions that it covers, so that the two
        grids are aligned before anything is learned."""
        (h, w), (rows, columns) = self.low_grid, self.grid
        return self.positions().reshape(h, rows // h, w, columns // w, -1).mean((1, 3)).reshape(h * w, -1)

    def encode_low(self, low: jax.Array) -> jax.Array:
        """Low-resolution tokens int [B, n] -> the vectors that masked tokens attend to, [B, n, D]."""
        h, w = self.low_grid
        if low.shape[1] != h * w:
            raise ValueError(f"This transformer takes {h} x {w} low-resolution tokens; it was given {low.shape[1]}.")
        x = self.low_embed(low) + self.low_positions()
        x, _ = jax.lax.scan(lambda x, block: (rows_apart(block(rows_apart(x))), None), x, self.low_blocks)
        return self.low_norm(x) + self.low_positions()

    def condition(self, text: tuple[jax.Array, jax.Array], low: jax.Array | None = None) -> tuple[tuple, jax.Array]:
        """As BaseTransformer's, with low-resolution tokens int [B, n] before the text; they are never masked.

        There may be a multiple of B texts, as in guidance: the low-resolution tokens are then repeated, and still
        computed once.
        """
        if low is None:
            raise ValueError("The super-resolution transformer needs low-resolution tokens; it was given none.")
        embeddings, text_mask = text
        seen = self.encode_low(low)
        seen = jax.lax.map(lambda block: block.keys_values(seen), self.blocks)
        again = len(text_mask) // len(low)
        join = lambda a, b: jnp.concatenate([jnp.tile(a, (1, again, 1, 1, 1)), b], 2)
        mask = jnp.concatenate([jnp.ones((len(text_mask), low.shape[1]), bool), text_mask], 1)
        return jax.tree.map(join, seen, self.text_keys_values(embeddings)), mask


@jax.jit
def forward(
    model: BaseTransformer,
    tokens: jax.Array,
    text: jax.Array,
    text_mask: jax.Array,
    low: jax.Array | None = None,
) -> jax.Array:
    """Logits [B, N, K] in one call, for looking at the model; decoding computes keys and values only once instead."""
    return model(tokens, *model.condition((text, text_mask), low))
