"""The pipeline: drawing, determinism, compilation, checkpoints and what is wrong with them."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from conftest import STEPS

import minimuse as mm
from minimuse import decoding
from minimuse.config import SampleOptions, Sampling, data_dir
from minimuse.data import scenes
from minimuse.data.scenes import BACKGROUNDS
from minimuse.decoding import halton_ranks
from minimuse.muse import Plan

TWO = ["a cat", "a dog on a blue background"]


def draw(muse, captions, **options):
    """With a trace and STEPS, so that tests share programs."""
    return muse.generate(captions, **dict(steps=STEPS, trace=True) | options)


# --- drawing --------------------------------------------------------------------------------------------------------


def test_pictures_are_uint8_and_those_of_a_caption_lie_side_by_side(micro):
    images = micro.generate(TWO, steps=STEPS)
    assert images.shape == (2, 64, 64, 3) and images.dtype == np.uint8
    prompts = micro.prompts(TWO, n=2)
    (one, same, two, _), mask = prompts.text
    assert (one == same).all() and (one != two).any() and mask.sum(-1).tolist() == [3, 3, 7, 7]
    assert not prompts.negative[1].any()  # an empty caption has nothing to attend to
    assert (draw(micro, "a cat", n=2).tokens == draw(micro, ["a cat"] * 2).tokens).all()


def test_same_seed_same_picture_in_any_batch(micro):
    both = draw(micro, TWO, seed=3)
    assert (draw(micro, TWO, seed=3).tokens == both.tokens).all()
    assert (draw(micro, TWO[0], seed=3).tokens == both.tokens[:1]).all()
    assert (draw(micro, TWO[0], seed=4).tokens != both.tokens[:1]).any()
    assert (both.images[0] != both.images[1]).any()


def test_a_trace_shows_every_step(micro):
    result = draw(micro, ["a cat"] * 2)
    assert isinstance(result, mm.Generation)
    assert result.tokens.shape == (2, 8, 8) and result.trace.tokens.shape == (3, 2, 64)
    assert result.trace.hidden.sum(-1).tolist() == [[55, 55], [32, 32], [0, 0]]
    assert (result.trace.tokens[-1].reshape(2, 8, 8) == result.tokens).all()
    assert (micro.detokenize(result.tokens) == result.images).all()
    assert (micro.detokenize(result.tokens.reshape(2, 64)) == result.images).all()
    assert result.superres_tokens is None and result.superres_trace is None


def test_a_trace_changes_nothing(micro):
    assert (micro.generate(TWO, steps=STEPS) == draw(micro, TWO).images).all()


def test_captions_of_any_length_and_other_numbers_compile_nothing(micro):
    draw(micro, TWO)
    before = decoding.sample_tokens._cache_size()
    captions = ["three apples on a pink background", "a " * 50 + "cat", "Ünïcödé 猫 🐱", ""]
    captions += [" ".join(["a cat on a blue background"] * (1 + i % 5)) for i in range(96)]
    for seed, start in enumerate(range(0, len(captions), 2)):
        draw(micro, captions[start : start + 2], seed=seed)
    for guidance, temperature, token_temperature in ((1.0, 0.0, 0.1), (7.5, 16.0, 1.0)):
        draw(micro, TWO, guidance=guidance, temperature=temperature, token_temperature=token_temperature)
    assert decoding.sample_tokens._cache_size() == before


def test_muses_of_one_config_share_their_compiled_programs(micro_folder):
    one, two = (mm.Muse.from_pretrained(micro_folder) for _ in range(2))
    for stage in one.models:
        assert jax.tree.structure(one.models[stage]) == jax.tree.structure(two.models[stage])
    draw(one, TWO)
    before = decoding.sample_tokens._cache_size()
    draw(two, TWO, seed=1)
    assert decoding.sample_tokens._cache_size() == before


def test_the_caption_guidance_the_ramp_and_the_negative_matter(micro):
    tokens = lambda captions, **options: draw(micro, captions, **dict(guidance=8.0) | options).tokens
    plain = tokens(TWO)
    assert (tokens(["three dogs", TWO[1]])[0] != plain[0]).any()
    assert (tokens(TWO, negative="a dog") != plain).any()
    for options in (dict(guidance=0.0), dict(guidance=1.0), dict(ramp=False), dict(temperature=0.0)):
        assert (tokens(TWO, **options) != plain).any(), options


def test_a_negative_equal_to_the_caption_is_the_same_as_no_guidance(micro):
    plain = draw(micro, TWO, guidance=0.0)
    same = draw(micro, TWO, guidance=3.0, negative=TWO)
    assert (plain.tokens == same.tokens).mean() > 0.9  # but for rounding at ties


def test_laws_orders_and_top_k_reach_the_decoder(micro):
    """All three in one program: counts by the law, positions by the order, the most likely code for top 1."""
    trace = draw(micro, ["a cat"] * 2, law="square root", order="halton", top_k=1, token_temperature=9.0).trace
    left = decoding.decode_schedule(3, 64, "square root").tolist()
    assert trace.hidden.sum(-1).tolist() == [[n, n] for n in left] and left[0] < 55
    assert (trace.hidden == (halton_ranks(8, 8) >= 64 - np.array(left)[:, None, None])).all()
    assert (trace.tokens[0, 0] == trace.tokens[0, 1]).all()  # two seeds, one most likely code at each position


def test_an_interval_and_revising_reach_the_decoder(micro):
    """Of three steps one fills and two revise; the first is guided."""
    trace = draw(micro, TWO, steps=3, revise=2, guided_to=0.3, guidance=8.0).trace
    assert trace.hidden.sum(-1).tolist() == [[16, 16], [6, 6], [0, 0]]
    known = ~trace.hidden[0]
    assert (trace.tokens[1] == trace.tokens[0])[known].all()


OPTIONS = dict(
    steps=5, guidance=2.5, ramp=False, temperature=1.5, token_temperature=0.75, top_k=2, law="linear", order="halton",
    guided_from=0.25, guided_to=0.75, revise=2, critic=False,
)  # fmt: skip


def test_a_plan_has_the_options_and_else_the_checkpoints_own(micro):
    assert OPTIONS.keys() == SampleOptions.__annotations__.keys()
    own = micro.sampling["base"]
    assert micro.plan() == Plan(dict(base=own), False)
    assert micro.plan(options=SampleOptions(**OPTIONS)).stages == dict(base=Sampling(**OPTIONS))
    assert not micro.plan(options=dict(guidance=0)).stages["base"].guided
    assert micro.defaults == {name: getattr(own, name) for name in OPTIONS}
    assert micro.plan(options=micro.defaults) == micro.plan()


def test_an_unknown_option_is_named(micro):
    with pytest.raises(TypeError, match=r"'guidence'.*\bguidance\b"):
        micro.generate("a cat", guidence=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1.0, 0.0])
def test_pictures_are_the_same_in_groups(micro, guidance):
    """A CPU takes as many pictures at once as its cache holds: of 64, each is what it is among three. The fast sibling
    is in test_sampling.py."""
    captions = ["a cat", "two dogs", "a star above a heart"]
    options = dict(steps=3, guidance=guidance, temperature=1.0, token_temperature=1.0)
    few, many = micro.generate(captions, **options), micro.generate(captions + ["a cat"] * 61, **options)
    assert many.shape == (64, 64, 64, 3) and len(np.unique(many, axis=0)) == 64
    np.testing.assert_allclose(many[:3], few.astype(int), atol=1)  # but for rounding of pixels


# --- bad input ------------------------------------------------------------------------------------------------------


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
        (("a cat",), dict(guidance=10**400), r"\bguidance\b.*10{150}"),
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
    assert draw(micro, "a cat", n=np.int64(2), seed=np.int32(0), steps=np.int64(3)).images.shape == (2, 64, 64, 3)


@pytest.mark.parametrize("images", [np.zeros((1, 64, 64, 3)), np.zeros((64, 64, 3), np.uint8)])
def test_pixels_of_another_form_are_refused(micro, images):
    with pytest.raises(ValueError, match=rf"{images.dtype}.*\{list(images.shape)}"):
        micro.tokenize(images)


def test_images_become_tokens_and_images_again(micro):
    images = draw(micro, "a cat").images
    tokens = micro.tokenize(images)
    assert tokens.shape == (1, 8, 8) and micro.detokenize(tokens).shape == images.shape


def test_a_stage_without_a_tokenizer_is_refused(micro):
    for call in (lambda: micro.tokenize(np.zeros((1, 64, 64, 3), np.uint8), "superres"),
                 lambda: micro.detokenize(np.zeros((1, 8, 8), int), "superres"),
                 lambda: micro.tokenizer_config("tokenizer")):  # fmt: skip
        with pytest.raises(ValueError, match=r"'(superres|tokenizer)'.*\bbase\b"):
            call()


def test_tokens_are_read_in_full_precision(micro):
    """TF32, which GPUs multiply with by default, reads another code for two of the eight backgrounds."""
    from minimuse.vqgan import read_tokens

    images = np.zeros((1, 64, 64, 3), np.uint8)
    lines = str(jax.make_jaxpr(read_tokens)(micro.models["tokenizer"], images)).split("precision=")
    assert len(lines) > 2 and all("HIGHEST" in line[:60] for line in lines[1:])


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(micro_folder, tmp_path):
    return shutil.copytree(micro_folder, tmp_path / "checkpoint")


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_draws_in_another_type_almost_as_in_float32(micro, micro_folder, dtype):
    muse = mm.Muse.from_pretrained(micro_folder, dtype=dtype)
    assert muse.models["base"].blocks.up.kernel[...].dtype == jax.numpy.dtype(dtype)
    assert muse.models["base"].text_whiten[...].dtype == muse.models["tokenizer"].codebook[...].dtype == np.float32
    tokens = [m.generate(["a cat", "two dogs"] * 4, seed=0, steps=1, trace=True).tokens for m in (micro, muse)]
    assert np.mean(tokens[0] == tokens[1]) > 0.9
    with pytest.raises(ValueError, match="float8"):
        mm.Muse.from_pretrained(micro_folder, dtype="float8")


def test_a_saved_muse_draws_the_same(micro, tmp_path):
    micro.save(tmp_path / "copy", trained="a test")
    copy = mm.Muse.from_pretrained(tmp_path / "copy")
    assert (draw(copy, TWO).images == draw(micro, TWO).images).all()
    assert copy.configs == micro.configs and copy.sampling == micro.sampling and copy.text_name == micro.text_name
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["trained"] == "a test"
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == [
        "base.safetensors",
        "config.json",
        "tokenizer.safetensors",
    ]


def test_a_saved_muse_keeps_its_sampling_and_writes_all_files_or_none(micro, tmp_path):
    sampling = {
        stage: Sampling(steps=7, top_k=3, law="log", order="random", ramp=False, guided_to=0.5, revise=2)
        for stage in ("base", "superres")
    }
    other = mm.Muse(micro.text, micro.configs, micro.models, sampling, micro.text_name)
    other.save(tmp_path)
    assert mm.Muse.from_pretrained(tmp_path).sampling == sampling
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    broken = dict(micro.models) | dict(base=jax.tree.map(lambda x: "no array", micro.models["base"]))
    with pytest.raises(ValueError, match="blocks.cross_kv.kernel"):
        mm.Muse(micro.text, micro.configs, broken, micro.sampling, micro.text_name).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_version_0_1_draws_the_same(micro, copy):
    """Format 1: pairs of both stages as its sampling."""
    one, two = (dataclasses.asdict(micro.sampling[stage]) for stage in ("base", "superres"))
    pairs = {name: [one[name], two[name]] for name in ("steps", "guidance", "temperature", "token_temperature")}
    shared = {name: one[name] for name in ("ramp", "top_k", "law", "order")}
    edit(copy, format=1, sampling=pairs | shared | dict(text_length=32))
    old = mm.Muse.from_pretrained(copy)
    assert old.sampling == micro.sampling and (draw(old, TWO).tokens == draw(micro, TWO).tokens).all()


def test_a_saved_muse_takes_its_own_text_encoder_along(copy, tmp_path):
    shutil.copytree(data_dir() / "t5-scenes", copy / "text")
    edit(copy, text="text")
    mm.Muse.from_pretrained(copy).save(tmp_path / "saved")
    shutil.rmtree(copy)
    saved = mm.Muse.from_pretrained(tmp_path / "saved")
    assert draw(saved, "a cat").images.shape == (1, 64, 64, 3)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["text"] == "text"
    assert not [path for path in (tmp_path / "saved").rglob("*") if ".partial" in path.name]


def test_unknown_names_and_missing_files_are_named(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="huge.*tiny"):
        mm.Muse.from_pretrained("huge")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        mm.Muse.from_pretrained(tmp_path)
    (copy / "base.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"base\.safetensors"):
        mm.Muse.from_pretrained(copy)


def test_weights_of_another_shape_and_broken_files_are_explained(copy):
    base = json.loads((copy / "config.json").read_text())["base"]
    edit(copy, base=base | dict(width=64))
    with pytest.raises(ValueError, match=r"base\.safetensors(?=.*\b32\b).*\b64\b"):
        mm.Muse.from_pretrained(copy)
    edit(copy, base=base)
    (copy / "base.safetensors").write_bytes((copy / "base.safetensors").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"base\.safetensors.*deserializ"):
        mm.Muse.from_pretrained(copy)
    edit(copy, format=99)
    with pytest.raises(ValueError, match=r"\b99\b"):
        mm.Muse.from_pretrained(copy)


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(tokenizer=dict(image_size="big")), r"(?=.*VQGANConfig).*\bimage_size\b.*'big'"),
        (dict(base=dict(colour=1)), r"TransformerConfig.*\bcolour\b"),
        (dict(base=dict(grid=[8])), r"(?=.*TransformerConfig).*\bgrid\b.*\(8,\)"),
        (dict(base=dict(heads=True)), r"(?=.*TransformerConfig).*\bheads\b.*True"),
        (dict(base=dict(depth=-1)), r"\bbase\b.*TransformerConfig.*\bdepth=-1\b"),
        (dict(base=dict(heads=0)), r"\bbase\b.*TransformerConfig.*\bheads=0\b"),
        (dict(base=None), "TransformerConfig.*None"),
        (dict(sampling=dict(steps="a")), r"(?=.*Sampling).*\bsteps\b.*'a'"),
        (dict(sampling=dict(base=dict(steps="a"))), r"(?=.*Sampling).*\bsteps\b.*'a'"),
        (dict(sampling=5), r"\bsampling\b.*\b5\b"),
        (dict(text=5), r"\btext\b.*\b5\b"),
    ],
)
def test_values_of_another_type_in_a_config_are_explained(copy, values, message):
    edit(copy, **values)
    with pytest.raises(ValueError, match=message):
        mm.Muse.from_pretrained(copy)


def test_a_config_without_a_stage_is_explained(copy):
    values = json.loads((copy / "config.json").read_text())
    del values["base"]
    (copy / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config\.json.*\bbase\b"):
        mm.Muse.from_pretrained(copy)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(base=mm.PRESETS["micro"].base.__class__(codebook_size=64, text_width=7)), r"(?=.*\b192\b).*\b7\b"),
        (dict(tokenizer=mm.PRESETS["tiny"].tokenizer), r"(?=.*\b64\b)(?=.*\b1024\b).*codebook_size"),
    ],
)
def test_stages_that_do_not_fit_together_are_refused(micro, changes, message):
    with pytest.raises(ValueError, match=message):
        mm.Muse(micro.text, micro.configs | changes, micro.models, micro.sampling, "t5-scenes")


# --- the shipped checkpoint -----------------------------------------------------------------------------------------


def test_shipped_weights_draw_what_the_caption_says(tiny):
    """The real checkpoint: blue means blue."""
    blue, yellow = tiny.generate(["a cat on a blue background", "a cat on a yellow background"], seed=0)
    corner = lambda image: image[:4, :4].reshape(-1, 3).mean(0)
    assert np.abs(corner(blue) - BACKGROUNDS["blue"]).max() < 25
    assert np.abs(corner(yellow) - BACKGROUNDS["yellow"]).max() < 25


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_both_shipped_tokenizers_rebuild_every_split(tiny, split):
    drawn = [scenes.example(split, i)[0] for i in range(6)]  # one of each task, or of those that the split has
    for stage, size, grid in (("base", 64, (8, 8)), ("superres", 128, (32, 32))):
        images = scenes.render_batch(drawn, size)
        tokens = tiny.tokenize(images, stage)
        assert tokens.shape == (6, *grid)
        errors = np.asarray(tiny.detokenize(tokens, stage)).astype(float) - images
        assert 10 * np.log10(255**2 / (errors**2).mean()) > 28  # PSNR in dB


def test_pixels_are_the_same_in_any_batch(micro):
    tokens = np.random.default_rng(0).integers(0, 64, (5, 8, 8))
    together = np.asarray(micro.detokenize(tokens))
    for i in range(5):
        np.testing.assert_array_equal(micro.detokenize(tokens[i : i + 1])[0], together[i])
