"""Tests need no network and no accelerator, and share compiled programs.

Nearly all the time of the tests is compiling. So tests draw with these models, these batch sizes (1 and 2), and these
numbers of steps (STEPS), wherever the test is not about another one.
"""

import dataclasses
import io
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

import minimuse
from minimuse.config import SuperresConfig, TransformerConfig, sampling_to_dict
from minimuse.data import scenes
from minimuse.presets import get_preset

minimuse.enable_compilation_cache()
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

STEPS = (3, 2)  # decoding steps of the base and the super-resolution stage
BASE = TransformerConfig(codebook_size=12, grid=(2, 3), width=16, depth=2, heads=2, mlp_width=32, text_width=8)
SUPERRES = SuperresConfig(
    codebook_size=12,
    grid=(4, 8),
    width=16,
    depth=2,
    heads=4,
    mlp_width=32,
    text_width=8,
    window=2,
    low_codebook_size=7,
    low_grid=(2, 4),
    low_depth=2,
)
FRESH = TransformerConfig(codebook_size=64, grid=(2, 3), width=96, heads=2, mlp_width=192, text_width=8)


def random_weights(stage: str, config, seed: int = 0):
    """A stage's module with random weights, without compiling its initialisation."""
    from minimuse import muse

    return random_tree(muse.build(stage, config), seed)


def random_tree(like, seed: int = 0):
    """The same module or pytree with random weights; the same numbers for the same seed and names of weights."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        fan_in = int(np.prod(leaf.shape[-4:-1])) if len(leaf.shape) > 1 else 1  # a norm's scale has none
        noise = rng.normal(size=leaf.shape) / fan_in**0.5
        return jax.numpy.asarray(noise if len(leaf.shape) > 1 else 1 + 0.1 * noise, jax.numpy.float32)

    return jax.tree.map(draw, like)


def transformer_inputs(config: TransformerConfig = BASE, batch: int = 3, length: int = 5, seed: int = 0):
    """Random tokens int [B, N] (some are [MASK]), text [B, S, text_width] and text_mask of 2, 5 and 3 words; for a
    SuperresConfig also low-resolution tokens."""
    rng, n = np.random.default_rng(seed), int(np.prod(config.grid))
    tokens = rng.integers(0, config.codebook_size + 1, (batch, n)).astype(np.int32)
    text = rng.normal(size=(batch, length, config.text_width)).astype(np.float32)
    mask = np.arange(length)[None] < np.array([[2], [5], [3]])[:batch]
    if not isinstance(config, SuperresConfig):
        return tokens, text, mask
    low = rng.integers(0, config.low_codebook_size, (batch, int(np.prod(config.low_grid)))).astype(np.int32)
    return tokens, text, mask, low


def random_checkpoint(folder, preset, stages: dict):
    """A checkpoint folder with random weights of these stages' configs."""
    from minimuse import weights

    config = dict(format=weights.FORMAT, text="t5-scenes", sampling=sampling_to_dict(preset.sampling))
    for stage, stage_config in stages.items():
        config[stage] = dataclasses.asdict(stage_config)
        weights.save_weights(folder / f"{stage}.safetensors", random_weights(stage, stage_config))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory):
    """A checkpoint folder of the micro preset with random weights and the shipped text encoder: the base stage."""
    preset = get_preset("micro")
    stages = dict(tokenizer=preset.tokenizer, base=preset.base)
    return random_checkpoint(tmp_path_factory.mktemp("micro"), preset, stages)


@pytest.fixture(scope="session")
def cascade_folder(tmp_path_factory):
    """The same with all stages: two resolutions, and a decoder that has grown."""
    preset = get_preset("micro")
    names = ("tokenizer", "superres_tokenizer", "base", "superres")
    grown = dataclasses.replace(preset.superres_tokenizer, decoder_growth=2)
    stages = {name: getattr(preset, name) for name in names} | dict(superres_decoder=grown)
    return random_checkpoint(tmp_path_factory.mktemp("cascade"), preset, stages)


@pytest.fixture(scope="session")
def micro(micro_folder):
    return minimuse.Muse.from_pretrained(micro_folder)


@pytest.fixture(scope="session")
def cascade(cascade_folder):
    return minimuse.Muse.from_pretrained(cascade_folder)


@pytest.fixture(scope="session")
def tiny():
    """The shipped checkpoint."""
    return minimuse.Muse.from_pretrained("tiny")


@pytest.fixture(scope="session")
def base_model():
    return random_weights("base", BASE)


@pytest.fixture(scope="session")
def fresh_base():
    """A transformer as training begins with it; one for all tests, as its initial weights take long to compile."""
    from minimuse import muse

    return muse.init_stage("base", FRESH)


@pytest.fixture(scope="session")
def superres_model():
    return random_weights("superres", SUPERRES)


@pytest.fixture(scope="module")
def picture():
    return scenes.render(scenes.example("val", 3)[0], 128)


@pytest.fixture(scope="module")
def small():
    return scenes.render(scenes.example("val", 3)[0])


def turned(image: Image.Image) -> Image.Image:
    """A picture as a phone stores it: turned, with the EXIF orientation that turns it back."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(file, "png", exif=exif)
    return Image.open(file)


def tokens_of(muse, pixels):
    small = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.LANCZOS))
    return muse.tokenize(small[None])[0], muse.tokenize(pixels[None], "superres")[0]
