"""Whatever comes in, there is a result of the promised form or a sentence: inputs are drawn by hypothesis."""

import dataclasses
import json
import string

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from minimuse import cli, config, decoding, editing, masking, muse
from minimuse.data import captioned
from minimuse.data.cache import batch_indices
from minimuse.evaluate import baselines, commands, edits, fidelity, scorer
from minimuse.presets import PRESETS
from minimuse.train import stages
from minimuse.weights import STAGES, read_config

# The same inputs at every run; no time limit, since the first example of a shape compiles.
settings.register_profile(
    "stable",
    deadline=None,
    derandomize=True,
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("stable")


def refused(call, *errors):
    """What call() gives and None, or None and the sentence it refuses with."""
    try:
        return call(), None
    except errors or (ValueError, TypeError) as error:  # noqa: B030
        assert str(error).count(" ") >= 3, error
        return None, str(error)


def is_text(caption):
    return not any("\ud800" <= letter <= "\udfff" for letter in caption)


letters = st.characters(exclude_categories=())  # control characters and lone surrogates, too
captions = st.text(letters, max_size=20) | st.builds(
    lambda text, n: text * n, st.text(letters, min_size=1), st.just(999)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
odd = json_values | st.sampled_from([b"a", 1j, object, np.arange(2), np.float32(2), 10**400])  # what is no number


# --- captions ---------------------------------------------------------------------------------------------------------


@given(captions)
@example("")
@example("\ud83d")
@example("🐱" * 9999)
def test_every_text_is_encoded_and_what_is_no_text_is_refused(micro, caption):
    result, told = refused(lambda: micro.text.encode([caption]))
    assert (told is None) == is_text(caption)
    if told is None:
        vectors, mask = result
        assert vectors.shape == (1, 32, micro.text.width) and np.isfinite(vectors).all()
        assert 1 <= (n := mask.sum()) and mask[0, :n].all() and not vectors[0, n:].any()
        assert micro.text.tokenize([caption])[0][0, n - 1] == 1  # </s>


@given(captions, captions)
def test_every_text_is_drawn(micro, caption, negative):
    draw = lambda: micro.generate(caption, steps=1, guidance=1.0, negative=negative)
    images, told = refused(draw, ValueError)
    assert (told is None) == (is_text(caption) and is_text(negative))
    assert told or (images.shape == (1, 64, 64, 3) and images.dtype == np.uint8)


@given(odd.filter(lambda value: not isinstance(value, str)))
def test_captions_of_another_form_are_refused(micro, value):
    valid = isinstance(value, list) and value and all(isinstance(each, str) and is_text(each) for each in value)
    prompts, told = refused(lambda: micro.prompts(value, 1, 0, None))
    assert bool(valid) == (told is None)


# --- sampling ---------------------------------------------------------------------------------------------------------

whole_numbers = st.integers(-2, 70) | st.integers() | st.builds(np.int64, st.integers(0, 70))
numbers = st.floats(0, 50) | st.floats() | st.integers(0, 9)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict(
            steps=whole_numbers | odd,
            guidance=numbers | odd,
            temperature=numbers | odd,
            token_temperature=numbers | odd,
            top_k=whole_numbers | odd,
            law=st.sampled_from([*masking.LAWS]) | odd,
            order=st.sampled_from(decoding.ORDERS) | odd,
        ),
    )
)
def test_settings_are_taken_as_they_are_or_refused(micro, options):
    plan, told = refused(lambda: micro.plan(**options), ValueError)
    given_ = {name: value for name, value in options.items() if value is not None}
    if told is None:
        numbers, static = plan.stages["base"]
        for name, value in given_.items():
            value = value[0] if isinstance(value, list) else value  # a pair
            if value is not None:
                assert (numbers | static)[name] == value
        assert 1 <= static["steps"] <= 64 and 0 <= static["top_k"] <= 64
        assert all(np.isfinite(np.float32(number)) and number >= 0 for number in numbers.values())
        assert static["law"] in masking.LAWS and static["order"] in decoding.ORDERS
    else:
        assert given_


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
@example(1e6, 1e6, 1e-6, 0)
def test_whatever_the_numbers_every_place_is_drawn(micro, guidance, temperature, token_temperature, seed):
    options = dict(guidance=guidance, temperature=temperature, token_temperature=token_temperature)
    result = micro.generate("a cat", seed=seed, steps=2, trace=True, **options)
    assert ((result.tokens >= 0) & (result.tokens < 64)).all() and not result.trace.hidden[-1].any()
    assert len(np.unique(result.tokens)) > 1  # logits that are not numbers would all give the same


@given(odd | st.integers(), odd | st.integers())
def test_seeds_and_numbers_of_pictures(micro, n, seed):
    result, told = refused(
        lambda: micro.prompts("a cat", min(n, 70_000) if type(n) is int else n, seed, None), ValueError
    )
    whole = lambda value, low, high: decoding.is_whole(value) and low <= value <= high
    assert (told is None) == (whole(n, 1, 2**16) and whole(seed, 0, 2**32 - 1))
    assert told or len(result[2]) == n


# --- pictures and masks -----------------------------------------------------------------------------------------------

WAYS = dict(
    inpaint=lambda micro, image: micro.inpaint(image, np.zeros(np.shape(image)[:2], bool), "a cat", steps=1),
    outpaint=lambda micro, image: micro.outpaint(image, "a cat", steps=1),
    edit=lambda micro, image: micro.edit(image, "a cat", iterations=0),
    vary=lambda micro, image: micro.vary(image, "a cat", steps=1, strength=0.0),
)
sides = st.integers(0, 90) | st.sampled_from([64, 128])


@given(st.sampled_from([*WAYS]), sides, sides | st.none(), st.sampled_from([(), (1,), (2,), (3,), (4,), (5,), (3, 1)]),
       st.sampled_from([np.uint8] * 5 + [bool, np.int64, np.float32, object, "U1", complex]))  # fmt: skip
def test_pictures_of_any_size_and_type(micro, way, height, width, channels, dtype):
    width = height if width is None else width
    image = np.zeros((height, width, *channels), dtype)
    valid = dtype is np.uint8 and channels in ((), (3,), (4,)) and height > 0 and width > 0
    if height != width:
        valid = valid and way in ("inpaint", "outpaint") and min(height, width) >= 64
        valid = valid and height % 8 == width % 8 == 0
    images, told = refused(lambda: WAYS[way](micro, image), ValueError)
    assert (told is None) == valid
    assert told or images.shape == (1, *((64, 64) if height == width else (height, width)), 3)


MODES = [
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "RGBX",
    "RGBa",
    "La",
    "I;16",
]


@given(st.sampled_from([way for way in WAYS if way != "inpaint"]), st.sampled_from(MODES), st.integers(0, 90), odd)
def test_pictures_of_any_mode(micro, way, mode, side, transparency):
    image = Image.new(mode, (side, side))
    if isinstance(transparency, (int, bytes)):
        image.info["transparency"] = transparency if isinstance(transparency, bytes) else transparency % 256
    images, told = refused(lambda: WAYS[way](micro, image), ValueError)
    assert (told is None) == (side > 0 and mode not in ("I", "F", "RGBa", "La")) or mode == "LAB"  # as Pillow can
    assert told or images.shape == (1, 64, 64, 3)


@given(st.sampled_from([(64, 64)] * 6 + [(64, 63), (64,), (), (64, 64, 1), (1, 64, 64), (0, 0)]),
       st.sampled_from([bool, np.uint8, np.int64, np.float16, np.float64, complex, object, "U1", "datetime64[s]"]),
       st.sampled_from([0, 1, 0.5, 128, 255, 256, -1, np.nan, np.inf]), st.integers(0, 63))  # fmt: skip
def test_masks_of_any_size_and_type(micro, shape, dtype, value, row):
    picture = np.full((64, 64, 3), 7, np.uint8)
    mask = np.zeros(shape, dtype)
    try:
        if mask.ndim == 2 and row < len(mask):
            mask[row] = value
    except (ValueError, OverflowError):  # a type that does not hold this value
        return
    kind = mask.dtype.kind
    valid = shape == (64, 64) and kind in "biuf"
    if valid and kind != "b":
        valid = bool(0 <= mask.max() <= (1 if kind == "f" else 255)) and mask.min() >= 0
    images, told = refused(lambda: micro.inpaint(picture, mask, "a cat", steps=1), ValueError)
    assert (told is None) == valid
    if valid:
        changed = (images[0] != 7).any((1, 2))
        assert images.shape == (1, 64, 64, 3) and set(np.flatnonzero(changed)) <= {row}


amounts = st.sampled_from([0, 8, 3, -8, 2**20, 10**30, None, True, "8", 8.0, np.int32(8)])


@given(amounts, amounts)
def test_borders_of_any_width(micro, right, left):
    picture = np.zeros((64, 64, 3), np.uint8)
    images, told = refused(lambda: micro.outpaint(picture, "a cat", right=right, left=left, steps=1), ValueError)
    valid = all(decoding.is_whole(amount) and amount in (0, 8) for amount in (left, right))
    assert (told is None) == valid
    assert told or images.shape == (1, 64, 64 + int(left) + int(right), 3)


@given(odd | st.floats(0, 1), odd | st.floats(0, 1), odd | st.integers(0, 1))
def test_settings_of_editing(micro, strength, fraction, iterations):
    picture = np.zeros((64, 64, 3), np.uint8)
    images, told = refused(lambda: micro.vary(picture, "a cat", steps=1, strength=strength), ValueError)
    real = lambda value: isinstance(value, (bool, int, float, np.float32))
    assert (told is None) == (real(strength) and 0 <= strength <= 1)
    edit = lambda: editing.checked_edit(micro, editing.EDIT | dict(fraction=fraction, iterations=iterations))
    valid = real(fraction) and 0 < fraction <= 1 and decoding.is_whole(iterations) and 0 <= iterations <= 10_000
    assert (refused(edit, ValueError)[1] is None) == valid


# --- laws and orders --------------------------------------------------------------------------------------------------


@given(st.sampled_from([*masking.LAWS]), st.integers(1, 5000), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_a_law_falls_and_stays_between_none_and_all(law, tokens, progress):
    r = np.asarray(masking.mask_rate(np.sort(progress), law, tokens))
    assert 0 <= r[1] <= r[0] + 1e-6 and r[0] <= 1
    assert 0 < masking.mean_rate(law, tokens) < 1
    assert (np.asarray(masking.density(np.array([0.01, 0.5, 0.99]), law, tokens)) >= 0).all()


@given(st.sampled_from([*masking.LAWS]) | st.floats(0.01, 1), st.integers(1, 6), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=15)  # each shape compiles anew
def test_a_training_mask_hides_something_in_every_row(law, batch, tokens, seed):
    hidden = np.asarray(masking.random_mask(jax.random.key(seed), batch, tokens, law)).sum(-1)
    assert hidden.shape == (batch,) and (hidden >= 1).all() and (hidden <= tokens).all()
    if not isinstance(law, str):
        assert (np.abs(hidden - max(1, law * tokens)) <= 0.5 + 1e-4).all()


@given(st.sampled_from([*masking.LAWS]), st.integers(-3, 70), st.integers(0, 70))
def test_a_schedule_reveals_something_at_every_step_and_leaves_none(law, steps, tokens):
    left, told = refused(lambda: masking.decode_schedule(steps, tokens, law), ValueError)
    assert (told is None) == (1 <= steps <= tokens)
    assert told or (len(left) == steps and left[-1] == 0 and (np.diff([tokens, *left]) < 0).all())


@given(st.integers(1, 24), st.integers(1, 24))
def test_halton_reveals_every_place_once(h, w):
    assert sorted(decoding.halton_ranks(h, w)) == list(range(h * w))


@given(st.integers(0, 200), st.integers(1, 30), st.integers(1, 60), st.integers(0, 5))
def test_an_epoch_sees_every_example_at_most_once(step, batch, size, seed):
    indices, told = refused(lambda: batch_indices(step, batch, size, seed), ValueError)
    assert (told is None) == (batch <= size)
    if told is None:
        first = step - step % (size // batch)
        epoch = np.concatenate([batch_indices(first + i, batch, size, seed) for i in range(size // batch)])
        assert len(indices) == batch and len(set(epoch)) == len(epoch) and set(epoch) <= set(range(size))


# --- configurations ---------------------------------------------------------------------------------------------------

CONFIGS = [*dict.fromkeys(cls for cls, _ in STAGES.values()), config.TrainConfig, config.AdversarialConfig,
           config.SampleConfig, config.T5Config, config.DiffusionConfig, scorer.ScorerConfig]  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_presets_configs_come_back_from_json(preset):
    for value in (preset.tokenizer, preset.superres_tokenizer, preset.base, preset.superres, preset.sampling,
                  *preset.train.values()):  # fmt: skip
        assert config.from_dict(type(value), json.loads(json.dumps(dataclasses.asdict(value)))) == value


@given(st.sampled_from(CONFIGS), st.data())
def test_a_dictionary_is_a_config_that_comes_back_or_is_refused(cls, data):
    names = st.sampled_from([field.name for field in dataclasses.fields(cls)])
    values = captioned.draw(st.dictionaries(names, st.integers(0, 9) | json_values, max_size=3) | json_values)
    made, told = refused(lambda: config.from_dict(cls, values), ValueError)
    if told is None:
        hash(made)  # it is a static argument of compiled programs
        again = config.from_dict(cls, json.loads(json.dumps(dataclasses.asdict(made))))
        assert repr(again) == repr(made)  # nan is not itself
    else:
        assert cls.__name__ in told


@given(st.sampled_from(["format", "text", "tokenizer", "base", "sampling", "base.heads", "base.width", "base.grid",
                        "tokenizer.factor", "tokenizer.channels", "sampling.steps", ""]),
       json_values | st.integers(-2, 2) | st.lists(st.integers(-2, 2), max_size=3))  # fmt: skip
@settings(max_examples=60)
def test_a_damaged_config_json_is_explained(micro_folder, tmp_path_factory, name, value):
    folder = tmp_path_factory.mktemp("copy")
    for path in micro_folder.glob("*.safetensors"):
        (folder / path.name).symlink_to(path)
    values = read_config(micro_folder)
    *inside, last = name.split(".")
    place = values[inside[0]] if inside else values
    place[last] = value
    (folder / "config.json").write_text(json.dumps(values if name else value))
    made, told = refused(lambda: muse.Muse.from_pretrained(folder), ValueError, FileNotFoundError)
    if told is None:
        assert made.generate("a cat", steps=1).dtype == np.uint8  # what is taken is not found out later
    if not name or (isinstance(value, str) and name != "text"):
        assert told is not None


# --- command lines ----------------------------------------------------------------------------------------------------

WORDS = [
    *("generate", "edit", "train", "evaluate", "grade", "paint", "--help", "--n", "--seed", "--steps", "--guidance"),
    *("--temperature", "--top-k", "--law", "--order", "--ramp", "--no-ramp", "--scale", "--mask", "--left", "--right"),
    *("--iterations", "--preset", "--stage", "--split", "--json", "--csv", "--hidden", "--superres", "--no-superres"),
    *("--negative", "--superres-steps", "--batch", "--finetuned", "--no-finetuned", "--checkpoint", "--", "-n"),
    *("--base.depth", "--base.heads", "--tokenizer.factor", "--train.base.steps", "--run.mesh", "--help-all"),
]
VALUES = [
    *("1", "2", "0", "-1", "8", "65537", "1.5", "nan", "inf", "x", "", " ", "None", "True", "a cat", "é", "\udcff"),
    *("\0", "cosine", "halton", "micro", "huge", "base", "tokenizer", "scorer", "generation", "all", "picture.png"),
    *("mask.png", "no.png", "broken.png", "out.png", ".", "/", "9" * 30, "a" * 300),
]


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A folder with pictures to work in, and nothing that takes long: no drawing, training or measuring."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("picture.png")
    Image.new("L", (64, 64)).save("mask.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "picture.png").read_bytes()[:60])
    drawn = lambda model, sampling, prompts, *args, **_: (np.zeros((len(prompts.keys), 64), int), None)
    monkeypatch.setattr(muse, "sample_tokens", drawn)
    monkeypatch.setattr(editing, "sample_tokens", drawn)
    monkeypatch.setattr(editing, "edit_tokens", lambda muse, tokens, prompts, *args, **_: (tokens, None))
    monkeypatch.setattr(stages, "TRAIN", {name: lambda preset, out: None for name in stages.TRAIN})
    for module, name in (
        *((fidelity, f"evaluate_{what}") for what in ("scorer", "tokenizer", "generation")),
        *((edits, f"evaluate_{what}") for what in ("inpainting", "mask_free", "outpainting")),
    ):
        monkeypatch.setattr(module, name, lambda *args, **options: dict(settings={}))
    monkeypatch.setattr(commands.subprocess, "call", lambda command: 0)
    monkeypatch.setattr(scorer, "shipped_scorer", lambda: None)
    monkeypatch.setattr(baselines.Twin, "from_pretrained", lambda name, preset: None)
    return tmp_path


@given(
    st.sampled_from(["generate", "edit", "train", "evaluate", "grade"]),
    st.lists(st.sampled_from(VALUES), max_size=2),
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(VALUES)), max_size=3),
    st.lists(st.sampled_from(WORDS + VALUES) | st.text(string.printable, max_size=4), max_size=2),
)
@settings(max_examples=150)
def test_a_command_line_works_or_is_refused_with_a_sentence(
    quick, micro_folder, capsys, command, given_, options, rest
):
    where = dict(generate="--checkpoint", edit="--checkpoint", evaluate="--preset").get(command)
    line = [command, *given_, *(word for pair in options for word in pair), *rest]
    line += [where, str(micro_folder)] if where else []
    capsys.readouterr()
    code = 0
    try:
        cli.main(line)
    except SystemExit as stop:
        code = stop.code or 0
    error = capsys.readouterr().err
    assert code in (0, 2) and (code == 0 or error.strip()) and "Traceback" not in error
    assert not list(quick.glob("*.partial.*"))


@given(st.binary(max_size=4), st.integers(0, 10_000), st.booleans())
def test_a_picture_of_any_bytes_is_read_or_refused(quick, micro_folder, capsys, piece, place, cut):
    """A PNG with some bytes overwritten, or cut there."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8))
    picture.save("bytes.png")
    whole = (quick / "bytes.png").read_bytes()
    place %= len(whole)
    (quick / "bytes.png").write_bytes(whole[:place] + piece + (b"" if cut else whole[place + len(piece) :]))
    try:
        cli.main(["edit", "bytes.png", "a cat", "--checkpoint", str(micro_folder), "--out", "out.png"])
    except SystemExit as stop:
        error = capsys.readouterr().err
        assert stop.code == 2 and error.startswith("minimuse: ") and error.count("\n") == 1
