"""Initial weights that know the codebook and the text."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import FRESH, SUPERRES, random_weights

from minimuse.train.init import sample_rows, start_from_codes, start_from_text
from minimuse.transformer import INIT_STD
from minimuse.weights import named_arrays


def test_the_start_knows_which_codes_look_alike_and_how_text_varies(fresh_base):
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(64, 4)).astype(np.float32)
    codes[1] = codes[0] + 0.05  # two that look alike
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    mixing = rng.normal(size=(8, 8)) * 10.0 ** -np.arange(0, 4, 0.5)[:, None]  # eight directions, very unequal
    text = (rng.normal(size=(2000, 8)) @ mixing + 3).astype(np.float32)
    started = start_from_text(start_from_codes(fresh_base, codes), text)
    assert jax.tree.structure(started) == jax.tree.structure(fresh_base)
    fresh, found = named_arrays(fresh_base), named_arrays(started)
    assert all(found[name].shape == value.shape and found[name].dtype == value.dtype for name, value in fresh.items())
    changed = {name for name in fresh if (found[name] != fresh[name]).any()}
    assert changed == {"embed.embedding", "logits.kernel", "text_mean", "text_whiten"}

    def alike(vectors, a, b):
        return np.dot(vectors[a], vectors[b]) / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])

    embedding, logits = np.asarray(found["embed.embedding"]), np.asarray(found["logits.kernel"]).T
    for vectors, least in ((embedding, 0.6), (logits, 0.95)):
        assert alike(vectors, 0, 1) > least
        assert np.mean([alike(vectors, 2 * i, 2 * i + 1) for i in range(1, 32)]) < 0.3
    assert embedding[:64].std() == pytest.approx(INIT_STD, rel=0.15)
    assert logits.std() == pytest.approx(FRESH.width**-0.5, rel=0.15)
    assert (embedding[64] == fresh["embed.embedding"][64]).all()  # [MASK] looks like nothing

    white = (text - found["text_mean"]) @ found["text_whiten"]
    spread = np.linalg.eigvalsh(np.cov(white, rowvar=False))[::-1]
    given = np.linalg.eigvalsh(np.cov(text, rowvar=False))[::-1]
    assert np.allclose(white.mean(0), 0, atol=1e-2)
    assert np.allclose(spread, given / (given + 1e-3 * given[0]), atol=0.05)  # 1, but 0 where text does not vary


def test_rows_are_sampled_from_everywhere():
    rows = np.arange(1000)[:, None]
    assert sample_rows(rows, 1000) is rows
    found = sample_rows(rows, 300, seed=1)[:, 0]
    assert len(set(found)) == 300 and (np.diff(found) > 0).all()
    assert 450 < found.mean() < 550  # the first 300 have a mean of 149.5
    assert (sample_rows(rows, 300, seed=1)[:, 0] == found).all() and (sample_rows(rows, 300)[:, 0] != found).any()


def test_the_mean_of_many_float32_vectors_does_not_drift(fresh_base):
    text = np.random.default_rng(0).normal(size=(200_000, 8)).astype(np.float32) + 300
    found = named_arrays(start_from_text(fresh_base, text))["text_mean"]
    np.testing.assert_allclose(found, text.mean(0, dtype=np.float64), rtol=1e-7)


def test_the_start_knows_both_codebooks():
    """Random weights stand for fresh ones, whose program takes long to compile."""
    config = dataclasses.replace(SUPERRES, width=96, codebook_size=64, low_codebook_size=32)
    model = random_weights("superres", config)
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(64, 4)).astype(np.float32), rng.normal(size=(32, 6)).astype(np.float32)
    coarse[1] = coarse[0] + 0.05  # two that look alike
    started = named_arrays(start_from_codes(model, fine, low_codebook=coarse))
    a, b, c = np.asarray(started["low_embed.embedding"])[:3]
    assert a @ b > 2 * abs(a @ c)
    given = named_arrays(model)
    assert (started["embed.embedding"] != given["embed.embedding"]).any()
    alone = named_arrays(start_from_codes(model, fine))
    assert (alone["embed.embedding"] == started["embed.embedding"]).all()
    assert (alone["low_embed.embedding"] == given["low_embed.embedding"]).all()
