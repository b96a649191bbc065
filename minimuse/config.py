"""Every number a model is built from, as frozen dataclasses; presets.py names whole sets of them.

Symbols used everywhere: B batch, N image tokens, S text tokens, D width, K codebook size, r mask rate,
t guidance scale, H and W pixels, f pixels per token, h = H / f and w = W / f tokens.
"""

import dataclasses
import os
import types
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, TypeVar, get_args

import jax

MOST = 2**31 - 1
DTYPES = ("float32", "bfloat16", "float16")  # what transformers can compute in


def _check_sizes(config: Any, *names: str, least: int = 1, most: int = MOST) -> None:
    """ValueError for a field, one number or several, that is not from `least` to `most`."""
    for name in names:
        value = getattr(config, name)
        if wrong := [size for size in (value if isinstance(value, tuple) else (value,)) if not least <= size <= most]:
            raise ValueError(f"{type(config).__name__}: {name} must be from {least} to {most}; it was {wrong[0]}.")


@dataclass(frozen=True)
class VQGANConfig:
    """The tokenizer (paper section 2.2, appendix A.2): H x W pixels to H/f x W/f tokens of K codes."""

    image_size: int = 64  # pixels per side in training; any multiple of factor works afterwards
    factor: int = 8  # f, pixels per token
    codebook_size: int = 1024  # K
    code_dim: int = 16  # length of a code; codes are compared on the unit sphere
    channels: tuple[int, ...] = (256,)  # finest resolution first; each of the others halves height and width
    blocks: int = 1  # residual blocks per resolution; the decoder has one more
    encoder_kernel: int = 1  # of the encoder's convolutions; 1: a token depends only on its own patch
    decoder_growth: int = 1  # factor on the decoder's channels and blocks; 2 after fine-tuning (section 2.5)
    beta: float = 0.25  # weight of the commitment term
    codebook_ema: float = 0.0  # decay of codes that are running means; 0: codes are trained by the codebook loss

    def check(self) -> None:
        """ValueError for sizes that no model has."""
        sizes = ("image_size", "factor", "codebook_size", "code_dim", "channels", "encoder_kernel", "decoder_growth")
        _check_sizes(self, *sizes)
        _check_sizes(self, "blocks", least=0, most=100)  # each is compiled for itself


@dataclass(frozen=True)
class T5Config:
    """A T5 encoder (paper section 2.1), with the names of a Hugging Face `config.json`."""

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

    def __post_init__(self) -> None:
        _check_sizes(self, "vocab_size", least=0)  # before there is a tokenizer
        _check_sizes(self, "d_model", "d_kv", "d_ff", "num_heads")
        _check_sizes(self, "num_layers", most=1000)
        _check_sizes(self, "relative_attention_num_buckets", least=4)
        _check_sizes(self, "relative_attention_max_distance", least=self.relative_attention_num_buckets)
        if not 0 < self.layer_norm_epsilon < 1:  # false for nan, too
            raise ValueError(f"T5Config: layer_norm_epsilon is between 0 and 1; it was {self.layer_norm_epsilon}.")


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
    text_length: int = 32  # S, the most text tokens of a caption; longer ones are cut
    attention: str = "plain"  # how it is computed: "plain", "xla" or "cudnn", see layers.attend
    remat: str = "dots"  # what a layer keeps for its backward pass, a name in transformer.REMAT
    window: int = 0  # side of a window of multi-axis attention, in tokens; 0: every token attends to all

    def check(self) -> None:
        """ValueError for sizes that no model has."""
        _check_sizes(self, "codebook_size", "grid", "width", "heads", "mlp_width", "text_width", "text_length")
        _check_sizes(self, "depth", most=1000)
        _check_sizes(self, "window", least=0)


@dataclass(frozen=True)
class SuperresConfig(TransformerConfig):
    """The super-resolution transformer (paper section 2.4, table 6)."""

    grid: tuple[int, int] = (32, 32)
    width: int = 128
    depth: int = 4
    mlp_width: int = 512
    window: int = 8
    low_codebook_size: int = 1024  # K of the base's tokenizer
    low_grid: tuple[int, int] = (8, 8)  # h x w of the base's tokens
    low_depth: int = 4  # self-attention layers for the base's tokens

    def check(self) -> None:
        super().check()
        _check_sizes(self, "low_codebook_size", "low_grid")
        _check_sizes(self, "low_depth", most=1000)


@dataclass(frozen=True)
class CriticConfig:
    """The token critic (beyond/critic.py), a small head on the base's features."""

    width: int = 192  # D of the base
    heads: int = 4
    mlp_width: int = 768


@dataclass(frozen=True)
class DiffusionConfig(TransformerConfig):
    """The latent diffusion twin (evaluate/baselines.py)."""

    code_dim: int = 16  # length of the tokenizer's codes


@dataclass(frozen=True)
class StyleConfig:
    """The adapter of a style (beyond/style.py): low-rank changes of the blocks' matrices (LoRA, arXiv 2106.09685)."""

    rank: int = 8  # r of A [in, r] and B [r, out], whose product changes a matrix W [in, out]
    alpha: float = 8.0  # the change is alpha / rank A B
    matrices: tuple[str, ...] = ("qkv", "out", "cross_q", "cross_kv", "cross_out")  # layers of transformer.Block


@dataclass(frozen=True)
class TrainConfig:
    """How one stage is trained. The paper's own numbers are in its tables 4 to 6."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    optimizer: str = "adamw"  # or "adafactor", the paper's, which keeps sums over rows and columns, not every square
    muon: float = 0.0  # learning rate of Muon for the matrices inside the model; 0: `optimizer` trains them, too
    warmup: int = 200  # steps of linear warm-up, before a cosine decay to 2% of the rate
    weight_decay: float = 0.045
    b2: float = 0.96  # decay of the running mean of squared gradients, in AdamW and Adafactor
    clip: float = 1.0  # global norm of the gradient
    dtype: str = "float32"  # of DTYPES: in which a transformer computes a step; weights and their averages stay float32
    accumulate: int = 1  # pieces in which a batch is computed, where it does not fit in memory; the result is the same
    ema: float = 0.999  # decay of the averaged weights, which are the ones that are saved and used
    quantize_start: int = 0  # steps that a tokenizer trains as a plain autoencoder, before its codebook is initialized
    scenes: int = 0  # different training scenes; 0: new ones at every step
    examples: int = 0  # how many of them, or of your own pictures, a transformer learns from; 0: from all
    held_out: int = 0  # examples, a tenth at most, that a transformer does not learn from; the log has their loss
    everyday: float = 0.0  # share of a transformer's scenes that are drawn and worded as in data/everyday.py
    label_smoothing: float = 0.1
    caption_dropout: float = 0.1  # share of examples that are trained without their caption (section 2.7)
    low_noise: float = 0.0  # the largest share of low-resolution tokens replaced at random, as the base stage errs
    schedule: float | str = "cosine"  # law of the mask rate (section 2.6), a name in masking.LAWS; or a fixed rate
    halton: float = 0.0  # share of the masks that hide what sampling in Halton's order by the law exp leaves hidden
    start: str = ""  # a checkpoint whose weights the stage begins with; "": fresh ones, or a grown decoder
    seed: int = 0


@dataclass(frozen=True)
class CriticTraining(TrainConfig):
    """How the token critic is trained (train/critic.py)."""

    label: str = (
        "sampled"  # it finds tokens that were sampled, as in its paper; "wrong": those that are not the true ones
    )


@dataclass(frozen=True)
class AdversarialConfig(TrainConfig):
    """How a tokenizer that already reconstructs images is trained against a discriminator (compare paper table 5)."""

    perceptual: float = 0.5  # weight of the perceptual loss
    perceptual_network: str = ""  # a file, folder or Hub name with VGG16's weights; "": the scorer, for scenes only
    lpips: str = ""  # a safetensors file with LPIPS's weights of VGG16's channels; "": all channels count the same
    adversarial: float = 0.1  # weight of the adversarial loss; 0: no discriminator is trained
    adaptive: bool = True  # multiply that by the adaptive weight (VQGAN, equation 7)
    discriminator_start: int = 300  # steps in which only the discriminator is trained
    discriminator_rate: float = 5e-4  # the discriminator's learning rate
    r1: float = 0.0  # weight of the R1 regularizer, half of which is in the loss
    lecam: float = 0.01  # weight of the LeCam regularizer
    freeze_tokens: bool = True  # train only the decoder, so that tokens and what was trained on them stay valid
    crop: int = 0  # side in pixels of the crops to train on, each with an object in it; 0: whole pictures
    artwork: str = ""  # a Parquet file of drawings; if given, half of the pictures are collages of them


def static(default: Any) -> Any:
    """A field that is compiled into programs; the other fields of a record are their inputs."""
    return field(default=default, metadata=dict(static=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sampling:
    """How one stage samples its tokens (paper sections 2.7 and 2.8). `decoding.check_sampling` validates it."""

    steps: int = static(12)  # decoding steps T
    guidance: float = 0.5  # t of equation 1, at the last step (diffusers' guidance_scale is 1 + t)
    ramp: bool = True  # t rises linearly from step to step; False: it is the same at every step
    temperature: float = 4.5  # of the noise on the confidence
    token_temperature: float = 0.25  # of the tokens: logits are divided by it before one is sampled
    top_k: int = static(0)  # sample from the k most likely codes; 0: from all
    law: str = static("cosine")  # of the decode schedule, a name in masking.LAWS
    order: str = static("confidence")  # in which positions are revealed, a name in decoding.ORDERS
    guided_from: float = static(0.0)  # guidance begins after this share of the steps
    guided_to: float = static(1.0)  # and ends after this one; the unguided half is left out of the other steps
    revise: int = static(0)  # how many of the steps, the last ones, sample the least sure positions again
    critic: bool = static(False)  # whether the token critic chooses what is hidden again, see beyond/critic.py
    guided: bool = static(True)  # whether the unguided half is computed; set from guidance, not by hand


class SampleOptions(TypedDict, total=False):
    """What can be set when sampling; what is left out is the checkpoint's own.

    Every option takes one value, or a pair for the base and the super-resolution stage, in which None is the
    checkpoint's own. One value of ramp, top_k, law or order sets both stages; one value of any other option sets the
    base stage only.
    """

    steps: int | tuple[int | None, int | None]
    """Decoding steps."""
    guidance: float | tuple[float | None, float | None]
    """Guidance scale t of equation 1, at the last step; 0 leaves out the unguided half."""
    ramp: bool | tuple[bool | None, bool | None]
    """Whether t rises linearly from step to step, or is the same at every step."""
    temperature: float | tuple[float | None, float | None]
    """Temperature of the noise on the confidence; a higher one gives more variety and less order."""
    token_temperature: float | tuple[float | None, float | None]
    """Temperature of the tokens: 1 samples from the model's probabilities, less prefers the more likely ones."""
    top_k: int | tuple[int | None, int | None]
    """Sample from the k most likely codes (0 = all)."""
    law: str | tuple[str | None, str | None]
    """Law of the decode schedule: cosine, linear, square and so on."""
    order: str | tuple[str | None, str | None]
    """Order in which positions are revealed: confidence, halton, random or raster; only the first uses temperature."""
    guided_from: float | tuple[float | None, float | None]
    """Guide only from this share of the steps on: 0.5 leaves the unguided half out of the first half of the steps."""
    guided_to: float | tuple[float | None, float | None]
    """Guide only up to this share of the steps."""
    revise: int | tuple[int | None, int | None]
    """How many of the steps, the last ones, hide the least sure positions and sample them again."""
    critic: bool | tuple[bool | None, bool | None]
    """Let the token critic, if the checkpoint has one, choose what is hidden again: with --revise, and in the order
    confidence at every step. Each choice takes half as long as a guided step. For the base stage only."""


# Options whose single value sets only the base stage, and those that `interpolate` refuses: it guides on its own.
BASE_ONLY = ("steps", "guidance", "temperature", "token_temperature", "guided_from", "guided_to", "revise", "critic")
GUIDING = ("guidance", "ramp", "guided_from", "guided_to", "critic")


@dataclass(frozen=True)
class RunConfig:
    """How a run is carried out. It changes no result, so it may differ when the run is resumed."""

    mesh: tuple[int, int] = (0, 1)  # devices along data and along fsdp (0 = all that are left), see train/devices.py
    save_seconds: float = 40  # a kill loses at most this much work, plus the time of one save
    log_every: int = 20  # steps in a row of the log
    held_out_every: int = 500  # steps between losses of the examples that are held out
    samples_every: int = (
        0  # steps between pictures that base and superres draw in training, see train/samples.py; 0: none
    )
    report: str = ""  # where the log also goes: tensorboard, wandb or trackio, see train/report.py; "": nowhere
    memory: float = 0.0  # GiB that one device has; 0: what it reports, less: not compared with what a step takes


@dataclass(frozen=True)
class PicturesConfig:
    """How your own captioned pictures are read (data/captioned.py)."""

    image_column: str = ""  # of pictures, or of their files' names; "": the first known one, such as image or file_name
    caption_column: str = ""  # of captions, one or a list; "": the first known one, such as caption, text or prompt
    crop: str = "center"  # "center": the middle square; "pad": the whole picture, with white beside it
    flip: bool = False  # also learn from mirror images of pictures whose captions say neither left nor right
    bad_share: float = 0.01  # share of the pictures that may be unreadable; they are skipped and listed
    cache: str = ""  # folder for prepared pictures and tokens; "": ~/.cache/minimuse/pictures, and the run folder


@dataclass(frozen=True)
class Preset:
    """All stages of one Muse."""

    name: str
    text: str  # a folder in data/, any folder in Hugging Face format, or a Hub name
    tokenizer: VQGANConfig = VQGANConfig()
    superres_tokenizer: VQGANConfig = VQGANConfig(image_size=128, factor=4, channels=(128,))
    base: TransformerConfig = TransformerConfig()
    superres: SuperresConfig = SuperresConfig()
    style: StyleConfig = StyleConfig()
    sampling: dict[str, Sampling] = field(  # by stage
        default_factory=lambda: dict(base=Sampling(), superres=Sampling(steps=8, guidance=0.0))
    )
    train: dict[str, TrainConfig] = field(default_factory=dict)  # by stage
    data: str = ""  # your own captioned pictures, see data/captioned.py; "": the emoji scenes
    pictures: PicturesConfig = PicturesConfig()  # how they are read
    run: RunConfig = RunConfig()

    @property
    def critic(self) -> CriticConfig:
        """The token critic of this base."""
        return CriticConfig(self.base.width, self.base.heads, self.base.mlp_width)

    def phases(self, stages: Iterable[str]) -> list[str]:
        """These stages and their second phases, against a discriminator, or for the super-resolution transformer (of a
        style): those that have training settings."""
        of = lambda name: (name, f"{name}_adversarial", f"{name}_superres")
        return [phase for name in stages for phase in of(name) if phase in self.train]


# Stages that are trained on cached tokens and text.
TRANSFORMERS = ("base", "superres", "critic", "autoregressive", "diffusion")


def data_dir() -> Path:
    """The `data/` folder: $MINIMUSE_DATA, or that of a clone, or the copy inside an installed wheel."""
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


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is what an annotation of a config says."""
    parts = get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if parts:  # a tuple
        parts = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


Config = TypeVar("Config")


def from_dict(cls: type[Config], values: Any) -> Config:
    """Build a config dataclass from the parsed JSON of `dataclasses.asdict`; lists become tuples again.

    ValueError for an unknown field, a missing one, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is built from a dictionary of its fields; this is {values!r}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    if unknown := [str(name) for name in values if name not in fields]:
        raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}; it has {', '.join(fields)}.")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name, field_ in fields.items():
        if name in values and not _fits(values[name], field_.type):
            kind = getattr(field_.type, "__name__", "") if not get_args(field_.type) else str(field_.type)
            raise ValueError(f"The field {name} of {cls.__name__} is of type {kind}; it was {values[name]!r}.")
        if name not in values and field_.default is field_.default_factory is dataclasses.MISSING:
            raise ValueError(f"{cls.__name__} needs the field {name}.")
    return cls(**values)


def sampling_to_dict(sampling: dict[str, Sampling]) -> dict[str, dict]:
    """The records of all stages as JSON takes them."""
    fields = {stage: dataclasses.asdict(record) for stage, record in sampling.items()}
    return {stage: {k: v for k, v in values.items() if k != "guided"} for stage, values in fields.items()}


def sampling_from_dict(values: Any) -> dict[str, Sampling]:
    """The inverse of `sampling_to_dict`. It also reads what minimuse 0.1 wrote, pairs for both stages."""
    if not isinstance(values, dict):
        raise ValueError(f"sampling is a dictionary of the stages' settings; it was {values!r}.")
    if not values.keys() <= {"base", "superres"}:
        pairs = {name: value for name, value in values.items() if name != "text_length"}
        values = {
            stage: {
                name: value[i] if isinstance(value, list) and len(value) == 2 else value
                for name, value in pairs.items()
            }
            for i, stage in enumerate(("base", "superres"))
        }
    found = dict(base=Sampling(), superres=Sampling(steps=8, guidance=0.0))
    for stage, own in values.items():
        own = dataclasses.asdict(found[stage]) | own if isinstance(own, dict) else own
        found[stage] = from_dict(Sampling, own)
    return found
