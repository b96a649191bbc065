"""The work of a transformer's matrix products, in multiplications and additions, for one picture."""

from minimuse.config import SuperresConfig, TransformerConfig


def attended(config: TransformerConfig) -> int:
    """Number of positions that a position attends to in a layer of self-attention, a mean over the heads."""
    n, p = config.grid[0] * config.grid[1], config.window**2
    return (p + n // p) // 2 if p else n


def low_tokens(config: TransformerConfig) -> int:
    """Number of low-resolution tokens that a position attends to beside the text."""
    return config.low_grid[0] * config.low_grid[1] if isinstance(config, SuperresConfig) else 0


def pass_flops(config: TransformerConfig, text_length: int) -> int:
    """One pass of the masked tokens, as in one decoding step of one half."""
    n, d, condition = config.grid[0] * config.grid[1], config.width, text_length + low_tokens(config)
    layer = 3 * d * d + d * d + 2 * d * d + 2 * d * config.mlp_width  # self, cross (q, out), MLP
    layer += 2 * attended(config) * d + 2 * condition * d  # scores and weighted sums
    return 2 * n * (config.depth * layer + d * d + d * config.codebook_size)


def condition_flops(config: TransformerConfig, text_length: int) -> int:
    """What is computed once per picture: keys and values of the text, and of the low-resolution tokens."""
    s, n, d = text_length, low_tokens(config), config.width
    work = s * config.text_width * (config.text_width + d) + config.depth * (s + n) * 2 * d * d
    if isinstance(config, SuperresConfig):
        work += n * config.low_depth * (4 * d * d + 2 * d * config.mlp_width + 2 * n * d)
    return 2 * work


def forward_flops(config: TransformerConfig, text_length: int) -> int:
    """One picture through the whole transformer, as in training."""
    return pass_flops(config, text_length) + condition_flops(config, text_length)
