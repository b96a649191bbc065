"""The super-resolution transformer: its condition, and multi-axis attention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BASE, SUPERRES, random_weights, transformer_inputs

from minimuse import layers, muse, transformer
from minimuse.transformer import forward
from minimuse.weights import named_arrays, with_arrays

INPUTS = transformer_inputs(SUPERRES)


# --- the condition --------------------------------------------------------------------------------------------------


def test_logits_cover_the_fine_codebook(superres_model):
    assert forward(superres_model, *INPUTS).shape == (3, 32, 12)


def test_every_low_resolution_token_changes_the_logits(superres_model):
    """The trap of the public implementations: a condition that is computed and never used."""
    tokens, text, mask, low = INPUTS
    plain = forward(superres_model, tokens, text, mask, low)
    for position in range(8):
        other = low.copy()
        other[:, position] = (low[:, position] + 1) % 7
        change = np.abs(forward(superres_model, tokens, text, mask, other) - plain).max((1, 2))
        assert (change > 1e-3).all(), position


def test_without_text_the_low_resolution_tokens_still_count(superres_model):
    tokens, text, mask, low = INPUTS
    nothing = np.zeros_like(mask)
    plain = forward(superres_model, tokens, text, nothing, low)
    other = forward(superres_model, tokens, text, nothing, (low + 1) % 7)
    assert np.abs(plain - other).max() > 0.1 and np.isfinite(plain).all()
    np.testing.assert_allclose(forward(superres_model, tokens, text * 9, nothing, low), plain, atol=1e-5)
    with_text = forward(superres_model, tokens, text, mask, low)
    assert np.abs(with_text - plain).max() > 0.1


def test_guided_halves_share_what_is_computed_of_the_low_resolution_tokens(superres_model):
    """condition() of two texts per image is that of the same low-resolution tokens twice, but computes them once."""
    _, text, mask, low = INPUTS
    both = np.concatenate([text, text + 1]), np.concatenate([mask, ~mask])
    condition = jax.jit(lambda model, text, low: model.condition(text, low))
    shared, twice = condition(superres_model, both, low), condition(superres_model, both, np.concatenate([low, low]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), shared, twice)
    assert shared[1].shape == (6, 8 + 5) and shared[1][:, :8].all() and (shared[1][:, 8:] == both[1]).all()
    assert shared[0][0].shape == (2, 6, 13, 4, 4)
    half, alone = superres_model.first_half(shared), condition(superres_model, (text, mask), low)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), half, alone)


def test_coarse_positions_lie_over_the_fine_ones_they_cover(superres_model):
    fine = np.asarray(superres_model.positions()).reshape(4, 8, 16)
    coarse = np.asarray(superres_model.low_positions()).reshape(2, 4, 16)
    np.testing.assert_allclose(coarse[1, 2], fine[2:4, 4:6].mean((0, 1)), atol=1e-6)


def test_the_low_resolution_tokens_keep_their_positions_and_see_each_other(superres_model):
    low = INPUTS[3]
    encode = jax.jit(lambda model, low: model.encode_low(low))
    plain = encode(superres_model, low)
    assert plain.shape == (3, 8, 16)
    changed = np.asarray(np.abs(encode(superres_model, (low + np.eye(8, dtype=int)[0]) % 7) - plain).max(-1))
    assert (changed > 1e-5).all()  # the first reaches every other
    same = np.asarray(encode(superres_model, np.zeros_like(low)))
    assert np.abs(np.diff(same, axis=1)).max() > 0.1  # equal codes differ by their positions


def test_what_does_not_fit_is_refused(superres_model):
    tokens, text, mask, low = INPUTS
    with pytest.raises(ValueError, match="low-resolution"):
        forward(superres_model, tokens, text, mask)
    with pytest.raises(ValueError, match=r"(?=.*2 x 4).*\b6\b"):
        forward(superres_model, tokens, text, mask, low[:, :6])
    for change, message in (
        (dict(window=3), r"(?=.*4 x 8).*3 x 3"),
        (dict(heads=1), r"\b1 heads?\b"),
        (dict(low_grid=(3, 4)), r"(?=.*\(4, 8\)).*\(3, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            muse.build("superres", dataclasses.replace(SUPERRES, **change))


def test_attention_maps_are_those_of_the_layer(superres_model):
    from minimuse.teach import views

    tokens, text, mask, low = INPUTS
    weights = views.attention_to_text(superres_model, tokens, text, mask, low)
    assert weights.shape == (2, 3, 4, 32, 8 + 5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-4)
    assert np.abs(weights[:, :, :, :, 8:] * ~mask[:, None, None]).max() < 1e-6  # nothing goes to the padding
    keys, values = (np.asarray(x[0]) for x in superres_model.condition((text, mask), low)[0])
    block = jax.tree.map(lambda x: x[0], superres_model.blocks)
    x = transformer.to_windows(superres_model.embed_tokens(tokens), (4, 8), 2)
    full = np.ones((3, 13), bool)
    full[:, 8:] = mask
    x = block.self_attention(x)
    branch = transformer.from_windows(block.cross_attention(x, keys, values, full) - x, (4, 8), 2)
    seen = np.einsum("bhns,bshd->bnhd", weights[0], values).reshape(3, 32, -1)
    np.testing.assert_allclose(branch, block.cross_out(seen), atol=1e-3)


# --- multi-axis attention -------------------------------------------------------------------------------------------

WINDOWED = dataclasses.replace(BASE, grid=(4, 4), depth=1, heads=4, window=2)


def reach(config, position: int, heads: slice) -> set[int]:
    """The positions of 4 x 4 whose content reaches `position` in one layer of self-attention through these heads."""
    model = random_weights("base", config)
    kept = np.zeros((config.heads, config.width // config.heads, 1), np.float32)
    kept[heads] = 1
    model = with_arrays(model, {"blocks.out.kernel": named_arrays(model)["blocks.out.kernel"] * kept.reshape(-1, 1)})

    @jax.jit
    @jax.grad
    def slope(x, model):
        block = jax.tree.map(lambda x: x[0], model.blocks)
        seen = transformer.to_windows(x, (4, 4), 2) if config.window else x
        seen = block.self_attention(seen) - seen
        return (transformer.from_windows(seen, (4, 4), 2) if config.window else seen)[0, position].sum()

    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, config.width)), jnp.float32)
    return set(np.flatnonzero(np.abs(slope(x, model))[0].max(-1) > 1e-7).tolist())


def test_half_of_the_heads_attend_within_the_window_and_half_across():
    # Position 5 is the lower right one of the first window of 2 x 2.
    assert reach(WINDOWED, 5, slice(0, 2)) == {0, 1, 4, 5}
    assert reach(WINDOWED, 5, slice(2, 4)) == {5, 7, 13, 15}
    assert reach(WINDOWED, 0, slice(0, 4)) == {0, 1, 4, 5, 2, 8, 10}
    assert reach(dataclasses.replace(WINDOWED, window=0), 5, slice(0, 2)) == set(range(16))


def test_one_window_over_all_is_full_attention_for_its_half():
    """With a window as large as the grid, the near heads see everything and the far heads only themselves."""
    model = random_weights("base", dataclasses.replace(WINDOWED, window=4))
    block = jax.tree.map(lambda x: x[0], model.blocks)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 16, 16)), jnp.float32)
    q, k, v = block.queries_keys_values(x)
    near = layers.attend(q[:, :, :2], k[:, :, :2], v[:, :, :2])
    expected = x + block.out(jnp.concatenate([near, v[:, :, 2:].reshape(2, 16, -1)], -1))
    np.testing.assert_allclose(block.self_attention(x), expected, atol=1e-5)


def test_the_base_transformer_takes_windows_too():
    """A direct model of the large grid, to compare the cascade with."""
    model = random_weights("base", dataclasses.replace(BASE, grid=(4, 8), heads=4, window=2))
    tokens, text, mask, _ = INPUTS
    plain = np.asarray(forward(model, tokens, text, mask))
    assert plain.shape == (3, 32, 12)
    tokens = tokens.copy()
    tokens[:, 31] = (tokens[:, 31] + 1) % 12  # two layers reach from the last position to the first
    assert (np.abs(forward(model, tokens, text, mask) - plain)[:, 0].max(-1) > 1e-5).all()
