"""What the benchmarks count; how fast things are is never a test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import superres
from benchmarks.superres import looks
from benchmarks.train_rate import forward_flops
from minimuse.config import SuperresConfig, TransformerConfig
from minimuse.weights import init


@pytest.mark.parametrize("depth, text_length", [(1, 5), (1, 16)])
def test_flops_are_those_of_the_compiled_program(depth, text_length):
    from flax import nnx

    config = TransformerConfig(codebook_size=256, width=64, depth=depth, heads=4, mlp_width=256, text_width=48)
    graphdef, params = init("base", config)
    inputs = (jnp.zeros((1, 64), int), jnp.zeros((1, text_length, 48)), np.ones((1, text_length), bool))

    def forward(params, tokens, text, mask):
        model = nnx.merge(graphdef, params)
        return model(tokens, model.text_keys_values(text), mask)

    counted = jax.jit(forward).lower(params, *inputs).compile().cost_analysis()["flops"]
    # XLA counts norms, softmax and activations too; they are some percent at this width.
    assert 0.88 < forward_flops(config, text_length) / counted < 1


def test_flops_grow_with_depth_as_they_should():
    one, two, three = (forward_flops(TransformerConfig(depth=depth), 16) for depth in (1, 2, 3))
    assert two - one == three - two > 0


def test_places_that_a_place_looks_at():
    """By hand: 32 x 32 places in 16 windows of 64; half of the heads see 64 places, half 16."""
    assert looks(SuperresConfig()) == 40 and looks(SuperresConfig(window=0)) == 1024
    assert looks(SuperresConfig(grid=(64, 64))) == 64


def test_the_stages_of_one_picture_are_timed_apart(cascade, monkeypatch):
    monkeypatch.setattr(superres, "ROUNDS", 1)
    found = superres.shares(cascade)
    assert list(found) == ["text encoder", "base, 12 steps", "superres, 8 steps", "decoder"]
    assert all(seconds > 0 for seconds in found.values())
