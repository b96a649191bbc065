"""The super-resolution transformer: its condition, multi-axis attention, training, and the cascade."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_weights
from flax import nnx

import minimuse as mm
from minimuse import decoding, layers, transformer, vqgan, weights
from minimuse.config import SuperresConfig, TrainConfig, TransformerConfig
from minimuse.teach import views
from minimuse.train import losses
from minimuse.train.init import start_from_codes

SMALL = SuperresConfig(
    codebook_size=12,
    grid=(4, 8),
    width=16,
    depth=2,
    heads=4,
    mlp_width=32,
    text_width=8,
    window=2,
    low_codebook_size=7,
    low_grid=(2, 4),
    low_depth=2,
)


@pytest.fixture(scope="module")
def model():
    return random_weights("superres", SMALL)


def inputs(batch=3, seed=0):
    """tokens, text, text_mask, low"""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 13, (batch, 32)).astype(np.int32)
    text, mask = rng.normal(size=(batch, 5, 8)).astype(np.float32), np.arange(5)[None] < [[2], [5], [3]][:batch]
    return tokens, text, mask, rng.integers(0, 7, (batch, 8)).astype(np.int32)


# --- the condition --------------------------------------------------------------------------------------------------


def test_logits_cover_the_fine_codebook(model):
    assert transformer.forward(*model, *inputs()).shape == (3, 32, 12)


def test_every_low_resolution_token_changes_the_logits(model):
    """The trap of the public implementations: a condition that is computed and never used."""
    tokens, text, mask, low = inputs()
    plain = transformer.forward(*model, tokens, text, mask, low)
    for place in range(8):
        other = low.copy()
        other[:, place] = (low[:, place] + 1) % 7
        change = np.abs(transformer.forward(*model, tokens, text, mask, other) - plain).max((1, 2))
        assert (change > 1e-3).all(), place


def test_without_text_the_low_resolution_tokens_still_count(model):
    tokens, text, mask, low = inputs()
    nothing = np.zeros_like(mask)
    plain = transformer.forward(*model, tokens, text, nothing, low)
    other = transformer.forward(*model, tokens, text, nothing, (low + 1) % 7)
    assert np.abs(plain - other).max() > 0.1 and np.isfinite(plain).all()
    np.testing.assert_allclose(transformer.forward(*model, tokens, text * 9, nothing, low), plain, atol=1e-5)
    with_text = transformer.forward(*model, tokens, text, mask, low)
    assert np.abs(with_text - plain).max() > 0.1


def test_guided_halves_share_what_is_read_of_the_low_resolution_tokens(model):
    """condition() of two texts an image is that of the same low-resolution tokens twice, but computes them once."""
    graphdef, params = model
    _, text, mask, low = inputs()
    both = np.concatenate([text, text + 1]), np.concatenate([mask, ~mask])
    module = nnx.merge(graphdef, params)
    shared, apart = module.condition(both, low), module.condition(both, np.concatenate([low, low]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), shared, apart)
    assert shared[1].shape == (6, 8 + 5) and shared[1][:, :8].all() and (shared[1][:, 8:] == both[1]).all()
    assert shared[0][0].shape == (2, 6, 13, 4, 4)


def test_coarse_places_lie_over_the_fine_ones_they_cover(model):
    module = nnx.merge(*model)
    fine = np.asarray(module.positions()).reshape(4, 8, 16)
    coarse = np.asarray(module.low_positions()).reshape(2, 4, 16)
    np.testing.assert_allclose(coarse[1, 2], fine[2:4, 4:6].mean((0, 1)), atol=1e-6)


def test_what_does_not_fit_is_refused(model):
    tokens, text, mask, low = inputs()
    with pytest.raises(ValueError, match="low-resolution"):
        transformer.forward(*model, tokens, text, mask)
    with pytest.raises(ValueError, match=r"(?=.*2 x 4).*\b6\b"):
        transformer.forward(*model, tokens, text, mask, low[:, :6])
    for change, message in (
        (dict(window=3), r"(?=.*4 x 8).*3 x 3"),
        (dict(heads=1), r"\b1 heads?\b"),
        (dict(low_grid=(3, 4)), r"(?=.*\(4, 8\)).*\(3, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.abstract("superres", dataclasses.replace(SMALL, **change))


def test_attention_maps_are_those_of_the_layer(model):
    graphdef, params = model
    tokens, text, mask, low = inputs()
    weights = views.attention_to_text(graphdef, params, tokens, text, mask, low)
    assert weights.shape == (2, 3, 4, 32, 8 + 5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-4)
    assert np.abs(weights[:, :, :, :, 8:] * ~mask[:, None, None]).max() < 1e-6  # nothing goes to the padding
    module = nnx.merge(graphdef, params)
    keys, values = (np.asarray(x[0]) for x in module.condition((text, mask), low)[0])
    silent = jax.tree.map(lambda x: x, params)
    silent["blocks"]["down"]["kernel"] = 0 * silent["blocks"]["down"]["kernel"]
    block = jax.tree.map(lambda x: x[0], nnx.merge(graphdef, silent).blocks)
    x = transformer.to_windows(module.place(tokens), (4, 8), 2)
    full, none = np.ones((3, 13), bool), np.zeros((3, 13), bool)
    full[:, 8:] = mask
    branch = transformer.from_windows(block(x, keys, values, full) - block(x, keys, values, none), (4, 8), 2)
    seen = np.einsum("bhns,bshd->bnhd", weights[0], values).reshape(3, 32, -1)
    np.testing.assert_allclose(branch, seen @ params["blocks"]["cross_out"]["kernel"][0], atol=1e-3)


# --- multi-axis attention -------------------------------------------------------------------------------------------


def test_windows_by_hand():
    ids = jnp.arange(16).reshape(1, 16, 1)  # 4 x 4 places, row by row
    windows = transformer.to_windows(ids, (4, 4), 2)[0, :, 0].tolist()
    assert windows == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    for grid, side in (((4, 6), 2), ((6, 3), 3)):
        x = jnp.arange(2 * grid[0] * grid[1] * 3).reshape(2, -1, 3)
        assert (transformer.from_windows(transformer.to_windows(x, grid, side), grid, side) == x).all()


def reach(config, place: int, heads: slice) -> set[int]:
    """The places of 4 x 4 whose content reaches `place` in one layer of self-attention through these heads alone."""
    config = dataclasses.replace(config, grid=(4, 4), depth=1)
    graphdef, params = random_weights("base", config)
    kept = np.zeros((config.heads, config.width // config.heads, 1))
    kept[heads] = 1
    params["blocks"]["out"]["kernel"] *= kept.reshape(-1, 1)
    block = jax.tree.map(lambda x: x[0], nnx.merge(graphdef, params).blocks)

    def at(x):
        seen = transformer.to_windows(x, (4, 4), 2) if config.window else x
        seen = block.look_around(seen) - seen
        return (transformer.from_windows(seen, (4, 4), 2) if config.window else seen)[0, place].sum()

    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, config.width)), jnp.float32)
    return set(np.flatnonzero(np.abs(jax.grad(at)(x))[0].max(-1) > 1e-7).tolist())


def test_half_of_the_heads_look_within_the_window_and_half_across():
    config = TransformerConfig(codebook_size=12, width=16, depth=1, heads=4, mlp_width=32, text_width=8, window=2)
    # Place 5 is the lower right one of the first window of 2 x 2.
    assert reach(config, 5, slice(0, 2)) == {0, 1, 4, 5}
    assert reach(config, 5, slice(2, 4)) == {5, 7, 13, 15}
    assert reach(dataclasses.replace(config, window=0), 5, slice(0, 2)) == set(range(16))


def test_one_window_over_all_is_full_attention_for_its_half():
    """With a window as large as the grid, the near heads see everything and the far heads only themselves."""
    config = TransformerConfig(codebook_size=12, width=16, depth=1, heads=4, mlp_width=32, text_width=8, window=4)
    assert reach(dataclasses.replace(config, window=2), 0, slice(0, 4)) == {0, 1, 4, 5, 2, 8, 10}
    graphdef, params = random_weights("base", dataclasses.replace(config, grid=(4, 4)))
    block = jax.tree.map(lambda x: x[0], nnx.merge(graphdef, params).blocks)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 16, 16)), jnp.float32)
    q, k, v = block.queries_keys_values(x)
    near = layers.attend(q[:, :, :2], k[:, :, :2], v[:, :, :2])
    expected = x + block.out(jnp.concatenate([near, v[:, :, 2:].reshape(2, 16, -1)], -1))
    np.testing.assert_allclose(block.look_around(x), expected, atol=1e-5)


def test_the_base_transformer_takes_windows_too():
    """A direct model of the large grid, to compare the cascade with."""
    config = TransformerConfig(
        codebook_size=12, grid=(4, 8), width=16, depth=2, heads=4, mlp_width=32, text_width=8, window=2
    )
    tokens, text, mask, _ = inputs()
    model = random_weights("base", config)
    plain = np.asarray(transformer.forward(*model, tokens, text, mask))
    assert plain.shape == (3, 32, 12)
    tokens[:, 31] = (tokens[:, 31] + 1) % 12  # two layers reach from the last place to the first
    assert (np.abs(transformer.forward(*model, tokens, text, mask) - plain)[:, 0].max(-1) > 1e-5).all()


# --- training -------------------------------------------------------------------------------------------------------


def test_some_low_resolution_tokens_are_replaced():
    tokens = jnp.zeros((4000, 64), int)
    changed = np.asarray(losses.replace_some(jax.random.key(0), tokens, 0.5, 1000)) != 0
    assert 0.24 < changed.mean() < 0.26  # a share uniform up to a half, of which one code in a thousand was the same
    shares = changed.mean(-1)
    assert shares.min() < 0.02 and 0.45 < shares.max() < 0.75 and changed.mean(0).std() < 0.02
    assert (losses.replace_some(jax.random.key(0), tokens + 5, 0.0, 1000) == 5).all()


def test_the_loss_reads_low_resolution_tokens_with_noise_only_if_asked(model):
    graphdef, params = model
    tokens, text, mask, low = inputs()
    batch = dict(tokens=tokens % 12, text=text, text_mask=mask, low=low)
    train = TrainConfig(steps=1, batch=3, label_smoothing=0.0)

    def loss(low, **changes):
        settings = dataclasses.replace(train, **changes)
        found, metrics = losses.transformer_loss(
            graphdef, SMALL, settings, params, jax.random.key(0), batch | dict(low=low)
        )
        assert 0 <= metrics["accuracy"] <= 1
        return float(found)

    assert loss(low) == loss(low, low_noise=0.0) != loss((low + 1) % 7)
    assert loss(low, low_noise=1.0) != loss(low)


def test_the_start_knows_both_codebooks():
    config = dataclasses.replace(SMALL, width=96, codebook_size=64, low_codebook_size=32)
    _, params = weights.init("superres", config)
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(64, 4)).astype(np.float32), rng.normal(size=(32, 6)).astype(np.float32)
    coarse[1] = coarse[0] + 0.05  # two that look alike
    started = start_from_codes(params, fine, low_codebook=coarse)
    a, b, c = np.asarray(started["low_embed"]["embedding"])[:3]
    assert a @ b > 2 * abs(a @ c)
    assert (started["embed"]["embedding"] != params["embed"]["embedding"]).any()
    alone = start_from_codes(params, fine)
    assert (alone["embed"]["embedding"] == started["embed"]["embedding"]).all()
    assert (alone["low_embed"]["embedding"] == params["low_embed"]["embedding"]).all()


# --- the cascade ----------------------------------------------------------------------------------------------------


def test_the_cascade_draws_the_larger_picture(cascade):
    result = cascade.generate(["a cat", "two dogs"], seed=1, steps=(3, 2), trace=True)
    assert result.images.shape == (2, 128, 128, 3) and result.tokens.shape == (2, 8, 8)
    assert result.superres_tokens.shape == (2, 32, 32) and result.superres_trace.tokens.shape == (2, 2, 1024)
    assert (result.images == cascade.detokenize(result.superres_tokens, "superres", finetuned=True)).all()


def test_stages_can_be_left_out(cascade, cascade_folder):
    options = dict(seed=1, steps=3)
    base = cascade.generate("a cat", superres=False, trace=True, **options)
    assert base.images.shape == (1, 64, 64, 3) and base.superres_tokens is None
    whole = cascade.generate("a cat", trace=True, **options)
    assert (whole.tokens == base.tokens).all()  # the base stage does not know what comes after it
    small = cascade.generate("a cat", finetuned=False, **options)
    assert small.shape == whole.images.shape and (small != whole.images).any()
    assert (small == cascade.detokenize(whole.superres_tokens, "superres")).all()
    alone = mm.Muse.from_pretrained(cascade_folder, superres=False)
    assert (alone.generate("a cat", **options) == base.images).all()
    assert set(alone.configs) == {"tokenizer", "superres_tokenizer", "base"}


def test_the_cascade_draws_the_same_in_any_batch(cascade):
    run = lambda captions: cascade.generate(captions, seed=3, steps=(2, 2), temperature=(4.5, 4.5), trace=True)
    both = run(["a cat", "a dog"])
    assert (run("a cat").superres_tokens == both.superres_tokens[:1]).all()


def test_a_pair_sets_both_stages_and_a_number_the_base(cascade):
    run = lambda **options: cascade.generate("a cat", steps=(2, 2), seed=0, trace=True, **options)
    plain = run()
    for name, value in (("guidance", 6.0), ("temperature", 16.0), ("token_temperature", 3.0)):
        own = getattr(cascade.sampling, name)
        changed = run(**{name: (own[0], value)})
        assert (changed.tokens == plain.tokens).all(), name
        assert (changed.superres_tokens != plain.superres_tokens).any(), name
        assert (
            run(**{name: value}).superres_trace.tokens == run(**{name: (value, own[1])}).superres_trace.tokens
        ).all()
    assert (run(guidance=(None, 6.0)).tokens == plain.tokens).all()
    assert cascade.generate("a cat", steps=2, trace=True).superres_trace.tokens.shape[0] == cascade.sampling.steps[1]


def test_each_stage_compiles_once(cascade):
    decoding.sample_tokens.clear_cache()
    vqgan.draw_pixels.clear_cache()
    for caption in ("a cat", "three apples on a pink background", "a " * 50 + "cat"):
        cascade.generate(caption, steps=(2, 2))
    assert decoding.sample_tokens._cache_size() == 2 and vqgan.draw_pixels._cache_size() == 1


def test_bad_input_to_the_cascade_gets_a_sentence(cascade):
    for options, message in (
        (dict(steps=(2, 0)), r"\bsteps\b.*\b0\b"),
        (dict(steps=(2, 2, 2)), r"\bsteps\b.*\(2, 2, 2\)"),
        (dict(guidance=(0.5, -1.0)), r"\bguidance\b.*-1"),
        (dict(token_temperature=(0.5, 0)), r"\btoken_temperature\b.*\b0\b"),
    ):
        with pytest.raises(ValueError, match=message):
            cascade.generate("a cat", **options)
    with pytest.raises(ValueError, match="(?=.*[Ff]ine-?tuned).*'base'"):
        cascade.detokenize(np.zeros((1, 8, 8), int), finetuned=True)


def test_stages_of_another_cascade_are_refused(cascade):
    def build(**changes):
        return mm.Muse(cascade.text, cascade.configs | changes, cascade.params, cascade.sampling, "t5-scenes")

    superres = cascade.configs["superres"]
    for change, message in (
        (dict(low_codebook_size=65), r"(?=.*\b64\b).*\blow_codebook_size\b.*\b65\b"),
        (dict(low_grid=(16, 16)), r"(?=.*\(8, 8\)).*\blow_grid\b.*\(16, 16\)"),
        (dict(codebook_size=12), r"(?=.*superres_tokenizer)(?=.*\b64\b).*\bcodebook_size\b.*\b12\b"),
    ):
        with pytest.raises(ValueError, match=message):
            build(superres=dataclasses.replace(superres, **change))
    configs = {name: config for name, config in cascade.configs.items() if name != "superres_tokenizer"}
    with pytest.raises(ValueError, match="superres_tokenizer"):
        mm.Muse(cascade.text, configs, cascade.params, cascade.sampling, "t5-scenes")


def test_a_saved_cascade_draws_the_same(cascade, tmp_path):
    cascade.save(tmp_path / "copy")
    copy = mm.Muse.from_pretrained(tmp_path / "copy")
    assert (copy.generate("a cat", steps=(2, 2)) == cascade.generate("a cat", steps=(2, 2))).all()
