"""The token critic (Token-Critic, arXiv 2209.04439): which tokens of a finished picture did the model sample badly?

A token's confidence is its probability at the step that sampled it, when much of the picture was still hidden. The
critic sees all tokens at once. Token-Critic trains a second transformer; here the critic is a small head on the frozen
base's features, so judging a picture costs one pass of the base through its layers, for the caption only: as much as an
unguided decoding step, and half as much as a guided one. Not part of Muse.
"""

import jax
from flax import nnx

from minimuse.config import CriticConfig, TransformerConfig
from minimuse.layers import Linear
from minimuse.transformer import BaseTransformer, SelfBlock


def features(model: BaseTransformer, tokens: jax.Array, condition: tuple[tuple, jax.Array]) -> jax.Array:
    """What the critic reads, [B, N, D]: the base's last hidden vectors of tokens int [B, N], none of them hidden, under
    the captions whose `condition` this is."""
    return model.through_blocks(model.embed_tokens(tokens), *condition)


class TokenCritic(nnx.Module):
    """Features [B, N, D] of a picture -> logits [B, N], positive where a token was more likely sampled than real."""

    def __init__(self, config: CriticConfig, *, rngs: nnx.Rngs):
        d = config.width
        sizes = TransformerConfig(width=d, depth=1, heads=config.heads, mlp_width=config.mlp_width)
        # The base's last layers are trained to predict hidden tokens. In a block of its own the critic compares tokens
        # that all are there.
        self.block = SelfBlock(sizes, rngs=rngs)
        self.norm = nnx.RMSNorm(d, rngs=rngs)
        self.up = Linear(d, d, nnx.initializers.lecun_normal(), rngs=rngs)
        self.logit = Linear(d, 1, nnx.initializers.zeros, rngs=rngs)  # begins undecided

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, N, D] -> logits [B, N]."""
        return self.logit(jax.nn.gelu(self.up(self.norm(self.block(x)))))[..., 0]

    def sureness(self, model: BaseTransformer, tokens: jax.Array, condition: tuple[tuple, jax.Array]) -> jax.Array:
        """The logarithm of the probability that each of the tokens, int [B, N], is real: float32 [B, N].

        The arguments are those of `features`; the condition is that of B captions, without the unguided half.
        """
        return jax.nn.log_sigmoid(-self(features(model, tokens, condition).astype("float32")))
