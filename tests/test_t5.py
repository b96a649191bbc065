import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from minimuse import layers, t5
from minimuse.config import T5Config, TrainConfig, data_dir
from minimuse.data import corpus
from minimuse.presets import get_preset
from minimuse.train import t5_pretraining

GOLDEN = Path(__file__).parent / "fixtures" / "t5_golden.safetensors"
TINY = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=3, num_decoder_layers=1)
KINDS = {
    "gated": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "relu": dict(feed_forward_proj="relu", tie_word_embeddings=True),
}
SHIPPED = data_dir() / "t5-scenes"


def write_folder(folder: Path, config: dict, weights: dict) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(model_type="t5") | config))
    save_file(weights, folder / "model.safetensors")
    return folder


def golden(kind: str) -> tuple[dict, dict]:
    """Weights by their Hugging Face keys, and what else is in the fixture."""
    arrays = {k.removeprefix(f"{kind}/"): v for k, v in load_file(GOLDEN).items() if k.startswith(f"{kind}/")}
    about = {k: arrays.pop(k) for k in ("ids", "mask", "output")}
    return arrays, about


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "golden", dataclasses.asdict(TINY) | KINDS["gated"], golden("gated")[0])


@pytest.fixture(scope="module")
def shipped():
    return t5.TextEncoder.from_pretrained("t5-scenes")


# --- against transformers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_golden_outputs_of_transformers(kind, tmp_path):
    weights, about = golden(kind)
    config, params = t5.load_encoder(write_folder(tmp_path / kind, dataclasses.asdict(TINY) | KINDS[kind], weights))
    got = t5.encode(layers.abstract(t5.T5Encoder, config)[0], params, about["ids"], about["mask"])
    np.testing.assert_allclose(got, about["output"], atol=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [
        dict(vocab_size=100, d_model=48, d_kv=8, d_ff=96, num_layers=3, num_heads=4, **KINDS["gated"]),
        dict(vocab_size=500, d_model=512, d_kv=64, d_ff=2048, num_layers=2, num_heads=8, **KINDS["relu"]),
    ],
    ids=["v1.1", "t5-small"],
)
def test_agrees_with_transformers(sizes, tmp_path):
    torch = pytest.importorskip("torch", reason="transformers' T5EncoderModel needs PyTorch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.T5EncoderModel(transformers.T5Config(**sizes)).eval()
    model.save_pretrained(tmp_path)
    config, params = t5.load_encoder(tmp_path)
    for length in (1, 2, 33, 256):
        ids = np.random.default_rng(length).integers(3, sizes["vocab_size"], (2, length)).astype(np.int32)
        mask = np.arange(length) < np.array([[length], [(length + 1) // 2]])
        with torch.no_grad():
            want = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask).long()).last_hidden_state
        got = t5.encode(layers.abstract(t5.T5Encoder, config)[0], params, ids, mask)
        np.testing.assert_allclose(got, want.numpy() * mask[..., None], atol=1e-4)


def test_the_shipped_model_loads_in_transformers_and_agrees(shipped):
    torch = pytest.importorskip("torch", reason="transformers' T5ForConditionalGeneration needs PyTorch")
    transformers = pytest.importorskip("transformers")
    model, info = transformers.T5ForConditionalGeneration.from_pretrained(SHIPPED, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    captions = ["a cat left of a dog on a blue background", "three apples"]
    their = transformers.AutoTokenizer.from_pretrained(SHIPPED)
    tokens = their(captions, padding="max_length", max_length=32, truncation=True, return_tensors="np")
    ids, mask = shipped.tokenize(captions)
    np.testing.assert_array_equal(tokens["input_ids"], ids)
    np.testing.assert_array_equal(tokens["attention_mask"].astype(bool), mask)
    targets = np.arange(10, 30).reshape(2, 10)
    with torch.no_grad():
        want = model(
            input_ids=torch.tensor(ids).long(),
            attention_mask=torch.tensor(mask).long(),
            decoder_input_ids=torch.tensor(np.pad(targets[:, :-1], ((0, 0), (1, 0)))),
        )
    embeddings, _ = shipped.encode(captions)
    np.testing.assert_allclose(
        embeddings, want.encoder_last_hidden_state.float().numpy() * mask[..., None], atol=1e-4, rtol=1e-4
    )
    # The decoder too: read it back from the file by the names it was written under.
    graphdef, state = nnx.split(nnx.eval_shape(lambda: t5_pretraining.T5(t5.read_t5_config(SHIPPED), rngs=nnx.Rngs(0))))
    arrays = load_file(SHIPPED / "model.safetensors")
    logits = jax.jit(nnx.merge(graphdef, _read_all(arrays, nnx.to_pure_dict(state))))(ids, mask, targets)
    np.testing.assert_allclose(logits, want.logits.float().numpy(), atol=2e-3, rtol=1e-3)


def _read_all(arrays: dict, shapes: dict) -> dict:
    def read(path, leaf):
        path = tuple(entry.key for entry in path)
        key = t5._hf_name(path)
        parts = [arrays[key.format(i)] for i in range(leaf.shape[0])] if "{}" in key else arrays[key]
        value = np.asarray(parts, np.float32)
        return jnp.asarray(value.swapaxes(-1, -2) if path[-1] == "kernel" else value)

    return jax.tree_util.tree_map_with_path(read, shapes)


def test_save_is_the_inverse_of_load(tmp_path):
    params = nnx.to_pure_dict(nnx.split(t5_pretraining.T5(TINY, rngs=nnx.Rngs(0)))[1])
    t5.save_t5(tmp_path, TINY, params)
    config, back = t5.load_encoder(tmp_path)
    assert config == TINY
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), back, params["encoder"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


# --- the network ----------------------------------------------------------------------------------------------------


def test_relative_buckets_by_hand():
    # 32 buckets, 16 a direction: 0 to 7 exactly, then 8 that grow logarithmically up to distance 128.
    row = t5.relative_buckets(201, 401)[200]
    for distance, bucket in {0: 0, -1: 1, -7: 7, -8: 8, -11: 8, -12: 9, -16: 10, -63: 13, -64: 14, -200: 15}.items():
        assert row[200 + distance] == bucket, distance
    for distance, bucket in {1: 17, 7: 23, 8: 24, 200: 31}.items():
        assert row[200 + distance] == bucket, distance
    np.testing.assert_array_equal(
        t5.relative_buckets(3, 3, bidirectional=False), [[0, 0, 0], [1, 0, 0], [2, 1, 0]]
    )  # a decoder has one direction


def test_padding_changes_nothing(folder):
    config, params = t5.load_encoder(folder)
    graphdef = layers.abstract(t5.T5Encoder, config)[0]
    ids = np.arange(3, 12, dtype=np.int32)[None]
    short = t5.encode(graphdef, params, ids, np.ones((1, 9), bool))
    # What stands at the padding is not looked at.
    long = t5.encode(graphdef, params, np.pad(ids, ((0, 0), (0, 8)), constant_values=5), np.arange(17)[None] < 9)
    np.testing.assert_allclose(long[:, :9], short, atol=1e-5)
    assert not np.any(long[:, 9:])


def test_decoder_sees_no_later_token():
    model = t5_pretraining.T5(TINY, rngs=nnx.Rngs(0))
    ids, mask = jnp.arange(3, 9)[None], jnp.ones((1, 6), bool)
    targets = jnp.array([[5, 6, 7, 8]])
    logits = model(ids, mask, targets)
    changed = model(ids, mask, targets.at[0, 2].set(20))
    np.testing.assert_allclose(logits[:, :3], changed[:, :3], atol=1e-6)
    assert np.abs(logits[:, 3] - changed[:, 3]).max() > 1e-4


# --- folders and their errors ---------------------------------------------------------------------------------------


def test_sharded_and_bfloat16_weights(folder, tmp_path):
    import ml_dtypes

    weights = golden("gated")[0]
    parts = {"model-1.safetensors": list(weights)[::2], "model-2.safetensors": list(weights)[1::2]}
    (folder / "model.safetensors").unlink()
    for name, keys in parts.items():
        save_file({key: weights[key].astype(ml_dtypes.bfloat16) for key in keys}, folder / name)
    index = {key: name for name, keys in parts.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps(dict(weight_map=index)))
    _, params = t5.load_encoder(folder)
    np.testing.assert_allclose(params["embed"]["embedding"], weights["shared.weight"], rtol=1e-2)
    assert t5.load_encoder(folder, jnp.bfloat16)[1]["embed"]["embedding"].dtype == jnp.bfloat16
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-2\.safetensors"):
        t5.load_encoder(folder)


def test_weights_that_do_not_fit(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | dict(d_ff=25)))
    with pytest.raises(ValueError, match=r"(?=.*\(25, 16\)).*DenseReluDense\.wi_0\.weight.*\(24, 16\)"):
        t5.load_encoder(folder)
    (folder / "config.json").write_text(json.dumps(config | dict(num_layers=3)))
    with pytest.raises(ValueError, match=r"encoder\.block\.2\."):
        t5.load_encoder(folder)
    (folder / "config.json").write_text(json.dumps(config | dict(num_layers=1)))
    with pytest.raises(ValueError, match=r"\b1\b.*encoder\.block\.1\."):
        t5.load_encoder(folder)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(feed_forward_proj="gated-silu"), "gated-silu"),
        (dict(model_type="bert"), "bert"),
        (dict(d_model=None), "d_model"),
    ],
)
def test_config_that_is_no_t5(folder, change, words):
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(ValueError, match=words):
        t5.load_encoder(folder)


def test_missing_files(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json.*sentencepiece"):
        t5.TextEncoder.from_pretrained(folder)
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"model\.safetensors.*deserializ"):
        t5.load_encoder(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin.*save_pretrained"):
        t5.load_encoder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        t5.load_encoder(folder)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        t5.load_encoder(tmp_path / "nowhere")


def test_hub_that_cannot_be_reached(monkeypatch):
    import huggingface_hub

    def fail(*args, **kwargs):
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(FileNotFoundError, match="google/flan-t5-tiny.*offline"):
        t5.TextEncoder.from_pretrained("google/flan-t5-tiny")


# --- captions -------------------------------------------------------------------------------------------------------


def test_tokenize(shipped):
    ids, mask = shipped.tokenize(["a cat", "", " ".join(["cat"] * 100)], length=16)
    assert ids.dtype == np.int32 and ids.shape == mask.shape == (3, 16)
    assert mask.sum(1).tolist() == [3, 1, 16]
    assert ids[0, 2] == ids[1, 0] == ids[2, 15] == t5_pretraining.END  # the cut caption too ends with </s>
    with pytest.raises(ValueError, match="'a cat'"):
        shipped.tokenize("a cat")


def test_no_text_is_unknown(shipped):
    texts = ["A  Café", "xyzzy-42!", "猫", "[brackets] {and} ~signs~", "naïve Ärger"]
    for text, encoding in zip(texts, shipped.tokenizer.encode_batch(texts)):
        assert "<unk>" not in encoding.tokens, text
    assert shipped.tokenizer.encode("A  Cat").ids == shipped.tokenizer.encode("a cat").ids


def test_a_batch_size_is_compiled_once(shipped):
    before = t5.encode._cache_size()
    for caption in ("a cat", "a cat left of a dog on a blue background", ""):
        embeddings, mask = shipped.encode([caption] * 5, length=31)
    assert t5.encode._cache_size() == before + 1
    assert embeddings.shape == (5, 31, shipped.width) and embeddings.dtype == np.float32
    assert mask.dtype == bool


@pytest.mark.parametrize("frame", ["a {}", "there is a {}", "a {} on a blue background", "a {} left of a tree"])
def test_kitty_lies_nearer_to_cat_than_to_dog(shipped, frame):
    kitty, cat, dog = shipped.directions([frame.format(word) for word in ("kitty", "cat", "dog")])
    assert kitty @ cat > kitty @ dog + 0.005


def test_directions_by_hand(shipped):
    captions = ["a cat", "a cat left of a dog"]  # of other lengths: padding has no part in the mean
    for caption, direction in zip(captions, shipped.directions(captions)):
        vectors, mask = shipped.encode([caption])
        mean = vectors[mask].mean(0)
        np.testing.assert_allclose(direction, mean / np.sqrt((mean**2).sum()), atol=1e-5)


def test_nearly_every_synonym_is_nearest_to_its_name(shipped):
    frames = ("a {}", "two {}", "a {} on a blue background")
    answers = [pair for frame in frames for pair in t5_pretraining.nearest_names(shipped, frame).values()]
    assert np.mean([name == near for name, near in answers]) > 0.9


def test_the_shipped_weights_have_the_held_out_loss_that_is_told(shipped):
    told = json.loads((SHIPPED / "held_out.json").read_text())
    config = t5.read_t5_config(SHIPPED)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: t5_pretraining.T5(config, rngs=nnx.Rngs(0))))
    params = _read_all(load_file(SHIPPED / "model.safetensors"), nnx.to_pure_dict(state))
    measured = t5_pretraining.held_out_loss(graphdef, params, shipped.tokenizer, get_preset("tiny").train["text"])
    assert measured["loss"] == pytest.approx(told["loss"], abs=0.01)
    assert measured["accuracy"] > 0.6


# --- pretraining ----------------------------------------------------------------------------------------------------


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


def test_where_sentences_break_off(shipped):
    pieces = [shipped.tokenizer.token_to_id(piece) for piece in t5_pretraining.BREAKS]
    assert None not in pieces
    text = "a cat left of a dog. on the left is a cat"
    ids = shipped.tokenizer.encode(text, add_special_tokens=False).ids
    source, _ = t5_pretraining.continuation(ids, np.random.default_rng(0), 1000, set(pieces))
    assert shipped.tokenizer.decode(source) == "a cat left of a dog."


def test_text_batch_is_a_function_of_seed_and_step(shipped):
    config = TrainConfig(steps=1, batch=16)
    first, again, other = (t5_pretraining.text_batch(shipped.tokenizer, step, config) for step in (3, 3, 4))
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


def test_hardly_any_sentence_is_cut(shipped):
    encoded = shipped.tokenizer.encode_batch(corpus.sentences(3000, 5), add_special_tokens=False)
    assert np.mean([len(one.ids) > t5_pretraining.INPUT_LENGTH - 2 for one in encoded]) < 0.003


def test_stage_makes_a_folder_that_loads(tmp_path, shipped):
    (tmp_path / "text").mkdir()
    shutil.copy(SHIPPED / "tokenizer.json", tmp_path / "text")
    sizes = dataclasses.replace(TINY, num_layers=1)
    held_out = t5_pretraining.stage(get_preset("micro"), TrainConfig(steps=3, batch=8, warmup=1), tmp_path, sizes)
    assert 0 < held_out["loss"] < 20
    encoder = t5.TextEncoder.from_pretrained(tmp_path / "text")
    assert encoder.encode(["a cat"])[0].shape == (1, 32, 16)


def test_what_is_no_list_of_texts_is_refused():
    encoder = t5.TextEncoder.from_pretrained("t5-scenes")
    for captions, message in (
        ([], r"\[\]"),
        ("a cat", "'a cat'"),
        ([None], r"\[None\]"),
        (["a \ud83d"], r"'a \\ud83d'"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder.encode(captions)
    with pytest.raises(ValueError, match=r"\blength\b.*\b0\b"):
        encoder.encode(["a cat"], length=0)
