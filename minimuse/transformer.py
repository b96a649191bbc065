"""The transformers: masked image tokens and what they are drawn from in, logits over the codebook out.

The base transformer (paper section 2.3) draws from a caption, the super-resolution transformer (2.4) from a caption and
the base's tokens. Both enter by cross-attention. Their keys and values do not depend on the masked tokens, so
`condition` computes them once an image, not once a decoding step. No module holds state or randomness.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse import masking, modules
from minimuse.config import SuperresConfig, TransformerConfig
from minimuse.mesh import rows_apart

# Size of token and position vectors before training. The usual 0.02 is a tenth of what a fresh layer adds to it, which
# all but drowns them (tests/test_transformer.py compares the two).
START = 0.5
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)  # mask rates between which training reports its loss apart
# What of a layer is kept for its backward pass; the rest is computed again. Keeping what the matrix products gave needs
# less memory than keeping all, and on a CPU it is faster than either keeping all (too much to write) or nothing (too
# much to compute again).
REMAT = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def _linear(width_in: int, width_out: int, rngs: nnx.Rngs, scale: float = 1.0) -> modules.Linear:
    init = nnx.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
    return modules.Linear(width_in, width_out, init, rngs=rngs)


def _heads(x: jax.Array, heads: int) -> jax.Array:
    return x.reshape(*x.shape[:-1], heads, -1)  # [B, N, D] -> [B, N, heads, D / heads]


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None, how: str = "plain") -> jax.Array:
    """Scaled dot-product attention: q [B, N, heads, d]; k, v [B, S, heads, d] -> [B, N, heads d].

    mask   bool [B, S] or [B, N, S], False where nothing is to be seen; a B of 1 stands for all
    how    "plain" two matrix products and a softmax, the fastest where N is small; "xla" JAX's own; "cudnn" the flash
           kernel of NVIDIA GPUs, which never stores the N x S scores and computes in bfloat16
    """
    if mask is not None:
        mask = (mask if mask.ndim == 3 else mask[:, None])[:, None]  # [B, 1, N or 1, S]: alike for every head
    if how == "plain":
        # Heads go to the front first: XLA's CPU takes an einsum over [B, N, heads, d] more slowly.
        q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
        scores = q @ k.mT  # [B, heads, N, S]
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(v.dtype)  # a sum in bfloat16 would lose digits
        seen = (weights @ v).swapaxes(1, 2)
    elif how in ("xla", "cudnn"):
        dtype = jnp.bfloat16 if how == "cudnn" else q.dtype
        seen = jax.nn.dot_product_attention(
            *(x.astype(dtype) for x in (q, k, v)),
            mask=mask,
            implementation=how,
        ).astype(q.dtype)
    else:
        raise ValueError(f"There is no attention {how!r}; there are plain, xla and cudnn.")
    return seen.reshape(*seen.shape[:2], -1)


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
        one_batch = lambda part: part.reshape(-1, *part.shape[2:])  # noqa: E731
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
        normal = lambda *shape: START * jax.random.normal(rngs.params(), shape)  # noqa: E731
        self.embed = modules.Embed(
            config.codebook_size + 1, d, embedding_init=nnx.initializers.normal(START), rngs=rngs
        )
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
        self.low_embed = modules.Embed(config.low_codebook_size, config.width, embedding_init=normal, rngs=rngs)
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
        join = lambda a, b: jnp.concatenate([jnp.tile(a, (1, again, 1, 1, 1)), b], 2)  # noqa: E731
        mask = jnp.concatenate([jnp.ones((len(text_mask), low.shape[1]), bool), text_mask], 1)
        return jax.tree.map(join, seen, self.text_keys_values(embeddings)), mask


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

    spread = lambda codebook: (codebook - codebook.mean(0)) / codebook.std(0)  # noqa: E731
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


def drop_captions(key: jax.Array, text_mask: jax.Array, rate: float) -> jax.Array:
    """Take the caption from a share `rate` of the examples: their text_mask rows [B, S] become all False."""
    keep = jax.random.uniform(key, (text_mask.shape[0], 1)) >= rate
    return text_mask & keep


def token_losses(logits: jax.Array, tokens: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of logits [B, N, K] against tokens [B, N] in nats, float [B, N]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    right = jnp.take_along_axis(log_p, tokens[..., None], -1)[..., 0]
    return -(1 - smoothing) * right - smoothing * jnp.mean(log_p, -1)


def masked_loss(logits: jax.Array, tokens: jax.Array, mask: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy averaged over the masked places alone."""
    return jnp.sum(token_losses(logits, tokens, smoothing) * mask) / jnp.maximum(jnp.sum(mask), 1)


def by_mask_rate(values: dict[str, jax.Array], mask: jax.Array) -> dict[str, jax.Array]:
    """Means of values [B, N] over the masked places, apart for pictures of different mask rates.

    Their names end in the rate's upper end in percent: loss_r25 is the mean of "loss" where up to a quarter was
    hidden. NaN where the batch has no such picture.
    """
    rate, found = jnp.mean(mask, -1, keepdims=True), {}
    for low, high in zip(RATES, RATES[1:]):
        places = mask & (low < rate) & (rate <= high)
        for name, value in values.items():
            found[f"{name}_r{round(100 * high)}"] = jnp.sum(value * places) / jnp.sum(places)
    return found


def replace_some(key: jax.Array, tokens: jax.Array, most: float, codebook_size: int) -> jax.Array:
    """Random codes in some places of tokens int [B, n]: in a share of each row that is drawn uniformly up to `most`."""
    share_key, place_key, code_key = jax.random.split(key, 3)
    share = jax.random.uniform(share_key, (len(tokens), 1), maxval=most)
    codes = jax.random.randint(code_key, tokens.shape, 0, codebook_size)
    return jnp.where(jax.random.uniform(place_key, tokens.shape) < share, codes, tokens)


def transformer_loss(graphdef, config, train, params: dict, key: jax.Array, batch: dict):
    """Masked-token loss on batch: tokens int [B, N], text [B, S, text_width], text_mask bool [B, S]; for the
    super-resolution transformer low, int [B, n], too."""
    model = nnx.merge(graphdef, modules.cast(params, train.dtype))
    mask_key, drop_key = jax.random.split(key)
    tokens, low = batch["tokens"].astype(jnp.int32), batch.get("low")
    if low is not None and train.low_noise:
        low = replace_some(jax.random.fold_in(key, 2), low, train.low_noise, config.low_codebook_size)
    mask = masking.random_mask(mask_key, *tokens.shape, train.schedule)
    text_mask = drop_captions(drop_key, batch["text_mask"], train.caption_dropout)
    seen = model.condition((batch["text"].astype(jnp.float32), text_mask), low)
    logits = model(jnp.where(mask, config.codebook_size, tokens), *seen)
    losses, right = token_losses(logits, tokens, train.label_smoothing), jnp.argmax(logits, -1) == tokens
    mean = lambda value: jnp.sum(value * mask) / jnp.sum(mask)  # noqa: E731
    metrics = dict(accuracy=mean(right), mask_rate=jnp.mean(mask))
    return mean(losses), metrics | by_mask_rate(dict(loss=losses, accuracy=right), mask)


@functools.partial(jax.jit, static_argnames="graphdef")
def forward(
    graphdef, params: dict, tokens: jax.Array, text: jax.Array, text_mask: jax.Array, low: jax.Array | None = None
) -> jax.Array:
    """Logits [B, N, K] in one call, for looking at the model; decoding reuses keys and values instead."""
    model = nnx.merge(graphdef, params)
    return model(tokens, *model.condition((text, text_mask), low))


@functools.partial(jax.jit, static_argnames="graphdef")
def attention_to_text(
    graphdef, params: dict, tokens: jax.Array, text: jax.Array, text_mask: jax.Array, low: jax.Array | None = None
) -> jax.Array:
    """The weights of every layer's cross-attention, float [depth, B, heads, N, S]: how image tokens look at text.

    With low-resolution tokens int [B, n] it is [depth, B, heads, N, n + S]: they stand before the text.
    """
    model = nnx.merge(graphdef, params)
    keys_values, mask = model.condition((text, text_mask), low)
    batch, length = mask.shape
    x = model.place(tokens)
    if model.window:
        x = to_windows(x, model.grid, model.window)

    def layer(x, inputs):
        block, (keys, values) = inputs
        q = _heads(block.cross_q(block.norm2(block.look_around(x))), block.heads)
        # With a 1 of its own as each text token's value, what is seen are the weights.
        ones = jnp.broadcast_to(jnp.eye(length)[:, None], (batch, length, block.heads, length))
        seen = attend(q, keys, ones, mask)
        if model.window:
            seen = from_windows(seen, model.grid, model.window)
        return block(x, keys, values, mask), _heads(seen, block.heads).swapaxes(1, 2)

    return jax.lax.scan(layer, x, (model.blocks, keys_values))[1]
