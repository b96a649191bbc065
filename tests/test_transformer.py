"""The base transformer: masks, text, positions, the type it computes in."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BASE, FRESH, random_weights, transformer_inputs

from minimuse import layers, muse, transformer
from minimuse.presets import get_preset
from minimuse.transformer import forward
from minimuse.weights import with_arrays


def test_logits_cover_the_codebook_but_not_the_mask(base_model):
    assert forward(base_model, *transformer_inputs()).shape == (3, 6, 12)


def test_padding_is_never_attended_to(base_model):
    tokens, text, mask = transformer_inputs()
    wrong = np.where(mask[..., None], text, 1e3)
    longer = np.concatenate([text, text], 1), np.concatenate([mask, np.zeros_like(mask)], 1)
    expected = forward(base_model, tokens, text, mask)
    np.testing.assert_allclose(forward(base_model, tokens, wrong, mask), expected, atol=1e-4)
    np.testing.assert_allclose(forward(base_model, tokens, *longer), expected, atol=1e-4)


def test_the_caption_changes_the_logits_and_dropping_it_removes_all_of_it(base_model):
    tokens, text, mask = transformer_inputs()
    nothing = np.zeros_like(mask)
    with_text = forward(base_model, tokens, text, mask)
    without = forward(base_model, tokens, text, nothing)
    assert np.abs(with_text - without).max() > 0.1
    np.testing.assert_allclose(forward(base_model, tokens, text * 7 + 1, nothing), without, atol=1e-5)
    assert np.isfinite(without).all()


def test_examples_of_a_batch_do_not_mix(base_model):
    tokens, text, mask = transformer_inputs()
    together = forward(base_model, tokens, text, mask)
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(forward(base_model, tokens[order], text[order], mask[order]), together[order], atol=1e-4)


def test_positions_differ(base_model):
    tokens, text, mask = transformer_inputs()
    logits = forward(base_model, np.full_like(tokens, 12), text, mask)  # all hidden: only the position differs
    assert np.abs(np.diff(logits, axis=1)).max() > 0.1


def test_a_position_is_a_rows_vector_plus_a_columns(base_model):
    tokens, _, _ = transformer_inputs()
    vectors = base_model.embed_tokens(tokens).reshape(3, 2, 3, 16)
    row, column = base_model.rows[...][1, 0], base_model.columns[...][0, 2]
    expected = base_model.embed.embedding[...][tokens.reshape(3, 2, 3)[:, 1, 2]] + row + column
    np.testing.assert_allclose(vectors[:, 1, 2], expected, atol=1e-6)


def test_the_order_of_words_counts_even_where_their_vectors_do_not_show_it(base_model):
    tokens, text, mask = transformer_inputs()
    mask, turned = np.ones_like(mask), text[:, ::-1]
    plain = forward(base_model, tokens, text, mask)
    assert np.abs(forward(base_model, tokens, turned, mask) - plain).max() > 0.1
    unordered = with_arrays(base_model, dict(text_positions=jnp.zeros((32, 16))))
    np.testing.assert_allclose(*(forward(unordered, tokens, x, mask) for x in (text, turned)), atol=1e-4)


def test_a_caption_that_is_too_long_is_refused(base_model):
    tokens, _, _ = transformer_inputs()
    with pytest.raises(ValueError, match=r"(?=.*\b32\b).*\b33\b"):
        forward(base_model, tokens, np.zeros((3, 33, 8), np.float32), np.ones((3, 33), bool))


def test_another_grid_is_refused(base_model):
    tokens, text, mask = transformer_inputs()
    with pytest.raises(ValueError, match=r"(?=.*2 x 3).*\b4\b"):
        forward(base_model, tokens[:, :4], text, mask)


@pytest.mark.parametrize(
    "change, message", [(dict(remat="some"), r"'some'.*\bdots\b"), (dict(heads=3), r"\b16\b.*\b3\b")]
)
def test_a_config_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        muse.build("base", dataclasses.replace(BASE, **change))


def test_ways_of_attention_agree(base_model):
    xla = random_weights("base", dataclasses.replace(BASE, attention="xla"))  # the same weights
    np.testing.assert_allclose(*(forward(model, *transformer_inputs()) for model in (base_model, xla)), atol=1e-5)


def test_a_layer_is_its_three_branches_in_turn(base_model):
    tokens, text, mask = transformer_inputs()

    @jax.jit
    def run(model, mask):
        block = jax.tree.map(lambda x: x[0], model.blocks)
        x, (keys, values) = model.embed_tokens(tokens), block.keys_values(model.text(text))
        attended = block.self_attention(x)
        read = block.cross_attention(attended, keys, values, mask)
        return block(x, keys, values, mask), x, attended, read, block.mlp(read)

    whole, *branches, last = run(base_model, mask)
    np.testing.assert_allclose(whole, last, atol=1e-5)
    assert all(np.abs(one - other).max() > 0.1 for one, other in zip(branches, [*branches[1:], last]))
    _, _, attended, read, _ = run(base_model, np.zeros_like(mask))
    np.testing.assert_array_equal(read, attended)  # no caption adds nothing


def test_the_first_half_of_a_condition_is_that_of_the_first_texts(base_model):
    _, text, mask = transformer_inputs()
    both = np.concatenate([text, text + 1]), np.concatenate([mask, ~mask])
    half, alone = base_model.first_half(base_model.condition(both)), base_model.condition((text, mask))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), half, alone)


def test_keys_and_values_of_the_text_are_computed_outside_the_decoding_loop(base_model):
    """A call with `condition`'s keys and values multiplies nothing of the text's width."""
    tokens, text, mask = transformer_inputs()
    condition = base_model.condition((text, mask))
    assert [x.shape for x in condition[0]] == [(2, 3, 5, 2, 8)] * 2
    program = str(jax.make_jaxpr(lambda model, *given: model(*given))(base_model, tokens, *condition))
    assert "dot_general" in program and "f32[3,5,8]" not in program
    np.testing.assert_allclose(base_model(tokens, *condition), forward(base_model, tokens, text, mask), atol=1e-5)


def test_tokens_and_positions_are_not_drowned_by_the_first_layers(fresh_base):
    """Fresh weights: two different pictures stay as far apart as the layers' own output."""
    ids = np.random.default_rng(0).integers(0, FRESH.codebook_size, (2, 6))
    x = fresh_base.embed(ids)
    block = jax.tree.map(lambda x: x[0], fresh_base.blocks)
    added = jax.jit(lambda block, x: block.mlp(block.self_attention(x)) - x)(block, x)  # and no text
    assert jnp.std(x) > 0.5 * jnp.std(added) > 0


@pytest.mark.parametrize("stage", ["base", "superres"])
def test_it_computes_in_the_type_of_its_weights(stage):
    """bfloat16 weights: no matrix product in float32 (train/test_losses.py compares the numbers)."""
    config = getattr(get_preset("micro"), stage)
    half = jax.eval_shape(lambda model: layers.cast(model, "bfloat16"), muse.build(stage, config))
    inputs = jax.eval_shape(lambda: tuple(map(jnp.asarray, transformer_inputs(config))))
    program = str(jax.make_jaxpr(forward)(half, *inputs))
    products = [line.split("=")[0] for line in program.splitlines() if "dot_general" in line]
    assert products and not [line for line in products if "f32" in line]
    assert jax.eval_shape(forward, half, *inputs).dtype == jnp.bfloat16


def test_windows_by_hand():
    ids = jnp.arange(16).reshape(1, 16, 1)  # 4 x 4 positions, row by row
    windows = transformer.to_windows(ids, (4, 4), 2)[0, :, 0].tolist()
    assert windows == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    for grid, side in (((4, 6), 2), ((6, 3), 3)):
        x = jnp.arange(2 * grid[0] * grid[1] * 3).reshape(2, -1, 3)
        assert (transformer.from_windows(transformer.to_windows(x, grid, side), grid, side) == x).all()
