"""The pipeline: drawing, determinism, compilation, checkpoints and what is wrong with them."""

import json
import shutil

import jax
import numpy as np
import pytest

import minimuse as mm
from minimuse import decoding, weights
from minimuse.config import data_dir
from minimuse.data import scenes
from minimuse.data.scenes import BACKGROUNDS
from minimuse.decoding import halton_ranks


def test_pictures_are_uint8_and_a_captions_lie_side_by_side(micro):
    images = micro.generate(["a cat", "a dog on a blue background"], n=2, seed=0, steps=2)
    assert images.shape == (4, 64, 64, 3) and images.dtype == np.uint8
    assert (images[0] != images[1]).any()


def test_same_seed_same_picture_in_any_batch(micro):
    both = micro.generate(["a cat", "a dog"], seed=3, steps=3, trace=True)
    assert (micro.generate(["a cat", "a dog"], seed=3, steps=3, trace=True).tokens == both.tokens).all()
    assert (micro.generate("a cat", seed=3, steps=3, trace=True).tokens == both.tokens[:1]).all()
    assert (micro.generate("a cat", seed=4, steps=3, trace=True).tokens != both.tokens[:1]).any()


def test_trace_tells_every_step(micro):
    result = micro.generate(["a cat"] * 2, steps=3, trace=True)
    assert isinstance(result, mm.Generation)
    assert result.tokens.shape == (2, 8, 8) and result.trace.tokens.shape == (3, 2, 64)
    assert result.trace.hidden.sum(-1).tolist() == [[55, 55], [32, 32], [0, 0]]
    assert (result.trace.tokens[-1].reshape(2, 8, 8) == result.tokens).all()
    assert (micro.detokenize(result.tokens) == result.images).all()


def test_captions_of_any_length_compile_once(micro):
    decoding.sample_tokens.clear_cache()
    for caption in ("a cat", "three apples on a pink background", "a " * 50 + "cat", "Ünïcödé 猫 🐱", ""):
        micro.generate(caption, steps=2, guidance=2.0)
    assert decoding.sample_tokens._cache_size() == 1
    for guidance, temperature, token_temperature in ((1.0, 0.0, 0.1), (7.5, 16.0, 1.0)):
        options = dict(guidance=guidance, temperature=temperature, token_temperature=token_temperature)
        micro.generate("a cat", steps=2, **options)
    assert decoding.sample_tokens._cache_size() == 1


def test_a_hundred_captions_of_all_lengths_compile_once_a_batch_size(micro):
    captions = [" ".join(["a cat on a blue background"] * (1 + i % 5)) for i in range(100)]
    for batch in (1, 4):
        decoding.sample_tokens.clear_cache()
        for seed, start in enumerate(range(0, 100, batch)):
            micro.generate(captions[start : start + batch], seed=seed, steps=1)
        assert decoding.sample_tokens._cache_size() == 1


def test_orders_laws_top_k_and_the_ramp_reach_the_decoder(micro):
    run = lambda **options: micro.generate("a cat", steps=4, guidance=8.0, trace=True, **options)
    plain = run().tokens
    for options in (
        dict(order="halton"),
        dict(order="random"),
        dict(law="square root"),
        dict(top_k=1),
        dict(ramp=False),
    ):
        assert (run(**options).tokens != plain).any(), options
    assert (run(top_k=64).tokens == plain).all()  # all 64 codes
    assert run(law="square root").trace.hidden.sum(-1).ravel().tolist() == [32, 18, 8, 0]
    ranks = halton_ranks(8, 8)
    assert (run(order="halton").trace.hidden[0, 0] == (ranks >= 64 - run().trace.hidden[0].sum())).all()


def test_the_caption_guidance_and_the_negative_matter(micro):
    tokens = lambda *args, **options: micro.generate(*args, steps=4, trace=True, **options).tokens
    plain = tokens("a cat on a blue background", guidance=8.0)
    assert (tokens("three dogs", guidance=8.0) != plain).any()
    assert (tokens("a cat on a blue background", guidance=0.0) != plain).any()
    assert (tokens("a cat on a blue background", guidance=8.0, negative="a dog") != plain).any()


def test_negative_equal_to_the_caption_is_no_guidance(micro):
    plain = micro.generate("a cat", steps=4, guidance=0.0, trace=True)
    same = micro.generate("a cat", steps=4, guidance=3.0, negative="a cat", trace=True)
    assert (plain.tokens == same.tokens).mean() > 0.9  # but for rounding at ties


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (([],), {}, r"\[\]"),
        ((["a cat", 3],), {}, r"\['a cat', 3\]"),
        ((None,), {}, "None"),
        (("a cat",), dict(n=0), r"\bn\b.*\b0\b"),
        (("a cat",), dict(n=1.5), r"\bn\b.*1\.5"),
        (("a cat",), dict(n=10**20), r"\bn\b.*10{20}"),
        (("a cat \udcff",), {}, r"'a cat \\udcff'"),
        (("a cat",), dict(negative="\ud83d"), r"\\ud83d"),
        (("a cat",), dict(guidance="a"), r"\bguidance\b.*'a'"),
        (("a cat",), dict(temperature="1"), r"\btemperature\b.*'1'"),
        (("a cat",), dict(guidance={}), r"\bguidance\b.*\{\}"),
        (("a cat",), dict(guidance=10**400), r"\bguidance\b.*10{400}"),
        (("a cat",), dict(guidance=1e39), r"\bguidance\b.*1e\+39"),  # no float32
        (("a cat",), dict(token_temperature=1e-300), r"\btoken_temperature\b.*1e-300"),
        (("a cat",), dict(law={}), r"\blaw\b.*\{\}.*cosine"),
        (("a cat",), dict(order=np.array(["halton", "random"])), r"\border\b.*array.*confidence"),
        (("a cat",), dict(seed=1.5), r"\bseed\b.*1\.5"),
        (("a cat",), dict(seed=2**32), r"\bseed\b.*4294967296"),
        (("a cat",), dict(seed=-1), r"\bseed\b.*-1"),
        (("a cat",), dict(steps=()), r"\bsteps\b.*\(\)"),
        (("a cat",), dict(finetuned=True, superres=True), "superres"),
        (("a cat",), dict(guidance=float("nan")), r"\bguidance\b.*\bnan\b"),
        (("a cat",), dict(temperature=float("inf")), r"\btemperature\b.*\binf\b"),
        (("a cat",), dict(steps=0), r"\bsteps\b.*\b0\b"),
        (("a cat",), dict(steps=65), r"\bsteps\b.*\b65\b"),
        (("a cat",), dict(guidance=-1), r"\bguidance\b.*-1"),
        (("a cat",), dict(temperature=-1), r"\btemperature\b.*-1"),
        (("a cat",), dict(token_temperature=0), r"\btoken_temperature\b.*\b0\b"),
        (("a cat",), dict(top_k=-1), r"\btop_k\b.*-1"),
        (("a cat",), dict(top_k=1.5), r"\btop_k\b.*1\.5"),
        (("a cat",), dict(order="spiral"), r"\border\b.*spiral.*halton"),
        (("a cat",), dict(law="cos"), r"\blaw\b.*\bcos\b.*linear"),
        (("a cat",), dict(negative=["a", "b"]), r"(?=.*\bnegative\b)(?=.*\b1\b).*\b2\b"),
        (("a cat",), dict(superres=True), "superres"),
        (("a cat",), dict(finetuned=True), "[Ff]ine-?tuned"),
    ],
)
def test_bad_input_gets_a_sentence(micro, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        micro.generate(*arguments, **options)


def test_whole_numbers_of_numpy_are_whole_numbers(micro):
    assert micro.generate("a cat", np.int64(2), np.int32(0), steps=np.int64(2)).shape == (2, 64, 64, 3)


@pytest.mark.parametrize("images", [np.zeros((1, 64, 64, 3)), np.zeros((64, 64, 3), np.uint8)])
def test_pixels_of_another_form_are_refused(micro, images):
    with pytest.raises(ValueError, match=rf"{images.dtype}.*\{list(images.shape)}"):
        micro.tokenize(images)


def test_images_become_tokens_and_images_again(micro):
    images = micro.generate("a cat", steps=1)
    tokens = micro.tokenize(images)
    assert tokens.shape == (1, 8, 8) and micro.detokenize(tokens).shape == images.shape


def test_a_saved_muse_draws_the_same(micro, tmp_path):
    micro.save(tmp_path / "copy", trained="a test")
    copy = mm.Muse.from_pretrained(tmp_path / "copy")
    assert (copy.generate("a cat", steps=2) == micro.generate("a cat", steps=2)).all()
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["trained"] == "a test"
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == [
        "base.safetensors",
        "config.json",
        "tokenizer.safetensors",
    ]


def test_a_saved_muse_takes_its_own_text_encoder_along(micro_folder, tmp_path):
    run = shutil.copytree(micro_folder, tmp_path / "run")
    shutil.copytree(data_dir() / "t5-scenes", run / "text")
    edit(run, text="text")
    mm.Muse.from_pretrained(run).save(tmp_path / "copy")
    shutil.rmtree(run)
    copy = mm.Muse.from_pretrained(tmp_path / "copy")
    assert copy.generate("a cat", steps=1).shape == (1, 64, 64, 3)
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["text"] == "text"
    assert not list((tmp_path / "copy").rglob("*.partial"))


def test_models_of_one_config_share_their_compiled_programs(micro_folder):
    one, two = (mm.Muse.from_pretrained(micro_folder) for _ in range(2))
    assert one.graphdefs == two.graphdefs


@pytest.fixture
def copy(micro_folder, tmp_path):
    return shutil.copytree(micro_folder, tmp_path / "checkpoint")


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_unknown_names_and_missing_files_are_named(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="huge.*tiny"):
        mm.Muse.from_pretrained("huge")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        mm.Muse.from_pretrained(tmp_path)
    (copy / "base.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"base\.safetensors"):
        mm.Muse.from_pretrained(copy)


def test_weights_of_another_shape_are_explained(copy):
    base = json.loads((copy / "config.json").read_text())["base"]
    edit(copy, base=base | dict(width=64))
    with pytest.raises(ValueError, match=r"base\.safetensors(?=.*\b32\b).*\b64\b"):
        mm.Muse.from_pretrained(copy)


def test_broken_files_are_explained(copy):
    (copy / "base.safetensors").write_bytes((copy / "base.safetensors").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"base\.safetensors.*deserializ"):
        mm.Muse.from_pretrained(copy)
    edit(copy, format=99)
    with pytest.raises(ValueError, match=r"\b99\b"):
        mm.Muse.from_pretrained(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json.*line 1"):
        mm.Muse.from_pretrained(copy)


def test_a_config_with_an_unknown_field_or_without_a_stage_is_explained(copy):
    base = json.loads((copy / "config.json").read_text())["base"]
    edit(copy, base=base | dict(colour=1))
    with pytest.raises(ValueError, match=r"TransformerConfig.*\bcolour\b"):
        mm.Muse.from_pretrained(copy)
    values = json.loads((copy / "config.json").read_text())
    del values["base"]
    (copy / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config\.json.*\bbase\b"):
        mm.Muse.from_pretrained(copy)


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(tokenizer=dict(image_size="big")), r"(?=.*VQGANConfig).*\bimage_size\b.*'big'"),
        (dict(base=dict(grid=[8])), r"(?=.*TransformerConfig).*\bgrid\b.*\(8,\)"),
        (dict(base=dict(heads=True)), r"(?=.*TransformerConfig).*\bheads\b.*True"),
        (dict(base=dict(depth=-1)), r"\bbase\b.*TransformerConfig.*\bdepth=-1\b"),
        (dict(base=dict(heads=0)), r"\bbase\b.*TransformerConfig.*\bheads=0\b"),
        (dict(base=None), "TransformerConfig.*None"),
        (dict(sampling=dict(steps=5)), r"(?=.*SampleConfig).*\bsteps\b.*\b5\b"),
        (dict(text=5), r"\btext\b.*\b5\b"),
    ],
)
def test_values_of_another_type_in_a_config_are_explained(copy, values, message):
    edit(copy, **values)
    with pytest.raises(ValueError, match=message):
        mm.Muse.from_pretrained(copy)


def test_a_config_that_is_no_object_is_explained(copy):
    for text, message in (("[1]", r"config\.json.*object"), ("\xff", r"config\.json.*0xff")):
        (copy / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=message):
            mm.Muse.from_pretrained(copy)


def test_a_config_without_a_field_that_has_no_default_is_explained():
    with pytest.raises(ValueError, match=r"TrainConfig.*\bbatch\b"):
        mm.config.from_dict(mm.config.TrainConfig, dict(steps=3))


def test_a_text_encoder_of_another_width_is_refused(micro):
    configs = micro.configs | dict(base=mm.PRESETS["micro"].base.__class__(codebook_size=64, text_width=7))
    with pytest.raises(ValueError, match=r"(?=.*\b192\b).*\b7\b"):
        mm.Muse(micro.text, configs, micro.params, micro.sampling, "t5-scenes")


def test_stages_of_different_codebooks_are_refused(micro):
    configs = micro.configs | dict(tokenizer=mm.PRESETS["tiny"].tokenizer)
    with pytest.raises(ValueError, match=r"(?=.*\b64\b)(?=.*\b1024\b).*codebook_size"):
        mm.Muse(micro.text, configs, micro.params, micro.sampling, "t5-scenes")


def test_weights_survive_the_disk_in_float16(tmp_path):
    params = dict(a=dict(kernel=np.float32([[1.0, 0.5]])), b=np.float32([3.0]))
    weights.save_weights(tmp_path / "w.safetensors", params)
    back = weights.load_weights(tmp_path / "w.safetensors", params)
    assert back["a"]["kernel"].tolist() == [[1.0, 0.5]] and back["b"].dtype == np.float32
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_tokens_are_read_in_full_precision(micro):
    """TF32, which GPUs multiply with by default, reads another code for two of the eight backgrounds."""
    from minimuse.vqgan import read_tokens

    images = np.zeros((1, 64, 64, 3), np.uint8)
    weights_of = micro.graphdefs["tokenizer"], micro.params["tokenizer"]
    lines = str(jax.make_jaxpr(read_tokens, static_argnums=0)(*weights_of, images)).split("precision=")
    assert len(lines) > 2 and all("HIGHEST" in line[:60] for line in lines[1:])


def test_shipped_weights_draw_what_is_asked():
    """The real checkpoint: blue means blue."""
    muse = mm.Muse.from_pretrained("tiny")
    blue, yellow = muse.generate(["a cat on a blue background", "a cat on a yellow background"], seed=0)
    corner = lambda image: image[:4, :4].reshape(-1, 3).mean(0)
    assert np.abs(corner(blue) - BACKGROUNDS["blue"]).max() < 25
    assert np.abs(corner(yellow) - BACKGROUNDS["yellow"]).max() < 25


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_both_shipped_tokenizers_rebuild_every_split(split):
    muse = mm.Muse.from_pretrained("tiny")
    drawn = [scenes.example(split, i)[0] for i in range(6)]  # one of each task, or of those that the split has
    for stage, size, grid in (("base", 64, (8, 8)), ("superres", 128, (32, 32))):
        images = scenes.render_batch(drawn, size)
        tokens = muse.tokenize(images, stage)
        assert tokens.shape == (6, *grid)
        errors = np.asarray(muse.detokenize(tokens, stage)).astype(float) - images
        assert 10 * np.log10(255**2 / (errors**2).mean()) > 28  # PSNR in dB
