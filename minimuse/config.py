"""Every number a model is built from, as frozen dataclasses, and the presets that name whole sets of them.

Symbols used everywhere: B batch, N image tokens, S text tokens, D width, K codebook size, r mask rate,
t guidance scale, H and W pixels, f pixels a token, h = H / f and w = W / f tokens.
"""

import dataclasses
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class VQGANConfig:
    """The tokenizer (paper section 2.2, appendix A.2): H x W pixels to H/f x W/f tokens of K codes."""

    image_size: int = 64  # pixels a side in training; any multiple of factor works afterwards
    factor: int = 8  # f, pixels a token
    codebook_size: int = 1024  # K
    code_dim: int = 16  # length of a code; codes are compared on the unit sphere
    channels: tuple[int, ...] = (256,)  # finest resolution first; each next one halves height and width
    blocks: int = 1  # residual blocks a resolution; the decoder has one more
    encoder_kernel: int = 1  # of the encoder's convolutions; 1: a token knows its own patch alone
    decoder_growth: int = 1  # times the decoder's channels, and times its blocks; 2 after fine-tuning (section 2.5)
    beta: float = 0.25  # weight of the commitment term
    codebook_ema: float = 0.0  # decay of codes that are running means; 0: codes learn by the codebook loss


@dataclass(frozen=True)
class T5Config:
    """A T5 encoder (paper section 2.1), in the words of a Hugging Face `config.json`."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    num_decoder_layers: int = 0  # only pretraining needs the decoder
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "gated-gelu"  # or "relu" (T5 v1.0)
    tie_word_embeddings: bool = False


@dataclass(frozen=True)
class TransformerConfig:
    """The base transformer (paper section 2.3, table 4)."""

    codebook_size: int = 1024  # K; the id K itself is [MASK]
    grid: tuple[int, int] = (8, 8)  # h x w tokens
    width: int = 192  # D
    depth: int = 6
    heads: int = 4
    mlp_width: int = 768
    text_width: int = 192  # width of the text encoder's output
    text_length: int = 32  # S at most, text tokens
    attention: str = "plain"  # how it is computed: "plain", "xla" or "cudnn", see transformer.attend
    remat: str = "dots"  # what of a layer is computed again in the backward pass, a name in transformer.REMAT
    window: int = 0  # places a side of a window of multi-axis attention; 0: every token attends to all


@dataclass(frozen=True)
class SuperresConfig(TransformerConfig):
    """The super-resolution transformer (paper section 2.4, table 6)."""

    grid: tuple[int, int] = (32, 32)
    width: int = 128
    depth: int = 4
    mlp_width: int = 512
    window: int = 8
    low_codebook_size: int = 1024  # K of the tokenizer whose tokens it is given
    low_grid: tuple[int, int] = (8, 8)  # h x w of those
    low_depth: int = 4  # self-attention layers that they go through


@dataclass(frozen=True)
class DiffusionConfig(TransformerConfig):
    """The latent diffusion twin (baselines.py)."""

    code_dim: int = 16  # length of a code, the tokenizer's


@dataclass(frozen=True)
class TrainConfig:
    """How one stage is trained. The paper's own numbers are in its tables 4 to 6."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    optimizer: str = "adamw"  # or "adafactor", the paper's, which keeps rows' and columns' sums, not every square
    muon: float = 0.0  # rate of the matrices inside the model, trained by Muon; 0 leaves all to `optimizer`
    warmup: int = 200  # steps of linear warm-up, before a cosine decay to 2 % of the rate
    weight_decay: float = 0.045
    b2: float = 0.96
    clip: float = 1.0  # global norm of the gradient
    dtype: str = "float32"  # what a transformer's step computes in; weights, their averages and sums stay float32
    accumulate: int = 1  # parts that a batch is computed in, one after another, where the whole does not fit in memory
    ema: float = 0.999  # decay of the averaged weights, the ones that are shipped and sampled from
    quantize_start: int = 0  # steps that a tokenizer learns as a plain autoencoder, before its codebook is laid out
    scenes: int = 0  # distinct training scenes; 0 draws new ones at every step
    label_smoothing: float = 0.1
    caption_dropout: float = 0.1  # share of examples trained without their caption (section 2.7)
    low_noise: float = 0.0  # share of the low-resolution tokens replaced at most, as the base stage errs, too
    schedule: str | float = "cosine"  # law of the mask rate (section 2.6), a name in masking.LAWS; or a fixed rate
    seed: int = 0


@dataclass(frozen=True)
class AdversarialConfig(TrainConfig):
    """How a tokenizer that already rebuilds pictures is trained against a discriminator (compare paper table 5)."""

    perceptual: float = 0.5  # weight of the perceptual loss
    adversarial: float = 0.1  # weight of the adversarial loss
    adaptive: bool = True  # times the adaptive weight (VQGAN, equation 7)
    discriminator_start: int = 300  # steps in which the discriminator learns alone
    discriminator_rate: float = 5e-4  # the discriminator's learning rate
    r1: float = 0.0  # weight of the R1 regularizer; the loss has half of it
    lecam: float = 0.01  # weight of the LeCam regularizer
    freeze_tokens: bool = True  # train the decoder alone, so that tokens and what was trained on them stay valid
    crop: int = 0  # train on pieces of so many pixels a side, with an object in each; 0: on whole pictures


@dataclass(frozen=True)
class SampleConfig:
    """What `Muse.generate` uses when it is not told otherwise."""

    steps: tuple[int, int] = (12, 8)  # base, super-resolution
    guidance: tuple[float, float] = (0.5, 0.0)  # t of equation 1, at the last step
    ramp: bool = True  # t rises linearly from step to step; False: it is the same at all
    temperature: tuple[float, float] = (4.5, 4.5)  # of the noise on the confidence
    token_temperature: tuple[float, float] = (0.25, 0.25)  # of the tokens: logits are divided by it before one is drawn
    top_k: int = 0  # tokens are drawn from so many likeliest codes; 0: from all
    law: str = "cosine"  # of the decode schedule, a name in masking.LAWS
    order: str = "confidence"  # in which places are revealed, a name in decoding.ORDERS
    text_length: int = 32  # S, captions are padded or cut to this many text tokens


@dataclass(frozen=True)
class RunConfig:
    """How a run is carried out. It changes no number, so it may be another when the run is resumed."""

    mesh: tuple[int, int] = (0, 1)  # devices along data and along fsdp, 0: all that are left; see mesh.py
    save_seconds: float = 40  # a kill loses at most this much work, and the time of one save


@dataclass(frozen=True)
class Preset:
    """All stages of one Muse."""

    name: str
    text: str  # a folder in data/, any folder in Hugging Face format, or a Hub name
    tokenizer: VQGANConfig = VQGANConfig()
    superres_tokenizer: VQGANConfig = VQGANConfig(image_size=128, factor=4, channels=(128,))
    base: TransformerConfig = TransformerConfig()
    superres: SuperresConfig = SuperresConfig()
    sampling: SampleConfig = SampleConfig()
    train: dict[str, TrainConfig] = field(default_factory=dict)  # by stage
    data: str = ""  # captioned pictures to learn from, what `data.load_captioned` reads; "": the emoji scenes
    run: RunConfig = RunConfig()


TRANSFORMERS = ("base", "superres", "autoregressive", "diffusion")  # stages that learn from cached tokens and text
PAPER = TrainConfig(  # tables 4 and 6; the text has 1 M steps for the base, too, and no average while training
    steps=1_000_000,
    batch=512,
    learning_rate=1e-4,
    optimizer="adafactor",
    warmup=5000,
    dtype="bfloat16",
    label_smoothing=0.0,
)
# What the paper leaves open is a choice here: a text's length, heads, windows, and MaskGIT's channels.
LARGE = dict(codebook_size=8192, text_width=4096, text_length=77)
MEDIUM = dict(codebook_size=4096, text_width=512, text_length=64)
LARGE_VQGAN = VQGANConfig(256, 16, 8192, 256, channels=(128, 128, 256, 256, 512), blocks=2, encoder_kernel=3)


def paper_preset(name: str, base: dict, superres: dict) -> Preset:
    """A Muse of the paper's: 16 x 16 tokens of 256 px, 64 x 64 tokens of 512 px, T5-XXL."""
    fine = dict(grid=(64, 64), low_grid=(16, 16), low_codebook_size=8192, window=8)
    return Preset(
        name=name,
        text="google/flan-t5-xxl",  # of the size of the paper's T5-XXL, and on the Hub as safetensors
        tokenizer=LARGE_VQGAN,
        superres_tokenizer=dataclasses.replace(LARGE_VQGAN, image_size=512, factor=8, channels=(128, 128, 256, 512)),
        base=TransformerConfig(**LARGE, grid=(16, 16), **base),
        superres=SuperresConfig(**LARGE, **fine, **superres),
        sampling=SampleConfig(steps=(24, 8), text_length=77),
        train=dict(base=PAPER, superres=PAPER),
        run=RunConfig(mesh=(1, 0)),  # training holds 16 bytes a weight or more, too much for most single devices
    )


TOKENIZER = TrainConfig(steps=3000, batch=32, muon=0.01, b2=0.99, weight_decay=1e-4, quantize_start=400)
BASE = TrainConfig(steps=10_000, batch=128, learning_rate=3e-3, muon=0.01, scenes=196_608, label_smoothing=0.0)

PRESETS = {
    preset.name: preset
    for preset in [
        Preset(
            name="tiny",
            text="t5-scenes",
            train={
                "text": TrainConfig(steps=5000, batch=64, learning_rate=2e-3, muon=0.01, b2=0.99, weight_decay=0.01),
                "scorer": TrainConfig(steps=2000, batch=64, learning_rate=2e-3, b2=0.99, weight_decay=0.01),
                "tokenizer": TOKENIZER,
                "superres_tokenizer": dataclasses.replace(TOKENIZER, steps=2500, batch=8),
                "superres_tokenizer_adversarial": AdversarialConfig(
                    steps=900, batch=6, learning_rate=2e-4, b2=0.99, weight_decay=1e-4, adversarial=0.25
                ),
                **dict.fromkeys(("base", "autoregressive", "diffusion"), BASE),  # the baselines are trained alike
                "superres": TrainConfig(
                    steps=4500,
                    batch=32,
                    learning_rate=3e-3,
                    muon=0.01,
                    scenes=49_152,
                    label_smoothing=0.0,
                    low_noise=0.2,
                ),
                "superres_decoder": AdversarialConfig(
                    steps=1500, batch=8, learning_rate=1e-3, muon=0.005, b2=0.99, weight_decay=1e-4, crop=64
                ),
            },
        ),
        Preset(  # seconds a stage; for the tests and for a first look at the training commands
            name="micro",
            text="t5-scenes",
            tokenizer=VQGANConfig(codebook_size=64, code_dim=8, channels=(16, 32), blocks=1, encoder_kernel=3),
            superres_tokenizer=VQGANConfig(
                image_size=128, factor=4, codebook_size=64, code_dim=8, channels=(16,), blocks=1
            ),
            base=TransformerConfig(codebook_size=64, width=32, depth=2, heads=2, mlp_width=64),
            superres=SuperresConfig(
                codebook_size=64, width=32, depth=2, heads=2, mlp_width=64, low_codebook_size=64, low_depth=1
            ),
            train={
                "text": TrainConfig(steps=8, batch=8, warmup=2),
                "scorer": TrainConfig(steps=8, batch=8, warmup=2),
                "tokenizer": TrainConfig(steps=8, batch=8, warmup=2, quantize_start=2),
                "tokenizer_adversarial": AdversarialConfig(steps=8, batch=8, warmup=2, discriminator_start=2),
                "superres_tokenizer": TrainConfig(steps=4, batch=2, warmup=2),
                **dict.fromkeys(
                    ("base", "autoregressive", "diffusion"), TrainConfig(steps=8, batch=8, warmup=2, scenes=64)
                ),
                "superres": TrainConfig(steps=4, batch=2, warmup=2, scenes=16, low_noise=0.2),
                "superres_decoder": AdversarialConfig(steps=4, batch=2, warmup=2, discriminator_start=2, crop=64),
            },
        ),
        Preset(  # for one TPU chip or GPU, and for pictures of your own (chapter 13)
            name="colab",
            text="google/flan-t5-small",
            tokenizer=VQGANConfig(128, 8, 4096, channels=(128, 256), blocks=2, encoder_kernel=3),
            superres_tokenizer=VQGANConfig(256, 4, 4096, channels=(64, 128), blocks=1, encoder_kernel=3),
            base=TransformerConfig(**MEDIUM, grid=(16, 16), width=512, depth=12, heads=8, mlp_width=2048),
            superres=SuperresConfig(
                **MEDIUM,
                grid=(64, 64),
                width=256,
                depth=6,
                heads=4,
                mlp_width=1024,
                low_codebook_size=4096,
                low_grid=(16, 16),
            ),
            sampling=SampleConfig(steps=(24, 8), text_length=64),
            train={
                "tokenizer": dataclasses.replace(TOKENIZER, steps=10_000, batch=64, quantize_start=1000),
                "superres_tokenizer": dataclasses.replace(TOKENIZER, steps=8000, batch=16, quantize_start=1000),
                "base": dataclasses.replace(BASE, steps=20_000, learning_rate=1e-3, warmup=500, scenes=98_304),
                "superres": dataclasses.replace(
                    BASE, steps=10_000, batch=32, learning_rate=1e-3, warmup=500, scenes=49_152, low_noise=0.2
                ),
                "superres_decoder": AdversarialConfig(
                    steps=4000, batch=16, learning_rate=5e-4, muon=0.005, b2=0.99, weight_decay=1e-4, crop=128
                ),
            },
        ),
        paper_preset(  # table 1's 632M and 268M; their layers are not told
            "muse-900m",
            base=dict(width=1280, depth=23, heads=16, mlp_width=5120),
            superres=dict(width=1024, depth=12, heads=16, mlp_width=4096, low_depth=4),
        ),
        paper_preset(  # tables 4 and 6
            "muse-3b",
            base=dict(width=2048, depth=48, heads=16, mlp_width=8192),
            superres=dict(width=1024, depth=32, heads=16, mlp_width=4096, low_depth=16),
        ),
    ]
}


def get_preset(name: str) -> Preset:
    """The preset of that name, or a ValueError that lists the names there are."""
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}; the presets are {', '.join(PRESETS)}.")
    return PRESETS[name]


def data_dir() -> Path:
    """The course's `data/` folder: $MINIMUSE_DATA, the one of a clone, or the copy inside an installed wheel."""
    here = Path(__file__).resolve().parent
    candidates = [Path(os.environ["MINIMUSE_DATA"])] if "MINIMUSE_DATA" in os.environ else []
    candidates += [here.parent / "data", here / "_data"]
    for folder in candidates:
        if (folder / "sprites.parquet").is_file():
            return folder
    raise FileNotFoundError(
        f"No data folder with sprites.parquet in {', '.join(map(str, candidates))}. "
        "Clone the whole repository, or set MINIMUSE_DATA to its data/ folder."
    )


def _fits(value, kind) -> bool:
    """Whether a value is what an annotation of a config says."""
    parts = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if parts:  # a tuple
        parts = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def from_dict(cls, values: dict):
    """Build a config dataclass from the parsed JSON of `dataclasses.asdict`; lists become tuples again.

    ValueError for a field that there is not, that is missing, or whose value is of another type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is built from a dictionary of its fields; this is {values!r}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := [str(name) for name in values if name not in fields]:
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}; it has {', '.join(fields)}.")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name, field_ in fields.items():
        if name in values and not _fits(values[name], field_.type):
            kind = getattr(field_.type, "__name__", "") if not typing.get_args(field_.type) else str(field_.type)
            raise ValueError(f"The field {name} of {cls.__name__} is of type {kind}; it was {values[name]!r}.")
        if name not in values and field_.default is field_.default_factory is dataclasses.MISSING:
            raise ValueError(f"{cls.__name__} needs the field {name}.")
    return cls(**values)
