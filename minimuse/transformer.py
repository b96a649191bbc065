"""The base transformer (paper section 2.3): masked image tokens and a caption in, logits over the codebook out.

Text enters by cross-attention. Its keys and values do not depend on the image tokens, so `text_keys_values` computes
them once a caption, not once a decoding step. No module holds state or randomness.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse import masking, modules
from minimuse.config import TransformerConfig

# Size of token and position vectors before training. The usual 0.02 is a tenth of what a fresh layer adds to it, which
# all but drowns them (tests/test_transformer.py compares the two).
START = 0.5
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)  # mask rates between which training reports its loss apart


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
        scores = jnp.einsum("bnhd,bshd->bhns", q * q.shape[-1] ** -0.5, k)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        seen = jnp.einsum("bhns,bshd->bnhd", jax.nn.softmax(scores), v)
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


class Block(nnx.Module):
    """Self-attention among image tokens, cross-attention to the text, MLP; each after a norm, each added to x."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        d, self.heads, self.attention = config.width, config.heads, config.attention
        out_scale = 1 / (3 * config.depth)  # three branches a layer add up; start them small
        self.norm1, self.norm2, self.norm3 = (nnx.RMSNorm(d, rngs=rngs) for _ in range(3))
        self.qkv = _linear(d, 3 * d, rngs)
        self.out = _linear(d, d, rngs, out_scale)
        self.cross_q = _linear(d, d, rngs)
        self.cross_kv = _linear(d, 2 * d, rngs)
        self.cross_out = _linear(d, d, rngs, out_scale)
        self.up = _linear(d, config.mlp_width, rngs)
        self.down = _linear(config.mlp_width, d, rngs, out_scale)

    def keys_values(self, text: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Projected text [B, S, D] -> keys and values, each [B, S, heads, D / heads]."""
        k, v = jnp.split(self.cross_kv(text), 2, axis=-1)
        return _heads(k, self.heads), _heads(v, self.heads)

    def queries_keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Of the self-attention: x [B, N, D] -> three times [B, N, heads, D / heads]."""
        q, k, v = (_heads(part, self.heads) for part in jnp.split(self.qkv(self.norm1(x)), 3, axis=-1))
        return q, k, v

    def look_around(self, x: jax.Array) -> jax.Array:
        """The first branch, self-attention: x [B, N, D] -> [B, N, D]."""
        return x + self.out(attend(*self.queries_keys_values(x), how=self.attention))

    def read(self, x: jax.Array, keys: jax.Array, values: jax.Array, text_mask: jax.Array) -> jax.Array:
        """The other two, cross-attention and MLP: x [B, N, D] -> [B, N, D]."""
        q = _heads(self.cross_q(self.norm2(x)), self.heads)
        seen = attend(q, keys, values, text_mask, self.attention)
        # Without a caption there is nothing to attend to: only self-attention is left (section 2.7).
        has_text = jnp.any(text_mask, -1)[:, None, None]
        x = x + self.cross_out(seen) * has_text

        return x + self.down(jax.nn.gelu(self.up(self.norm3(x))))

    def __call__(self, x, keys, values, text_mask):
        """x [B, N, D]; keys, values of `keys_values`; text_mask bool [B, S] -> [B, N, D]."""
        return self.read(self.look_around(x), keys, values, text_mask)


class BaseTransformer(nnx.Module):
    """[MASK] is the token id K, one past the codebook."""

    block = Block

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        d, (h, w) = config.width, config.grid
        normal = lambda *shape: START * jax.random.normal(rngs.params(), shape)  # noqa: E731
        self.embed = nnx.Embed(config.codebook_size + 1, d, embedding_init=nnx.initializers.normal(START), rngs=rngs)
        # A learned 2D position is a row's vector plus a column's.
        self.rows, self.columns = nnx.Param(normal(h, 1, d)), nnx.Param(normal(1, w, d))
        self.text_mean = nnx.Param(jnp.zeros(config.text_width))
        self.text_whiten = nnx.Param(jnp.eye(config.text_width))  # both from `start_from_text`, not trained
        self.text = _linear(config.text_width, d, rngs)
        # T5 knows relative positions alone, and its pretraining decides whether its vectors tell the order of words.
        # Where they do not, "a cat left of a dog" is a bag of words; so the places of a caption have vectors, too.
        self.text_positions = nnx.Param(normal(config.text_length, d))
        keys = jax.random.split(rngs.params(), config.depth)
        self.blocks = jax.vmap(lambda key: self.block(config, rngs=nnx.Rngs(key)))(keys)  # one stack, for lax.scan
        self.norm = nnx.RMSNorm(d, rngs=rngs)
        self.hidden = _linear(d, d, rngs)
        self.logits = _linear(d, config.codebook_size, rngs)

    def text_keys_values(self, text: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Text embeddings [B, S, text_width] -> every layer's keys and values, each [depth, B, S, heads, D/heads]."""
        mean, whiten = jax.lax.stop_gradient((self.text_mean[...], self.text_whiten[...]))
        positions, s = self.text_positions[...], text.shape[1]
        if s > len(positions):
            raise ValueError(f"A caption of {s} text tokens; this transformer was made for {len(positions)} at most.")
        text = self.text((text - mean) @ whiten) + positions[:s]
        return jax.lax.map(lambda block: block.keys_values(text), self.blocks)

    def positions(self) -> jax.Array:
        """One vector a place, [N, D]."""
        positions = self.rows[...] + self.columns[...]
        return positions.reshape(-1, positions.shape[-1])

    def place(self, tokens: jax.Array) -> jax.Array:
        """Image tokens int [B, N] (N = h w, row by row) -> their vectors with their positions' added, [B, N, D]."""
        h, w = len(self.rows[...]), self.columns[...].shape[1]
        if tokens.shape[1] != h * w:
            raise ValueError(f"This transformer was made for {h} x {w} tokens; it was given {tokens.shape[1]}.")
        return self.embed(tokens) + self.positions()

    def through_blocks(self, x: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """x [B, N, D] through every layer, [B, N, D]."""

        # Keep what the matrix products gave, recompute the rest: less memory than storing all, and faster on a CPU
        # than either storing all (too much to write) or nothing (too much to compute again).
        @functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
        def layer(x, inputs):
            block, (keys, values) = inputs
            return block(x, keys, values, text_mask), None

        return jax.lax.scan(layer, x, (self.blocks, keys_values))[0]

    def head(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] -> logits [B, N, K]."""
        return self.logits(jax.nn.gelu(self.hidden(self.norm(x))))

    def __call__(self, tokens: jax.Array, keys_values: tuple, text_mask: jax.Array) -> jax.Array:
        """Image tokens int [B, N], keys_values of `text_keys_values`, text_mask bool [B, S] (False at padding, all
        False for no caption) -> logits [B, N, K]."""
        return self.head(self.through_blocks(self.place(tokens), keys_values, text_mask))


def start_from_codes(params: dict, codebook: jax.Array, seed: int = 0) -> dict:
    """Fresh `params` (a nested dict) that know the codebook [K, code_dim], its codes of length 1.

    Codes that look alike begin alike, as input and as output, so what is learned of one holds for its neighbours; a
    quarter of an input vector's variance stays random, to tell neighbours apart.
    """
    rng = np.random.default_rng(seed)
    codes = (codebook - codebook.mean(0)) / codebook.std(0)
    k, (code_dim, width) = len(codes), (codes.shape[1], params["embed"]["embedding"].shape[1])
    alike = codes @ rng.normal(size=(code_dim, width)) * START / np.sqrt(code_dim)
    embedding = params["embed"]["embedding"]
    embedding = embedding.at[:k].set(np.sqrt(1 / 4) * embedding[:k] + np.sqrt(3 / 4) * alike)
    logits = rng.normal(size=(width, code_dim)) @ codes.T / np.sqrt(code_dim * width)
    return params | dict(embed=dict(embedding=embedding), logits=dict(kernel=jnp.asarray(logits, jnp.float32)))


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


def transformer_loss(graphdef, config, train, params: dict, key: jax.Array, batch: dict):
    """Masked-token loss on batch: tokens int [B, N], text [B, S, text_width], text_mask bool [B, S]."""
    model = nnx.merge(graphdef, params)
    mask_key, drop_key = jax.random.split(key)
    tokens = batch["tokens"].astype(jnp.int32)
    mask = masking.random_mask(mask_key, *tokens.shape, train.schedule)
    text_mask = drop_captions(drop_key, batch["text_mask"], train.caption_dropout)
    keys_values = model.text_keys_values(batch["text"].astype(jnp.float32))
    logits = model(jnp.where(mask, config.codebook_size, tokens), keys_values, text_mask)
    losses, right = token_losses(logits, tokens, train.label_smoothing), jnp.argmax(logits, -1) == tokens
    mean = lambda value: jnp.sum(value * mask) / jnp.sum(mask)  # noqa: E731
    metrics = dict(accuracy=mean(right), mask_rate=jnp.mean(mask))
    return mean(losses), metrics | by_mask_rate(dict(loss=losses, accuracy=right), mask)


@functools.partial(jax.jit, static_argnames="graphdef")
def forward(graphdef, params: dict, tokens: jax.Array, text: jax.Array, text_mask: jax.Array) -> jax.Array:
    """Logits [B, N, K] in one call, for looking at the model; decoding reuses keys and values instead."""
    model = nnx.merge(graphdef, params)
    return model(tokens, model.text_keys_values(text), text_mask)


@functools.partial(jax.jit, static_argnames="graphdef")
def attention_to_text(graphdef, params: dict, tokens: jax.Array, text: jax.Array, text_mask: jax.Array) -> jax.Array:
    """The weights of every layer's cross-attention, float [depth, B, heads, N, S]: how image tokens look at text."""
    model = nnx.merge(graphdef, params)
    batch, length = text_mask.shape

    def layer(x, inputs):
        block, (keys, values) = inputs
        q = _heads(block.cross_q(block.norm2(block.look_around(x))), block.heads)
        # With a 1 of its own as each text token's value, what is seen are the weights.
        ones = jnp.broadcast_to(jnp.eye(length)[:, None], (batch, length, block.heads, length))
        weights = _heads(attend(q, keys, ones, text_mask), block.heads).swapaxes(1, 2)
        return block(x, keys, values, text_mask), weights

    return jax.lax.scan(layer, model.place(tokens), (model.blocks, model.text_keys_values(text)))[1]
