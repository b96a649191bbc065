"""The base transformer: masks, text, loss."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_weights
from flax import nnx

from minimuse import layers, masking, transformer, weights
from minimuse.config import TrainConfig, TransformerConfig
from minimuse.presets import get_preset
from minimuse.train import losses
from minimuse.train.init import start_from_codes, start_from_text

SMALL = TransformerConfig(codebook_size=12, grid=(2, 3), width=16, depth=2, heads=2, mlp_width=32, text_width=8)


@pytest.fixture(scope="module")
def model():
    return random_weights("base", SMALL)


def inputs(batch=3, text=5, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 13, (batch, 6)).astype(np.int32)
    return tokens, rng.normal(size=(batch, text, 8)).astype(np.float32), np.arange(text)[None] < [[2], [5], [3]][:batch]


def test_logits_cover_the_codebook_but_not_the_mask(model):
    assert transformer.forward(*model, *inputs()).shape == (3, 6, 12)


def test_padding_is_never_looked_at(model):
    tokens, text, mask = inputs()
    wrong = np.where(mask[..., None], text, 1e3)
    longer = np.concatenate([text, text], 1), np.concatenate([mask, np.zeros_like(mask)], 1)
    expected = transformer.forward(*model, tokens, text, mask)
    np.testing.assert_allclose(transformer.forward(*model, tokens, wrong, mask), expected, atol=1e-4)
    np.testing.assert_allclose(transformer.forward(*model, tokens, *longer), expected, atol=1e-4)


def test_the_caption_changes_the_logits_and_dropping_it_removes_all_of_it(model):
    tokens, text, mask = inputs()
    nothing = np.zeros_like(mask)
    with_text = transformer.forward(*model, tokens, text, mask)
    without = transformer.forward(*model, tokens, text, nothing)
    assert np.abs(with_text - without).max() > 0.1
    np.testing.assert_allclose(transformer.forward(*model, tokens, text * 7 + 1, nothing), without, atol=1e-5)
    assert np.isfinite(without).all()


def test_examples_of_a_batch_do_not_mix(model):
    tokens, text, mask = inputs()
    together = transformer.forward(*model, tokens, text, mask)
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(
        transformer.forward(*model, tokens[order], text[order], mask[order]), together[order], atol=1e-4
    )


def test_places_are_told_apart(model):
    tokens, text, mask = inputs()
    logits = transformer.forward(*model, np.full_like(tokens, 12), text, mask)  # all hidden: only the place differs
    assert np.abs(np.diff(logits, axis=1)).max() > 0.1


def test_the_order_of_words_counts_also_where_their_vectors_do_not_tell_it(model):
    graphdef, params = model
    tokens, text, mask = inputs()
    mask, turned = np.ones_like(mask), text[:, ::-1]
    assert (
        np.abs(
            transformer.forward(*model, tokens, turned, mask) - transformer.forward(*model, tokens, text, mask)
        ).max()
        > 0.1
    )
    params = params | dict(text_positions=jnp.zeros_like(params["text_positions"]))
    np.testing.assert_allclose(
        *(transformer.forward(graphdef, params, tokens, x, mask) for x in (text, turned)), atol=1e-4
    )


def test_a_caption_that_is_too_long_is_refused(model):
    tokens, text, mask = inputs()
    long = np.zeros((3, 33, 8), np.float32), np.ones((3, 33), bool)
    with pytest.raises(ValueError, match=r"(?=.*\b32\b).*\b33\b"):
        transformer.forward(*model, tokens, *long)


def test_another_grid_is_refused(model):
    tokens, text, mask = inputs()
    with pytest.raises(ValueError, match=r"(?=.*2 x 3).*\b4\b"):
        transformer.forward(*model, tokens[:, :4], text, mask)


def test_captions_are_dropped_at_the_rate_that_is_asked_for():
    mask = jnp.ones((20_000, 4), bool)
    dropped = ~np.asarray(losses.drop_captions(jax.random.key(0), mask, 0.1)).any(-1)
    assert 0.09 < dropped.mean() < 0.11  # 10 %, not 90 %
    kept = np.asarray(losses.drop_captions(jax.random.key(0), mask, 0.0))
    assert kept.all()


def test_loss_by_hand_counts_masked_places_alone():
    # Two places, two codes: p = (3/4, 1/4) everywhere.
    logits = jnp.log(jnp.array([[[3.0, 1.0], [3.0, 1.0]]]))
    tokens = jnp.array([[0, 1]])
    for mask, expected in (([[True, False]], np.log(4 / 3)), ([[False, True]], np.log(4)), ([[False, False]], 0.0)):
        assert losses.masked_loss(logits, tokens, jnp.array(mask)) == pytest.approx(expected, abs=1e-6)
    smooth = 0.8 * np.log(4 / 3) + 0.2 * (np.log(4 / 3) + np.log(4)) / 2
    assert losses.masked_loss(logits, tokens, jnp.array([[True, False]]), 0.2) == pytest.approx(smooth, abs=1e-6)


def test_losses_apart_by_mask_rate():
    mask = jnp.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], bool)  # a quarter, all, all
    values = jnp.array([[8.0, 1, 1, 1], [1, 2, 3, 4], [5, 6, 7, 8]])
    found = losses.by_mask_rate(dict(loss=values), mask)
    assert list(found) == ["loss_r25", "loss_r50", "loss_r75", "loss_r100"]
    assert found["loss_r25"] == 8 and found["loss_r100"] == 4.5
    assert np.isnan(found["loss_r50"]) and np.isnan(found["loss_r75"])  # no such picture


def test_the_model_sees_kept_tokens_and_mask_tokens_for_hidden_ones(model):
    tokens, text, mask = inputs()
    batch = dict(tokens=tokens % 12, text=text, text_mask=mask)
    train = TrainConfig(steps=1, batch=3)
    seen = []

    class Spy(transformer.BaseTransformer):
        def __call__(self, tokens, *rest):
            seen.append(np.asarray(tokens))
            return super().__call__(tokens, *rest)

    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Spy(SMALL, rngs=nnx.Rngs(0))))
    key = jax.random.key(0)
    loss, metrics = losses.transformer_loss(graphdef, SMALL, train, model[1], key, batch)
    hidden = masking.random_mask(jax.random.split(key)[0], *batch["tokens"].shape)  # the first half of the key
    assert 0 < hidden.sum() < hidden.size
    assert (seen[0] == np.where(hidden, 12, batch["tokens"])).all()
    assert metrics["mask_rate"] == pytest.approx(float(hidden.mean())) and np.isfinite(loss)


def test_tokens_and_places_are_not_drowned_by_the_first_layers():
    """Fresh weights of the shipped size: two different pictures stay as far apart as the layers' own output."""
    config = TransformerConfig()
    graphdef, params = weights.init("base", config)
    ids = np.random.default_rng(0).integers(0, config.codebook_size, (2, 64))
    model = nnx.merge(graphdef, params)
    start = model.embed(ids)
    text = np.zeros((2, 1, config.text_width), np.float32)
    block = jax.tree.map(lambda x: x[0], model.blocks)
    added = block(start, *block.keys_values(model.text(text)), np.zeros((2, 1), bool)) - start
    assert jnp.std(start) > 0.5 * jnp.std(added)


def test_attention_by_hand():
    """One head of one number: the weights are softmax(q k); what is masked has none."""
    q, k, v = (jnp.array(x).reshape(1, -1, 1, 1) for x in ([2.0], [0.0, 1.0, 5.0], [10.0, 20.0, 30.0]))
    weight = np.exp(2) / (1 + np.exp(2))
    seen = layers.attend(q, k, v, jnp.array([[True, True, False]]))
    assert seen.shape == (1, 1, 1) and seen[0, 0, 0] == pytest.approx(10 * (1 - weight) + 20 * weight, abs=1e-4)


@pytest.mark.parametrize("how", ["plain", "xla"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_jax(masked, how):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, n, 3, 4)), jnp.float32) for n in (5, 7, 7))
    mask = jnp.arange(7)[None] < jnp.array([[4], [7]]) if masked else None
    expected = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None] if masked else None)
    np.testing.assert_allclose(layers.attend(q, k, v, mask, how), expected.reshape(2, 5, 12), atol=1e-5)


def test_ways_of_attention_agree_and_another_is_refused(model):
    graphdef, params = model
    other = weights.abstract("base", dataclasses.replace(SMALL, attention="xla"))[0]
    plain, xla = (transformer.forward(g, params, *inputs()) for g in (graphdef, other))
    np.testing.assert_allclose(plain, xla, atol=1e-5)
    with pytest.raises(ValueError, match=r"\bflash\b.*\bplain\b"):
        layers.attend(*(jnp.ones((1, 2, 1, 4)),) * 3, how="flash")


def test_remat_changes_memory_and_not_gradients():
    config, found = dataclasses.replace(SMALL, depth=8), {}
    params = random_weights("base", config)[1]
    train = TrainConfig(steps=1, batch=3)
    batch = dict(zip(("tokens", "text", "text_mask"), inputs()))
    for remat in transformer.REMAT:
        own = dataclasses.replace(config, remat=remat)
        loss = functools.partial(losses.transformer_loss, weights.abstract("base", own)[0], own, train)
        program = jax.jit(jax.grad(loss, has_aux=True)).lower(params, jax.random.key(0), batch).compile()
        grads = program(params, jax.random.key(0), batch)[0]
        found[remat] = program.memory_analysis().temp_size_in_bytes, grads
    assert found["none"][0] > found["dots"][0] > found["full"][0]
    for remat in ("none", "full"):
        for one, other in zip(*(jax.tree.leaves(found[name][1]) for name in (remat, "dots"))):
            np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(ValueError, match=r"'some'.*\bdots\b"):
        weights.abstract("base", dataclasses.replace(SMALL, remat="some"))


@pytest.mark.parametrize("stage", ["base", "superres"])
def test_it_computes_in_the_type_of_its_weights(stage):
    """bfloat16 weights: no matrix product in float32, the loss nearly the same, gradients for float32 weights."""
    preset = get_preset("micro")
    config, train = getattr(preset, stage), preset.train[stage]
    graphdef, params = random_weights(stage, config)
    n, rng = config.grid[0] * config.grid[1], np.random.default_rng(0)
    batch = dict(tokens=rng.integers(0, 64, (2, n)), text_mask=np.ones((2, 5), bool))
    batch |= dict(text=rng.normal(size=(2, 5, config.text_width)).astype(np.float16), low=rng.integers(0, 64, (2, 64)))
    if stage == "base":
        del batch["low"]

    def loss(params, dtype):
        one = dataclasses.replace(train, dtype=dtype)
        return losses.transformer_loss(graphdef, config, one, params, jax.random.key(0), batch)[0]

    full, half = (float(loss(params, dtype)) for dtype in ("float32", "bfloat16"))
    assert half == pytest.approx(full, rel=0.01) and half != full
    gradients = jax.grad(loss)(params, "bfloat16")
    assert {x.dtype for x in jax.tree.leaves(gradients)} == {np.dtype(np.float32)}
    program = str(jax.make_jaxpr(loss, static_argnums=1)(params, "bfloat16"))
    products = [line.split("=")[0] for line in program.splitlines() if "dot_general" in line]
    assert products and not [line for line in products if "f32" in line]


def test_the_start_knows_which_codes_look_alike_and_how_text_varies():
    config = TransformerConfig(codebook_size=64, width=96, text_width=8)
    graphdef, params = weights.init("base", config)
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(64, 4)).astype(np.float32)
    codes[1] = codes[0] + 0.05  # two that look alike
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    mixing = rng.normal(size=(8, 8)) * 10.0 ** -np.arange(0, 4, 0.5)[:, None]  # eight directions, very unequal
    text = (rng.normal(size=(2000, 8)) @ mixing + 3).astype(np.float32)
    started = start_from_text(start_from_codes(params, codes), text)
    assert jax.tree.map(jnp.shape, started) == jax.tree.map(jnp.shape, params)

    def alike(vectors, a, b):
        return np.dot(vectors[a], vectors[b]) / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])

    embedding, logits = started["embed"]["embedding"], started["logits"]["kernel"].T
    for vectors, least in ((embedding, 0.6), (logits, 0.95)):
        assert alike(vectors, 0, 1) > least
        assert np.mean([alike(vectors, 2 * i, 2 * i + 1) for i in range(1, 32)]) < 0.3
    assert embedding[:64].std() == pytest.approx(transformer.START, rel=0.15)
    assert logits.std() == pytest.approx(config.width**-0.5, rel=0.15)
    assert (embedding[64] == params["embed"]["embedding"][64]).all()  # [MASK] looks like nothing

    white = (text - started["text_mean"]) @ started["text_whiten"]
    spread = np.linalg.eigvalsh(np.cov(white, rowvar=False))[::-1]
    given = np.linalg.eigvalsh(np.cov(text, rowvar=False))[::-1]
    assert np.allclose(white.mean(0), 0, atol=1e-2)
    assert np.allclose(spread, given / (given + 1e-3 * given[0]), atol=0.05)  # 1, but 0 where text does not vary


def test_whitening_is_not_trained():
    graphdef, params = weights.init("base", SMALL)
    tokens, text, mask = inputs()
    batch = dict(tokens=tokens % 12, text=text, text_mask=mask)
    loss = functools.partial(losses.transformer_loss, graphdef, SMALL, TrainConfig(steps=1, batch=3))
    grads = jax.grad(loss, has_aux=True)(params, jax.random.key(0), batch)[0]
    assert not grads["text_mean"].any() and not grads["text_whiten"].any() and grads["text"]["kernel"].any()


def test_a_small_transformer_learns_what_the_caption_says():
    from minimuse.train.step import init_state, make_step

    train = TrainConfig(steps=120, batch=8, learning_rate=1e-2, warmup=5, caption_dropout=0.1, label_smoothing=0.0)
    graphdef, params = weights.init("base", SMALL)
    step = make_step(functools.partial(losses.transformer_loss, graphdef, SMALL, train), train)
    state = init_state(params, train)
    text = np.eye(8, dtype=np.float32)[:, None]  # eight captions of one text token, each with one picture
    tokens = np.random.default_rng(0).integers(0, 12, (8, 6))
    batch = dict(tokens=tokens, text=text, text_mask=np.ones((8, 1), bool))
    for _ in range(train.steps):
        state, metrics = step(state, batch)
    hidden = np.full((8, 6), 12)
    logits = transformer.forward(graphdef, state["params"], hidden, text, batch["text_mask"])
    assert (np.argmax(logits, -1) == tokens).mean() > 0.6  # by chance 1 / 12
    assert step._cache_size() == 1
