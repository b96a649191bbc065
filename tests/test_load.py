"""Ten thousand bad inputs to the Python interface, and five hundred command lines: each gives a right result or one
sentence, a ValueError or an OSError.

CI tries a share of them, $MINIMUSE_LOAD (0.05 if it is not set); `make load` tries all.
"""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import STEPS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_cli_properties import check_line, lines, quick  # noqa: F401  a fixture

import minimuse
from minimuse import canvas, config, decoding, files, masking, muse, weights
from minimuse.data import cache, captioned, pixels, scenes
from minimuse.evaluate import scorer
from minimuse.studio import recipes, rows, sheets

SHARE = float(os.environ.get("MINIMUSE_LOAD", "0.05"))
INPUTS, LINES, BYTES = (max(1, round(SHARE * most)) for most in (8_000, 500, 2_000))
pytestmark = pytest.mark.slow


class Hostile:
    """Raises whatever it is asked."""

    def _raise(self, *args):
        raise RuntimeError("hostile")

    __repr__ = __float__ = __int__ = __index__ = __iter__ = __array__ = __fspath__ = _raise


# --- what is given ----------------------------------------------------------------------------------------------------

arrays = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    st.lists(st.sampled_from([0, 1, 2, 3, 8, 63, 64]), max_size=4).filter(lambda shape: np.prod(shape) < 50_000),
    st.sampled_from(["u1", "i4", "i8", "u8", "f2", "f4", "f8", "?", "O", "U1", "S3"]),
    st.sampled_from([0, 1, 2, 63, 64, 200]),
)
pictures = st.builds(
    lambda mode, width, height: Image.new(mode, (width, height)),
    st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK", "I", "F", "LA", "I;16"]),
    st.integers(0, 70),
    st.integers(0, 70),
)
plain = st.one_of(
    st.sampled_from(
        [None, True, False, "", " ", "a", "tiny", ".", "/", "..", "~", "\0", "a\nb", "\udcff", "a/b", b"a"]
    ),
    st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**32, 2**64, 10**400, 0.5, 1e300, 1e-300, -0.0, 1j]),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.int8(-1), np.bool_(True)]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)
huge = st.builds(lambda: 10**5000)  # which Python does not write out
odd = st.one_of(
    huge,
    st.builds(Hostile),
    plain,
    arrays,
    pictures,
    st.lists(plain, max_size=3),
    st.tuples(plain, plain),
    st.dictionaries(st.text(max_size=3), plain, max_size=2),
    st.sampled_from(
        [Hostile(), object(), object, len, ..., {1}, range(3), Path("nowhere"), Path("a" * 300), [[1], [1, 2]]]
    ),
)
ZEROS = np.zeros((64, 64, 3), np.uint8)
HALF = np.arange(64 * 64).reshape(64, 64) % 64 < 32
# What a program is compiled for: what is valid here has been compiled, so that a test does not compile for hours.
STATIC = dict(
    steps=lambda value: not decoding.is_whole(value) or not 0 < value <= 64,
    top_k=lambda value: not decoding.is_whole(value) or not 0 < value <= 64,
    revise=lambda value: not decoding.is_whole(value) or value != 1,
    guided_from=lambda value: not isinstance(value, (int, float)) or not 0 < value < 1,
    guided_to=lambda value: not isinstance(value, (int, float)) or not 0 < value < 1,
    n=lambda value: not decoding.is_whole(value) or not 2 < value <= 2**16,
    edge=lambda value: not decoding.is_whole(value) or value < 100,
    iterations=lambda value: not decoding.is_whole(value) or not 2 < value <= 10_000,
    source=lambda value: (
        not isinstance(value, str) or value not in ("/", ".", "..", "~")
    ),  # reading a whole disk takes long
    masks=lambda value: not decoding.is_whole(value) or not 2 < value <= 10_000,
)
SAMPLING = dict.fromkeys(config.SampleOptions.__annotations__)
DRAWING = dict(n=1, seed=0, negative=None, superres=None, finetuned=None)


def calls(micro, folder):
    """Functions, and good arguments; each is tried with up to three of them replaced by something odd."""
    caption, pictures_, tokens = dict(caption="a cat"), dict(image=ZEROS), np.zeros((1, 8, 8), int)
    some = SAMPLING | dict(steps=STEPS[0])
    return dict(
        generate=(micro.generate, dict(captions="a cat") | DRAWING | some),
        inpaint=(micro.inpaint, pictures_ | dict(mask=HALF, edge=2, canvas=False) | caption | DRAWING | some),
        outpaint=(micro.outpaint, pictures_ | dict(left=0, right=0, top=0, bottom=0) | caption | DRAWING | some),
        vary=(micro.vary, pictures_ | dict(strength=0.5) | caption | DRAWING | some),
        interpolate=(micro.interpolate, dict(first="a cat", second="a dog", n=2, seed=0, steps=STEPS[0])),
        resample=(micro.edit, pictures_ | dict(way="resample", iterations=2, fraction=0.1) | caption | DRAWING),
        tokenize=(micro.tokenize, dict(images=ZEROS[None], stage="base")),
        detokenize=(micro.detokenize, dict(tokens=tokens, stage="base", finetuned=False)),
        prompts=(micro.prompts, dict(captions="a cat", n=1, seed=0, negative=None)),
        plan=(lambda **options: micro.plan(options=options), dict(SAMPLING)),
        encode=(micro.text.encode, dict(captions=["a cat"])),
        directions=(micro.text.directions, dict(captions=["a cat"])),
        with_style=(micro.with_style, dict(style=str(folder), strength=1.0)),
        from_pretrained=(
            minimuse.Muse.from_pretrained,
            dict(name=str(folder), superres=False, revision=None, dtype="float32", style=None),
        ),
        text_encoder=(minimuse.TextEncoder.from_pretrained, dict(name=str(folder / "nothing"))),
        scorer=(scorer.Scorer.from_pretrained, dict(name=str(folder))),
        find_checkpoint=(weights.find_checkpoint, dict(name=str(folder), revision=None)),
        get_preset=(minimuse.get_preset, dict(name="tiny")),
        to_mask=(lambda mask: canvas.to_mask(mask, (64, 64)), dict(mask=HALF)),
        to_pixels=(canvas.to_pixels, dict(image=ZEROS)),
        to_square=(square, dict(image=ZEROS, crop="pad")),
        schedule=(schedule, dict(steps=3, law="cosine")),
        example=(lambda split: scenes.example(split, 3), dict(split="val")),
        load_captioned=(captioned.load_captioned, dict(source=str(folder))),
        as_given=(files.as_given, dict(value=1)),
        names_of=(named, dict(pattern="{seed}.png", caption="a cat", seed=1)),
    ) | {f"{cls.__name__}()": (made(cls), fields) for cls, fields in CONFIGS.items()}


def square(image, crop):
    return pixels.to_square(Image.fromarray(canvas.to_pixels(image)), 8, crop)


def schedule(steps, law):
    known = decoding.one_of("law", law, tuple(masking.LAWS))
    return masking.decode_schedule(decoding.whole_number("steps", steps, 1, 64), 64, known)


def named(pattern, caption, seed):
    if not isinstance(pattern, str) or not isinstance(caption, str) or not decoding.is_whole(seed):
        raise ValueError("The command line takes a pattern and a caption as text, and a whole number.")
    return sheets.names_of(pattern, rows.pictures_of(rows.rows_of([caption], seed=seed)))


def made(cls):
    return lambda **values: config.from_dict(cls, values)


CLASSES = (config.TransformerConfig, config.SuperresConfig, config.VQGANConfig, config.Sampling, config.RunConfig)
CONFIGS = {cls: vars(cls()) for cls in CLASSES} | {config.T5Config: vars(config.T5Config(9, 8, 4, 8, 1, 2))}


def judge(call, what):
    """The result, if it has the promised form; or None, for one sentence. AssertionError for anything else."""
    try:
        result = call()
    except (ValueError, OSError) as error:
        words = str(error)
        assert words.count(" ") >= 3 and "\n" not in words and len(words) < 2500, (what, type(error), words)
        return None
    if isinstance(result, np.ndarray) and result.ndim == 4:
        assert result.dtype == np.uint8 and result.shape[-1] == 3, what
    return result


@given(st.data())
@settings(max_examples=INPUTS)
def test_the_python_interface_gives_a_result_or_a_sentence(micro, micro_folder, tmp_path_factory, monkeypatch, data):
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    known = calls(micro, micro_folder)
    name = data.draw(st.sampled_from([*known]), label="function")
    function, arguments = known[name]
    for changed in data.draw(st.lists(st.sampled_from([*arguments]), min_size=1, max_size=3, unique=True), label="odd"):
        if name.endswith("()"):  # what a file can hold
            value = data.draw(json_values, label=changed)
        else:
            value = data.draw(odd.filter(STATIC.get(changed, lambda value: True)), label=changed)
        arguments = arguments | {changed: value}
    judge(lambda: function(**arguments), (name, files.as_given(arguments)))


# --- files of any content ---------------------------------------------------------------------------------------------

json_values = st.recursive(plain.filter(lambda x: isinstance(x, (str, int, float, type(None)))),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
                           max_leaves=5)  # fmt: skip
header = st.dictionaries(
    st.sampled_from(["a", "norm.scale", "__metadata__"]),
    st.fixed_dictionaries(
        dict(
            dtype=st.sampled_from(["F16", "F32", "BF16", "I64", "BOOL", "F8_E4M3", "X"]),
            shape=st.lists(st.integers(-1, 9), max_size=2),
            data_offsets=st.lists(st.integers(-1, 40), min_size=2, max_size=2),
        )
    ),
    max_size=2,
)
contents = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode(errors="replace")),
    st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 100_000, b"version https://git-lfs.github.com/spec/v1\n", b"null", b"\xff"]
    ),
    header.map(lambda value: (text := json.dumps(value).encode()) and struct.pack("<Q", len(text)) + text + bytes(40)),
    st.binary(max_size=40).map(lambda data: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + data),
)


KINDS = ("json", "log", "picture", "weights", "cache", "config", "tokenizer", "text", "data", "csv", "jsonl", "recipe")


@given(st.sampled_from(KINDS), contents)
@settings(max_examples=BYTES)
def test_a_file_of_any_bytes_is_read_or_named(micro, tmp_path_factory, kind, content):
    folder = tmp_path_factory.mktemp("any")
    names = dict(config="config.json", tokenizer="tokenizer.json", text="config.json", data="metadata.jsonl")
    path = folder / names.get(kind, f"file.{kind}")
    path.write_bytes(content)
    if kind == "recipe":
        (info := PngInfo()).add_text(recipes.ENTRY, content.decode("latin-1").replace("\0", ""))
        Image.new("RGB", (8, 8)).save(path, "png", pnginfo=info)
    model = micro.models["base"]
    readers = dict(
        json=lambda: files.read_json(path),
        log=lambda: files.read_log(path),
        picture=lambda: pixels.read_picture(path),
        weights=lambda: weights.load_weights(path, model),
        cache=lambda: cache.TokenCache.load(path),
        config=lambda: muse.Muse.from_pretrained(folder),
        tokenizer=lambda: minimuse.TextEncoder.from_pretrained(folder),
        text=lambda: minimuse.TextEncoder.from_pretrained(folder),
        data=lambda: captioned.load_captioned(folder),
        csv=lambda: rows.read_rows(path),
        jsonl=lambda: rows.read_rows(path),
        recipe=lambda: recipes.read_recipe(path),
    )
    judge(readers[kind], (kind, content[:80]))


# --- command lines ----------------------------------------------------------------------------------------------------


@given(lines)
@settings(max_examples=LINES)
def test_command_lines_work_or_are_refused_with_a_sentence(quick, micro_folder, capsys, line):  # noqa: F811
    check_line(quick, micro_folder, capsys, line)
