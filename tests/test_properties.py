"""Whatever comes in, there is a result of the promised form or a sentence: inputs are drawn by hypothesis."""

import dataclasses
import json

import jax
import numpy as np
from conftest import STEPS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from minimuse import config, decoding, masking, muse
from minimuse.data.cache import batch_indices
from minimuse.evaluate import scorer
from minimuse.mask_free import Resampling, check_resampling
from minimuse.weights import read_config

FAST = dict(steps=STEPS, trace=True)  # programs that other tests use, too


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
odd = json_values | st.sampled_from([b"a", 1j, object, np.arange(2), np.float32(2), 10**400])  # what is not a number


# --- captions ---------------------------------------------------------------------------------------------------------


@given(captions)
@example("")
@example("\ud83d")
@example("🐱" * 9999)
def test_every_text_is_encoded_and_what_is_not_text_is_refused(micro, caption):
    result, message = refused(lambda: micro.text.encode([caption]))
    assert (message is None) == is_text(caption)
    if message is None:
        vectors, mask = result
        assert vectors.shape == (1, 32, micro.text.width) and np.isfinite(vectors).all()
        assert 1 <= (n := mask.sum()) and mask[0, :n].all() and not vectors[0, n:].any()
        assert micro.text.tokenize([caption])[0][0, n - 1] == 1  # </s>


@given(captions, captions)
def test_every_text_is_drawn(micro, caption, negative):
    draw = lambda: micro.generate(caption, guidance=1.0, negative=negative, **FAST).images
    images, message = refused(draw, ValueError)
    assert (message is None) == (is_text(caption) and is_text(negative))
    assert message or (images.shape == (1, 64, 64, 3) and images.dtype == np.uint8)


@given(odd.filter(lambda value: not isinstance(value, str)))
def test_captions_of_another_form_are_refused(micro, value):
    valid = isinstance(value, list) and value and all(isinstance(each, str) and is_text(each) for each in value)
    prompts, message = refused(lambda: micro.prompts(value, 1, 0, None))
    assert bool(valid) == (message is None)


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
            guided_from=st.floats(0, 1) | numbers | odd,
            guided_to=st.floats(0, 1) | numbers | odd,
            revise=whole_numbers | odd,
            critic=st.booleans(),
        ),
    )
)
def test_settings_are_taken_as_they_are_or_refused(micro, options):
    plan, message = refused(lambda: micro.plan(options=options), ValueError)
    given_ = {name: value for name, value in options.items() if value is not None}
    if message is None:
        record = plan.stages["base"]
        for name, value in given_.items():
            value = value[0] if isinstance(value, list) else value  # a pair
            if value is not None:
                assert getattr(record, name) == value
        assert 1 <= record.steps <= 64 and 0 <= record.top_k <= 64 and record.guided == (record.guidance > 0)
        numbers = record.guidance, record.temperature, record.token_temperature
        assert all(np.isfinite(np.float32(number)) and number >= 0 for number in numbers)
        assert record.law in masking.LAWS and record.order in decoding.ORDERS
        assert 0 <= record.guided_from < record.guided_to <= 1 and 0 <= record.revise < record.steps
        assert len(decoding.guided_steps(record)) >= 1 and set(decoding.guided_steps(record)) <= {*range(record.steps)}
    else:
        assert given_


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
@example(1e6, 1e6, 1e-6, 0)
def test_whatever_the_numbers_every_position_is_sampled(micro, guidance, temperature, token_temperature, seed):
    options = dict(guidance=guidance, temperature=temperature, token_temperature=token_temperature)
    result = micro.generate("a cat", seed=seed, **FAST, **options)
    assert ((result.tokens >= 0) & (result.tokens < 64)).all() and not result.trace.hidden[-1].any()
    assert len(np.unique(result.tokens)) > 1  # logits that are not numbers would all give the same


@given(odd | st.integers(), odd | st.integers())
def test_seeds_and_numbers_of_pictures(micro, n, seed):
    result, message = refused(
        lambda: micro.prompts("a cat", min(n, 70_000) if type(n) is int else n, seed, None), ValueError
    )
    whole = lambda value, low, high: decoding.is_whole(value) and low <= value <= high
    assert (message is None) == (whole(n, 1, 2**16) and whole(seed, 0, 2**32 - 1))
    assert message or len(result.keys) == n


# --- pictures and masks -----------------------------------------------------------------------------------------------

WAYS = dict(
    inpaint=lambda micro, image: micro.inpaint(image, np.zeros(np.shape(image)[:2], bool), "a cat", steps=STEPS),
    outpaint=lambda micro, image: micro.outpaint(image, "a cat", steps=STEPS),
    edit=lambda micro, image: micro.edit(image, "a cat", iterations=0, trace=True).images,
    vary=lambda micro, image: micro.vary(image, "a cat", steps=STEPS, strength=0.0),
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
    images, message = refused(lambda: WAYS[way](micro, image), ValueError)
    assert (message is None) == valid
    assert message or images.shape == (1, *((64, 64) if height == width else (height, width)), 3)


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
    images, message = refused(lambda: WAYS[way](micro, image), ValueError)
    assert (message is None) == (side > 0)
    assert message or images.shape == (1, 64, 64, 3)


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
    images, message = refused(lambda: micro.inpaint(picture, mask, "a cat", steps=STEPS), ValueError)
    assert (message is None) == valid
    if valid:
        changed = (images[0] != 7).any((1, 2))
        assert images.shape == (1, 64, 64, 3) and set(np.flatnonzero(changed)) <= {row}


amounts = st.sampled_from([0, 8, 3, -8, 2**20, 10**30, None, True, "8", 8.0, np.int32(8)])


@given(amounts, amounts)
def test_borders_of_any_width(micro, right, left):
    picture = np.zeros((64, 64, 3), np.uint8)
    images, message = refused(lambda: micro.outpaint(picture, "a cat", right=right, left=left, steps=STEPS), ValueError)
    valid = all(decoding.is_whole(amount) and amount in (0, 8) for amount in (left, right))
    assert (message is None) == valid
    assert message or images.shape == (1, 64, 64 + int(left) + int(right), 3)


@given(odd | st.floats(0, 1), odd | st.floats(0, 1), odd | st.integers(0, 1))
def test_settings_of_editing(micro, strength, fraction, iterations):
    picture = np.zeros((64, 64, 3), np.uint8)
    images, message = refused(lambda: micro.vary(picture, "a cat", steps=STEPS, strength=strength), ValueError)
    real = lambda value: isinstance(value, (bool, int, float, np.float32))
    assert (message is None) == (real(strength) and 0 <= strength <= 1)
    edit = lambda: check_resampling(Resampling(fraction=fraction, iterations=iterations), 64)
    valid = real(fraction) and 0 < fraction <= 1 and decoding.is_whole(iterations) and 0 <= iterations <= 10_000
    assert (refused(edit, ValueError)[1] is None) == valid


# --- laws and orders --------------------------------------------------------------------------------------------------


@given(st.sampled_from([*masking.LAWS]), st.integers(1, 5000), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_a_law_falls_and_stays_between_none_and_all(law, tokens, progress):
    r = np.asarray(masking.mask_rate(np.sort(progress), law, tokens))
    assert 0 <= r[1] <= r[0] + 1e-6 and r[0] <= 1
    assert 0 < masking.mean_rate(law, tokens) < 1
    assert (np.asarray(masking.density(np.array([0.01, 0.5, 0.99]), law, tokens)) >= 0).all()


@given(
    st.sampled_from([*masking.LAWS]) | st.floats(0.01, 1),
    st.sampled_from([(1, 1), (3, 7), (2, 40)]),  # few, as each shape compiles again
    st.integers(0, 99),
)
def test_a_training_mask_hides_something_in_every_row(law, shape, seed):
    batch, tokens = shape
    hidden = np.asarray(masking.random_mask(jax.random.key(seed), batch, tokens, law)).sum(-1)
    assert hidden.shape == (batch,) and (hidden >= 1).all() and (hidden <= tokens).all()
    if not isinstance(law, str):
        assert (np.abs(hidden - max(1, law * tokens)) <= 0.5 + 1e-4).all()


@given(st.sampled_from([*masking.LAWS]), st.integers(-3, 70), st.integers(0, 70))
def test_a_schedule_reveals_something_at_every_step_and_leaves_none(law, steps, tokens):
    left, message = refused(lambda: masking.decode_schedule(steps, tokens, law), ValueError)
    assert (message is None) == (1 <= steps <= tokens)
    assert message or (len(left) == steps and left[-1] == 0 and (np.diff([tokens, *left]) < 0).all())


@given(st.integers(1, 24), st.integers(1, 24))
def test_halton_reveals_every_position_once(h, w):
    assert sorted(decoding.halton_ranks(h, w)) == list(range(h * w))


@given(st.integers(0, 200), st.integers(1, 30), st.integers(1, 60), st.integers(0, 5))
def test_an_epoch_sees_every_example_at_most_once(step, batch, size, seed):
    indices, message = refused(lambda: batch_indices(step, batch, size, seed), ValueError)
    assert (message is None) == (batch <= size)
    if message is None:
        first = step - step % (size // batch)
        epoch = np.concatenate([batch_indices(first + i, batch, size, seed) for i in range(size // batch)])
        assert len(indices) == batch and len(set(epoch)) == len(epoch) and set(epoch) <= set(range(size))


# --- configurations ---------------------------------------------------------------------------------------------------

CONFIGS = [*dict.fromkeys(cls for cls, _ in muse.STAGES.values()), config.TrainConfig, config.AdversarialConfig,
           config.Sampling, config.T5Config, config.DiffusionConfig, config.RunConfig, scorer.ScorerConfig]  # fmt: skip


@given(st.sampled_from(CONFIGS), st.data())
def test_a_dictionary_is_a_config_that_comes_back_or_is_refused(cls, data):
    names = st.sampled_from([field.name for field in dataclasses.fields(cls)])
    values = data.draw(st.dictionaries(names, st.integers(0, 9) | json_values, max_size=3) | json_values)
    made, message = refused(lambda: config.from_dict(cls, values), ValueError)
    if message is None:
        hash(made)  # it is a static argument of compiled programs
        again = config.from_dict(cls, json.loads(json.dumps(dataclasses.asdict(made))))
        assert repr(again) == repr(made)  # nan is not itself
    else:
        assert cls.__name__ in message


@given(st.sampled_from(["format", "text", "tokenizer", "base", "sampling", "base.heads", "base.width", "base.grid",
                        "tokenizer.factor", "tokenizer.channels", "sampling.base", "sampling.base.steps", ""]),
       json_values | st.integers(-2, 2) | st.lists(st.integers(-2, 2), max_size=3))  # fmt: skip
@settings(max_examples=60)
def test_a_damaged_config_json_is_explained(micro_folder, tmp_path_factory, name, value):
    folder = tmp_path_factory.mktemp("copy")
    for path in micro_folder.glob("*.safetensors"):
        (folder / path.name).symlink_to(path)
    values = read_config(micro_folder)
    *inside, last = name.split(".")
    target = values
    for part in inside:
        target = target[part]
    target[last] = value
    (folder / "config.json").write_text(json.dumps(values if name else value))
    made, message = refused(lambda: muse.Muse.from_pretrained(folder), ValueError, FileNotFoundError)
    if message is None:
        assert made.generate("a cat", **FAST).images.dtype == np.uint8  # what is taken is not found out later
    if not name or (isinstance(value, str) and name != "text"):
        assert message is not None
