"""Modules to named arrays on disk and back, and what is wrong with files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BASE, random_weights
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from minimuse import muse, weights
from minimuse.config import VQGANConfig

VQGAN = VQGANConfig(codebook_size=16, code_dim=4, channels=(8, 16))


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_weights_name_is_its_path_in_the_module(base_model):
    found = weights.named_arrays(base_model)
    assert found["blocks.qkv.kernel"].shape == (2, 16, 48) and found["rows"].shape == (2, 1, 16)
    assert found["embed.embedding"] is base_model.embed.embedding[...]
    tokenizer = weights.named_arrays(muse.build("tokenizer", VQGAN))
    assert tokenizer["encoder.stages.layers.0.kernel"].shape == (1, 1, 48, 8)
    state = dict(params=dict(a=[1, 2]), step=3, value=4)
    assert weights.named_arrays(state) == {"params.a.0": 1, "params.a.1": 2, "step": 3, "value": 4}


def test_named_arrays_go_back_into_a_module(base_model):
    before = weights.named_arrays(base_model)
    changed = weights.with_arrays(base_model, {"norm.scale": jnp.zeros(16)})
    after = weights.named_arrays(changed)
    assert not after["norm.scale"].any() and before["norm.scale"].all()  # a copy; the given one stays
    assert all(after[name] is before[name] for name in before if name != "norm.scale")
    assert jax.tree.structure(changed) == jax.tree.structure(base_model)
    with pytest.raises(KeyError, match=r"norm\.size.*norm\.scale"):
        weights.with_arrays(base_model, {"norm.size": jnp.zeros(16)})


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage, config", [("base", BASE), ("tokenizer", VQGAN)])
def test_weights_survive_the_disk_in_float16(stage, config, tmp_path):
    model, path = random_weights(stage, config), tmp_path / "w.safetensors"
    weights.save_weights(path, model)
    stored, given = load_file(path), weights.named_arrays(model)
    assert {value.dtype for value in stored.values()} == {np.dtype(np.float16)} and stored.keys() == given.keys()
    back = weights.load_weights(path, muse.build(stage, config))
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for name, value in weights.named_arrays(back).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, np.asarray(given[name], np.float16))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_flipped_bit_is_noticed_wherever_it_is(base_model, tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, base_model)
    whole = path.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    for place in (begin, begin + 1001, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1  # of a number that stays finite
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"w\.safetensors"):
            weights.load_weights(path, base_model)
    path.write_bytes(whole)
    stored = load_file(path)
    save_file(stored, path)  # as minimuse 0.1 and other programs do, without a checksum
    old = weights.named_arrays(weights.load_weights(path, base_model))
    assert all((old[name] == value).all() for name, value in stored.items())


def test_files_with_the_old_name_of_the_heads_layer_still_load(base_model, tmp_path):
    """minimuse 0.1 called `head_proj` "hidden"."""
    path = tmp_path / "w.safetensors"
    arrays = {name: np.asarray(value) for name, value in weights.named_arrays(base_model).items()}
    save_file({name.replace("head_proj.", "hidden."): value for name, value in arrays.items()}, path)
    assert "hidden.kernel" in load_file(path)
    back = weights.named_arrays(weights.load_weights(path, base_model))
    assert back.keys() == arrays.keys()
    assert all((back[name] == value).all() for name, value in arrays.items())


def test_missing_damaged_and_other_files_are_explained(base_model, tmp_path):
    path = tmp_path / "base.safetensors"
    with pytest.raises(FileNotFoundError, match=r"base\.safetensors"):
        weights.load_weights(path, base_model)
    arrays = {name: np.asarray(value) for name, value in weights.named_arrays(base_model).items()}
    for changed, message in (
        (arrays | dict(rows=np.zeros((3, 1, 16))), r"\brows\b.*\(3, 1, 16\).*\(2, 1, 16\)"),
        (arrays | dict(more=np.zeros(2)), r"\bmore\b.*\(2,\)"),
        ({name: value for name, value in arrays.items() if name != "columns"}, r"\bcolumns\b.*missing.*\(1, 3, 16\)"),
    ):
        save_file(changed, path)
        with pytest.raises(ValueError, match=r"base\.safetensors.*" + message):
            weights.load_weights(path, base_model)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"base\.safetensors.*deserializ"):
        weights.load_weights(path, base_model)
    header = json.dumps(dict(a=dict(dtype="F8_E4M3", shape=[2], data_offsets=[0, 2]))).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))  # numbers that NumPy does not have
    with pytest.raises(ValueError, match=r"base\.safetensors"):
        weights.load_weights(path, base_model)


@pytest.mark.parametrize("number", [np.nan, -np.inf, 1e6])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(number, base_model, tmp_path):
    path, old = tmp_path / "base.safetensors", tmp_path / "old.safetensors"
    weights.save_weights(path, base_model)
    before = path.read_bytes()
    spoilt = weights.with_arrays(base_model, {"norm.scale": jnp.ones(16).at[3].set(number)})
    with pytest.raises(ValueError, match=r"base\.safetensors.*\bnorm\.scale\b"):
        weights.save_weights(path, spoilt)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with np.errstate(over="ignore"):  # as minimuse 0.1 wrote it
        save_file({name: np.asarray(x, np.float16) for name, x in weights.named_arrays(spoilt).items()}, old)
    with pytest.raises(ValueError, match=r"old\.safetensors.*\bnorm\.scale\b"):
        weights.load_weights(old, base_model)


@pytest.mark.parametrize("dtype", [np.int32, bool, np.complex64, np.uint8])
def test_weights_of_another_kind_of_number_are_neither_saved_nor_loaded(dtype, base_model, tmp_path):
    path = tmp_path / "base.safetensors"
    arrays = {name: np.asarray(value) for name, value in weights.named_arrays(base_model).items()}
    wrong = arrays | {"norm.scale": np.ones(16, dtype)}
    with pytest.raises(ValueError, match=rf"base\.safetensors.*\bnorm\.scale\b.*{np.dtype(dtype)}"):
        weights.save_weights(path, weights.with_arrays(base_model, wrong))
    assert not list(tmp_path.iterdir())
    try:
        save_file(wrong, path)
    except SafetensorError:  # safetensors 0.5 has no complex numbers
        return
    with pytest.raises(ValueError, match=rf"base\.safetensors.*\bnorm\.scale\b.*{np.dtype(dtype)}"):
        weights.load_weights(path, base_model)


# --- checkpoint folders ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_a_folder_or_a_shipped_name(micro_folder, tmp_path):
    assert weights.find_checkpoint(micro_folder) == micro_folder
    assert (weights.find_checkpoint("tiny") / "base.safetensors").is_file()
    with pytest.raises(FileNotFoundError, match="huge.*tiny"):
        weights.find_checkpoint("huge")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        weights.find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", r"config\.json.*line 1"),
        ("[1]", r"config\.json.*object"),
        ("\xff", r"config\.json.*0xff"),
        (json.dumps(dict(format=99)), r"\b99\b"),
        ("{}", r"\bNone\b"),
    ],
)
def test_a_damaged_config_is_explained(text, message, tmp_path):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        weights.read_config(tmp_path)


@pytest.mark.parametrize("number", weights.READABLE)
def test_formats_of_earlier_versions_are_read(number, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(format=number)))
    assert weights.read_config(tmp_path) == dict(format=number)
    assert weights.FORMAT in weights.READABLE
