"""Styles: what an adapter changes, what it belongs to, and how it is kept."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BASE, STEPS, SUPERRES, random_tree

import minimuse as mm
from minimuse import layers
from minimuse.beyond.style import Adapter, Style, fingerprint, merged, with_style
from minimuse.config import StyleConfig
from minimuse.weights import named_arrays, with_arrays

CONFIG = StyleConfig(rank=2, alpha=6.0)
SOME = StyleConfig(rank=1, matrices=("out", "cross_kv"))


def style_of(models, configs, config=CONFIG, seed=1):
    """A style with random A and B for these transformers, by stage."""
    adapters = {stage: random_tree(layers.abstract(Adapter, config, configs[stage]), seed) for stage in models}
    sizes = {stage: configs[stage] for stage in models}
    return Style(
        config, sizes, adapters, {stage: fingerprint(model) for stage, model in models.items()}, dict(pictures=12)
    )


@pytest.fixture(scope="module")
def style(base_model):
    return style_of(dict(base=base_model), dict(base=BASE))


@pytest.fixture(scope="module")
def of_cascade(cascade):
    return style_of({stage: cascade.models[stage] for stage in ("base", "superres")}, cascade.configs)


def test_a_matrix_becomes_w_plus_the_scaled_product_of_a_and_b(base_model):
    a = np.arange(2 * 16, dtype=np.float32).reshape(2, 16, 1)
    b = np.arange(2 * 32, dtype=np.float32).reshape(2, 1, 32) / 7
    adapter = layers.init(Adapter, SOME, BASE)
    adapter = with_arrays(adapter, {"cross_kv.A": jnp.asarray(a), "cross_kv.B": jnp.asarray(b)})
    before, after = named_arrays(base_model), named_arrays(merged(base_model, adapter, 0.5))
    w = np.asarray(before["blocks.cross_kv.kernel"])
    for layer in range(2):
        expected = w[layer] + 0.5 * np.outer(a[layer], b[layer])
        np.testing.assert_allclose(after["blocks.cross_kv.kernel"][layer], expected, rtol=1e-5)
    assert [name for name in before if (before[name] != after[name]).any()] == ["blocks.cross_kv.kernel"]


@pytest.mark.parametrize("sizes", [BASE, SUPERRES])
def test_a_fresh_adapter_changes_nothing_and_a_trained_one_its_matrices(sizes, base_model, superres_model):
    model = superres_model if sizes is SUPERRES else base_model
    fresh, before = layers.init(Adapter, CONFIG, sizes), named_arrays(model)
    assert any(x.any() for x in named_arrays(fresh).values())
    after = named_arrays(merged(model, fresh, 1.0))
    assert all((before[name] == after[name]).all() for name in before)
    after = named_arrays(merged(model, random_tree(fresh), 1.0))
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {f"blocks.{name}.kernel" for name in CONFIG.matrices}


def test_strength_goes_from_nothing_to_the_style_in_a_straight_line(base_model, style):
    name, before = "blocks.qkv.kernel", named_arrays(base_model)
    none, half, whole = (named_arrays(with_style(base_model, style, strength)) for strength in (0, 0.5, 1))
    assert all((before[key] == none[key]).all() for key in before)
    change = np.asarray(whole[name] - before[name])
    np.testing.assert_allclose(half[name] - before[name], change / 2, atol=1e-5)
    pair = named_arrays(style.adapters["base"])
    np.testing.assert_allclose(change, 6 / 2 * (pair["qkv.A"] @ pair["qkv.B"]), atol=1e-5)  # alpha / rank


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_means_nothing_is_refused(base_model, style, strength):
    with pytest.raises(ValueError, match=str(strength)):
        with_style(base_model, style, strength)


def test_a_style_belongs_to_one_base(base_model, superres_model, style):
    other = random_tree(base_model, seed=5)
    with pytest.raises(ValueError, match=fingerprint(other)):
        with_style(other, style)
    with pytest.raises(ValueError, match=fingerprint(styled := with_style(base_model, style))):
        with_style(styled, style)  # a style over a style is over another base
    with pytest.raises(ValueError, match="superres"):
        with_style(superres_model, style)


def test_a_fingerprint_is_that_of_the_weights_in_any_type(base_model):
    prints = {fingerprint(layers.cast(base_model, dtype)) for dtype in ("float32", "bfloat16")}
    assert prints == {fingerprint(base_model)}
    assert fingerprint(with_arrays(base_model, dict(rows=2 * base_model.rows[...]))) not in prints


@pytest.mark.parametrize(
    "changes, given", [(dict(rank=0), "0"), (dict(matrices=("qkv", "norm1")), "norm1"), (dict(matrices=()), "nothing")]
)
def test_an_adapter_that_cannot_be_is_refused(changes, given):
    with pytest.raises(ValueError, match=given):
        layers.abstract(Adapter, dataclasses.replace(CONFIG, **changes), BASE)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_style_that_was_saved_is_the_same(base_model, superres_model, tmp_path):
    style = style_of(dict(base=base_model, superres=superres_model), dict(base=BASE, superres=SUPERRES))
    style.save(tmp_path / "style")
    found = Style.from_pretrained(tmp_path / "style")
    assert (found.config, found.sizes, found.of, found.about) == (style.config, style.sizes, style.of, style.about)
    for stage, adapter in style.adapters.items():
        before, after = named_arrays(adapter), named_arrays(found.adapters[stage])
        assert all((before[name].astype(np.float16) == after[name]).all() for name in before)
    files = {path.name for path in (tmp_path / "style").iterdir()}
    assert files == {"config.json", "style_base.safetensors", "style_superres.safetensors"}


def test_a_style_that_cannot_be_saved_leaves_the_one_before(base_model, style, tmp_path):
    style.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = with_arrays(style.adapters["base"], {"out.A": jnp.full((2, 16, 2), jnp.nan)})
    with pytest.raises(ValueError, match="out.A"):
        dataclasses.replace(style, about={}, adapters=dict(base=broken)).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_shipped_sizes_take_less_than_a_megabyte():
    from minimuse.presets import PRESETS

    preset = PRESETS["tiny"]
    parts = [layers.abstract(Adapter, preset.style, sizes) for sizes in (preset.base, preset.superres)]
    assert sum(2 * x.size for part in parts for x in named_arrays(part).values()) < 1_000_000


def test_a_folder_that_holds_no_style_is_refused(style, micro_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Style.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=micro_folder.name):
        Style.from_pretrained(micro_folder)
    style.save(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | dict(style=values["style"] | dict(rank=3))))
    with pytest.raises(ValueError, match="style_base"):
        Style.from_pretrained(tmp_path)


# --- a Muse ---------------------------------------------------------------------------------------------------------


def test_a_muse_with_a_style_draws_other_pictures_and_the_first_one_does_not_change(cascade, of_cascade):
    before = cascade.generate("a cat", steps=STEPS, trace=True)
    styled = cascade.with_style(of_cascade)
    after = styled.generate("a cat", steps=STEPS, trace=True)
    assert (before.tokens != after.tokens).any() and (before.superres_tokens != after.superres_tokens).any()
    assert (cascade.generate("a cat", steps=STEPS, trace=True).tokens == before.tokens).all()
    again = cascade.with_style(of_cascade, strength=0).generate("a cat", steps=STEPS, trace=True)
    assert (again.superres_tokens == before.superres_tokens).all()
    assert styled.about["style"]["strength"] == 1 and "style" not in cascade.about


def test_a_style_is_named_when_a_muse_is_loaded(cascade_folder, of_cascade, tmp_path):
    of_cascade.save(tmp_path)
    by_hand = mm.Muse.from_pretrained(cascade_folder).with_style(tmp_path)
    for options in ({}, dict(superres=False), dict(dtype="bfloat16")):
        muse = mm.Muse.from_pretrained(cascade_folder, style=tmp_path, **options)
        kernel = np.asarray(muse.models["base"].blocks.qkv.kernel[...], np.float32)
        np.testing.assert_allclose(kernel, by_hand.models["base"].blocks.qkv.kernel[...], rtol=0.02, atol=0.02)
        assert ("superres" in muse.models) == (options != dict(superres=False))


def test_the_style_of_another_checkpoint_is_refused(micro, of_cascade, tmp_path):
    of_cascade.save(tmp_path)
    changed = dict(base=random_tree(micro.models["base"], seed=9))
    other = mm.Muse(micro.text, micro.configs, micro.models | changed, micro.sampling, micro.text_name)
    with pytest.raises(ValueError, match=fingerprint(changed["base"])):
        other.with_style(tmp_path)
