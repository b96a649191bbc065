"""Pretraining of t5-scenes: its tokenizer, span corruption, the decoder, the stage, and the shipped weights."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_tree
from safetensors.numpy import load_file

from minimuse import layers, t5
from minimuse.config import T5Config, TrainConfig, data_dir
from minimuse.data import corpus
from minimuse.presets import get_preset
from minimuse.train import stages, t5_pretraining
from minimuse.weights import named_arrays, with_arrays

TINY = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=3, num_decoder_layers=1)
SHIPPED = data_dir() / "t5-scenes"


@pytest.fixture(scope="module")
def encoder():
    return t5.TextEncoder.from_pretrained("t5-scenes")


@pytest.fixture(scope="module")
def tiny_t5():
    return random_tree(layers.abstract(t5_pretraining.T5, TINY))


@pytest.fixture(scope="module")
def shipped_t5():
    """The whole shipped T5, its decoder too, read by the names it was written under."""
    like, arrays = (
        layers.abstract(t5_pretraining.T5, t5.read_t5_config(SHIPPED)),
        load_file(SHIPPED / "model.safetensors"),
    )

    def read(name, leaf):
        key = t5._hf_name(name)
        parts = [arrays[key.format(i)] for i in range(leaf.shape[0])] if "{}" in key else arrays[key]
        value = np.asarray(parts, np.float32)
        return jnp.asarray(value.swapaxes(-1, -2) if name.endswith("kernel") else value)

    return with_arrays(like, {name: read(name, leaf) for name, leaf in named_arrays(like).items()})


# --- the whole T5 ---------------------------------------------------------------------------------------------------


def test_the_shipped_model_loads_in_transformers_and_agrees(encoder, shipped_t5):
    torch = pytest.importorskip("torch", reason="transformers' T5ForConditionalGeneration needs PyTorch")
    transformers = pytest.importorskip("transformers")
    model, info = transformers.T5ForConditionalGeneration.from_pretrained(SHIPPED, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    captions = ["a cat left of a dog on a blue background", "three apples"]
    their = transformers.AutoTokenizer.from_pretrained(SHIPPED)
    tokens = their(captions, padding="max_length", max_length=32, truncation=True, return_tensors="np")
    ids, mask = encoder.tokenize(captions)
    np.testing.assert_array_equal(tokens["input_ids"], ids)
    np.testing.assert_array_equal(tokens["attention_mask"].astype(bool), mask)
    targets = np.arange(10, 30).reshape(2, 10)
    with torch.no_grad():
        want = model(
            input_ids=torch.tensor(ids).long(),
            attention_mask=torch.tensor(mask).long(),
            decoder_input_ids=torch.tensor(np.pad(targets[:, :-1], ((0, 0), (1, 0)))),
        )
    embeddings, _ = encoder.encode(captions)
    np.testing.assert_allclose(
        embeddings, want.encoder_last_hidden_state.float().numpy() * mask[..., None], atol=1e-4, rtol=1e-4
    )
    logits = jax.jit(lambda model, *given: model(*given))(shipped_t5, ids, mask, targets)
    np.testing.assert_allclose(logits, want.logits.float().numpy(), atol=2e-3, rtol=1e-3)


def test_the_encoder_of_a_saved_t5_is_the_one_that_loads(tiny_t5, tmp_path):
    t5.save_t5(tmp_path, TINY, tiny_t5)
    config, back = t5.load_encoder(tmp_path)
    assert config == TINY
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(tiny_t5.encoder), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
    assert "decoder.block.0.layer.1.EncDecAttention.k.weight" in load_file(tmp_path / "model.safetensors")


def test_decoder_sees_no_later_token(tiny_t5):
    ids, mask = jnp.arange(3, 9)[None], jnp.ones((1, 6), bool)
    targets = jnp.array([[5, 6, 7, 8]])
    run = jax.jit(lambda model, targets: model(ids, mask, targets))
    logits, changed = run(tiny_t5, targets), run(tiny_t5, targets.at[0, 2].set(20))
    np.testing.assert_allclose(logits[:, :3], changed[:, :3], atol=1e-6)
    assert np.abs(logits[:, 3] - changed[:, 3]).max() > 1e-4


def test_a_sentinel_looks_at_its_twin_from_the_start():
    """Queries and keys of the fresh decoder's cross-attention are equal."""
    cross = layers.init(t5_pretraining.T5Decoder, TINY).stack.layers.cross
    np.testing.assert_allclose(cross.k.kernel[...], cross.q.kernel[...] * TINY.d_kv**0.5, rtol=1e-6)


def test_the_shipped_weights_have_the_held_out_loss_that_is_stored(encoder, shipped_t5):
    stored = json.loads((SHIPPED / "held_out.json").read_text())
    measured = t5_pretraining.held_out_loss(shipped_t5, encoder.tokenizer, get_preset("tiny").train["text"])
    assert measured["loss"] == pytest.approx(stored["loss"], abs=0.01)
    assert measured["accuracy"] > 0.6


def test_nearly_every_synonym_is_nearest_to_its_name(encoder):
    frames = ("a {}", "two {}", "a {} on a blue background")
    answers = [pair for frame in frames for pair in t5_pretraining.nearest_names(encoder, frame).values()]
    assert np.mean([name == near for name, near in answers]) > 0.9


# --- the tokenizer and its task -------------------------------------------------------------------------------------


def test_the_shipped_tokenizer_is_that_of_the_script():
    made = json.loads(t5_pretraining.make_tokenizer().to_str())
    assert made["model"]["vocab"] == json.loads((SHIPPED / "tokenizer.json").read_text())["model"]["vocab"]
    last = max(made["model"]["vocab"].values())
    assert made["model"]["vocab"]["<extra_id_0>"] == last and made["model"]["vocab"]["<extra_id_1>"] == last - 1


@pytest.mark.parametrize("rate, mean_span", t5_pretraining.CORRUPTION)
def test_span_corruption_puts_together_again(rate, mean_span):
    rng = np.random.default_rng(0)
    for length in range(1, 23):
        ids = list(range(10, 10 + length))
        inputs, targets = t5_pretraining.span_corrupt(ids, rng, 99, rate, mean_span)
        assert inputs[-1] == targets[-1] == t5_pretraining.END
        assert len(inputs) <= t5_pretraining.INPUT_LENGTH and len(targets) <= t5_pretraining.TARGET_LENGTH
        spans = {}
        for token in targets[:-1]:
            if token > 80:
                spans[token] = current = []
            else:
                current.append(token)
        assert spans.pop(min(spans)) == []  # the last sentinel closes the target
        assert list(spans) == [99 - i for i in range(len(spans))]
        assert sum(map(len, spans.values())) == max(1, round(rate * length))
        assert [t for token in inputs[:-1] for t in spans.get(token, [token])] == ids


def test_span_corruption_by_hand():
    class First:  # a generator that always cuts as early as it can
        def choice(self, n, size, replace):
            return np.arange(size)

    ids = [10, 11, 12, 13, 14, 15]
    assert t5_pretraining.span_corrupt(ids, First(), 99, rate=0.5, mean_span=1.5) == (
        [99, 11, 98, 14, 15, 1],
        [99, 10, 98, 12, 13, 97, 1],
    )
    # An average span of 3 hides the three tokens at once.
    at_once = [99, 13, 14, 15, 1], [99, 10, 11, 12, 97 + 1, 1]
    assert t5_pretraining.span_corrupt(ids, First(), 99, rate=0.5, mean_span=3) == at_once


def test_continuation_by_hand():
    class First:
        def integers(self, low, high):
            return low

    stop, last = 5, 99
    # Cut behind the first stop: the input ends there, and the target is the rest between two sentinels.
    assert t5_pretraining.continuation([10, 11, stop, 12, stop, 13], First(), last, {stop}) == (
        [10, 11, stop, t5_pretraining.END],
        [99, 12, stop, 13, 98, t5_pretraining.END],
    )
    # A stop at the very end has nothing behind it; then the cut is drawn.
    assert t5_pretraining.continuation([10, 11, stop], First(), last, {stop}) == (
        [10, t5_pretraining.END],
        [99, 11, stop, 98, t5_pretraining.END],
    )
    assert t5_pretraining.continuation([10], First(), last, {stop}) == (
        [10, t5_pretraining.END],
        [99, 98, t5_pretraining.END],
    )
    _, target = t5_pretraining.continuation(list(range(10, 50)), First(), last, {stop})
    assert len(target) == t5_pretraining.TARGET_LENGTH and target[-2:] == [98, t5_pretraining.END]


def test_where_sentences_break_off(encoder):
    pieces = [encoder.tokenizer.token_to_id(piece) for piece in t5_pretraining.BREAKS]
    assert None not in pieces
    text = "a cat left of a dog. on the left is a cat"
    ids = encoder.tokenizer.encode(text, add_special_tokens=False).ids
    source, _ = t5_pretraining.continuation(ids, np.random.default_rng(0), 1000, set(pieces))
    assert encoder.tokenizer.decode(source) == "a cat left of a dog."


def test_text_batch_is_a_function_of_seed_and_step(encoder):
    config = TrainConfig(steps=1, batch=16)
    first, again, other = (t5_pretraining.text_batch(encoder.tokenizer, step, config) for step in (3, 3, 4))
    np.testing.assert_array_equal(first["inputs"], again["inputs"])
    np.testing.assert_array_equal(first["targets"], again["targets"])
    assert np.any(first["inputs"] != other["inputs"])
    kept, hidden = ((first[side] > t5_pretraining.END).sum(1) for side in ("inputs", "targets"))
    kept = kept / (kept + hidden)
    assert kept.min() < 0.5 < 0.6 < kept.max()  # some sentences lose a few words, some most of them
    assert first["inputs"].shape == (16, t5_pretraining.INPUT_LENGTH) and first["targets"].shape == (
        16,
        t5_pretraining.TARGET_LENGTH,
    )


def test_hardly_any_sentence_is_cut(encoder):
    encoded = encoder.tokenizer.encode_batch(corpus.sentences(3000, 5), add_special_tokens=False)
    assert np.mean([len(one.ids) > t5_pretraining.INPUT_LENGTH - 2 for one in encoded]) < 0.003


def test_stage_makes_a_folder_that_loads(tmp_path):
    (tmp_path / "text").mkdir()
    shutil.copy(SHIPPED / "tokenizer.json", tmp_path / "text")
    sizes = dataclasses.replace(TINY, num_layers=1)
    preset = dataclasses.replace(get_preset("micro"), train=dict(text=TrainConfig(steps=3, batch=8, warmup=1)))
    held_out = stages.train_text(preset, tmp_path, sizes)
    assert 0 < held_out["loss"] < 20 and json.loads((tmp_path / "text" / "held_out.json").read_text()) == held_out
    made = t5.TextEncoder.from_pretrained(tmp_path / "text")
    assert made.encode(["a cat"])[0].shape == (1, 32, 16)
