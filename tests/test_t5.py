"""The frozen text encoder: against transformers, folders and their errors, captions. Its pretraining is in train/."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_tree
from safetensors.numpy import load_file, save_file

from minimuse import layers, t5
from minimuse.config import T5Config
from minimuse.weights import named_arrays

GOLDEN = Path(__file__).parent / "fixtures" / "t5_golden.safetensors"
TINY = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=3, num_decoder_layers=1)
KINDS = {
    "gated": dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "relu": dict(feed_forward_proj="relu", tie_word_embeddings=True),
}
END = 1  # the id of </s>


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
    _, model = t5.load_encoder(write_folder(tmp_path / kind, dataclasses.asdict(TINY) | KINDS[kind], weights))
    got = t5.encode(model, about["ids"], about["mask"])
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
    _, ours = t5.load_encoder(tmp_path)
    for length in (1, 2, 33, 256):
        ids = np.random.default_rng(length).integers(3, sizes["vocab_size"], (2, length)).astype(np.int32)
        mask = np.arange(length) < np.array([[length], [(length + 1) // 2]])
        with torch.no_grad():
            want = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask).long()).last_hidden_state
        got = t5.encode(ours, ids, mask)
        np.testing.assert_allclose(got, want.numpy() * mask[..., None], atol=1e-4)


def test_save_is_the_inverse_of_load(tmp_path):
    model = random_tree(layers.abstract(t5.T5Encoder, TINY))
    t5.save_t5(tmp_path, TINY, dict(encoder=model))
    config, back = t5.load_encoder(tmp_path)
    assert config == TINY and jax.tree.structure(back) == jax.tree.structure(model)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_an_encoder_has_one_structure_whichever_way_it_is_made(folder):
    config, model = t5.load_encoder(folder)
    assert jax.tree.structure(model) == jax.tree.structure(layers.abstract(t5.T5Encoder, config))
    assert named_arrays(model)["stack.layers.attention.q.kernel"].shape == (2, 16, 12)


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
    _, model = t5.load_encoder(folder)
    ids = np.arange(3, 12, dtype=np.int32)[None]
    short = t5.encode(model, ids, np.ones((1, 9), bool))
    # What stands at the padding is not attended to.
    long = t5.encode(model, np.pad(ids, ((0, 0), (0, 8)), constant_values=5), np.arange(17)[None] < 9)
    np.testing.assert_allclose(long[:, :9], short, atol=1e-5)
    assert not np.any(long[:, 9:])


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
    _, model = t5.load_encoder(folder)
    np.testing.assert_allclose(model.embed.embedding[...], weights["shared.weight"], rtol=1e-2)
    assert t5.load_encoder(folder, jnp.bfloat16)[1].embed.embedding[...].dtype == jnp.bfloat16
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
        (dict(layer_norm_epsilon=float("nan")), "layer_norm_epsilon"),
        (dict(d_ff=0), "d_ff"),
    ],
)
def test_a_config_of_another_model_is_refused(folder, change, words):
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


def test_damaged_files_are_named(folder, tmp_path):
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n")
    with pytest.raises(ValueError, match=r"tokenizer\.json.*Git LFS"):
        t5.TextEncoder.from_pretrained(folder)
    weights, path = load_file(folder / "model.safetensors"), folder / "model.safetensors"
    spoilt = dict(weights, **{"encoder.final_layer_norm.weight": np.full(16, np.nan, np.float32)})
    save_file(spoilt, path)
    with pytest.raises(ValueError, match=r"final_layer_norm.*NaN"):
        t5.load_encoder(folder)
    save_file(dict(weights, **{"encoder.final_layer_norm.weight": np.ones(16, np.int32)}), path)
    with pytest.raises(ValueError, match=r"final_layer_norm.*int32"):
        t5.load_encoder(folder)
    path.rename(folder / "model-1.safetensors")
    index = dict.fromkeys(weights, "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(dict(weight_map=index)))
    with open(folder / "model-1.safetensors", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"model-1\.safetensors"):
        t5.load_encoder(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"index\.json"):
        t5.load_encoder(folder)


def test_a_hub_that_must_not_be_asked(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="google/flan-t5-tiny"):
        t5.TextEncoder.from_pretrained("google/flan-t5-tiny")


# --- captions -------------------------------------------------------------------------------------------------------


def test_tokenize(shipped):
    ids, mask = shipped.tokenize(["a cat", "", " ".join(["cat"] * 100)], length=16)
    assert ids.dtype == np.int32 and ids.shape == mask.shape == (3, 16)
    assert mask.sum(1).tolist() == [3, 1, 16]
    assert ids[0, 2] == ids[1, 0] == ids[2, 15] == END  # the cut caption too ends with </s>
    with pytest.raises(ValueError, match="'a cat'"):
        shipped.tokenize("a cat")


def test_no_text_is_unknown(shipped):
    texts = ["A  Café", "xyzzy-42!", "猫", "[brackets] {and} ~signs~", "naïve Ärger"]
    for text, encoding in zip(texts, shipped.tokenizer.encode_batch(texts)):
        assert "<unk>" not in encoding.tokens, text
    assert shipped.tokenizer.encode("A  Cat").ids == shipped.tokenizer.encode("a cat").ids


def test_ids_that_the_encoder_does_not_have_are_refused(shipped):
    small = dataclasses.replace(shipped.config, vocab_size=5)
    with pytest.raises(ValueError, match=r"tokenizer\.json.*\b5 ids\b"):
        t5.TextEncoder(small, shipped.model, shipped.tokenizer).encode(["a cat"])


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
    captions = ["a cat", "a cat left of a dog"]  # of different lengths: padding is not in the mean
    for caption, direction in zip(captions, shipped.directions(captions)):
        vectors, mask = shipped.encode([caption])
        mean = vectors[mask].mean(0)
        np.testing.assert_allclose(direction, mean / np.sqrt((mean**2).sum()), atol=1e-5)


def test_what_is_not_a_list_of_texts_is_refused(shipped):
    for captions, message in (
        ([], r"\[\]"),
        ("a cat", "'a cat'"),
        ([None], r"\[None\]"),
        (["a \ud83d"], r"'a \\ud83d'"),
    ):
        with pytest.raises(ValueError, match=message):
            shipped.encode(captions)
    with pytest.raises(ValueError, match=r"\blength\b.*\b0\b"):
        shipped.encode(["a cat"], length=0)
