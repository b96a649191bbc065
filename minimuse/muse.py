"""The pipeline: a caption to pixels (paper section 2), and the stages of a checkpoint.

A checkpoint folder holds config.json and one float16 safetensors file per stage: tokenizer and base at least, for the
cascade superres_tokenizer, superres and superres_decoder, and perhaps a token critic. Nothing is ever unpickled.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse import editing, layers, mask_free, prompting, sharing
from minimuse.beyond import style
from minimuse.beyond.critic import TokenCritic
from minimuse.canvas import whole
from minimuse.config import (
    BASE_ONLY,
    DTYPES,
    CriticConfig,
    SampleOptions,
    Sampling,
    SuperresConfig,
    TransformerConfig,
    VQGANConfig,
    from_dict,
    sampling_from_dict,
    sampling_to_dict,
)
from minimuse.decoding import Prompts, Trace, check_sampling, other_keys
from minimuse.files import as_given, atomic_path, to_path
from minimuse.processes import check_jax
from minimuse.stepwise import OnStep, sample_stage
from minimuse.t5 import TextEncoder
from minimuse.transformer import BaseTransformer, SuperresTransformer
from minimuse.vqgan import VQGAN, Decoder, check_tokens, draw_pixels, read_tokens
from minimuse.weights import FORMAT, find_checkpoint, load_weights, read_config, save_weights

STAGES = {
    "tokenizer": (VQGANConfig, VQGAN),
    "superres_tokenizer": (VQGANConfig, VQGAN),
    "base": (TransformerConfig, BaseTransformer),
    "superres": (SuperresConfig, SuperresTransformer),
    "superres_decoder": (VQGANConfig, Decoder),
    "critic": (CriticConfig, TokenCritic),
}
CASCADE = ("superres", "superres_decoder")  # what turns a picture of 64 px into one of 128
OPTIONAL = ("superres_tokenizer", *CASCADE, "critic")  # a checkpoint works without these
TOKENIZERS = {"base": "tokenizer", "superres": "superres_tokenizer"}  # whose tokens each transformer predicts
AGREE = (  # sizes that must be equal
    ("base", "codebook_size", "tokenizer", "codebook_size"),
    ("superres", "codebook_size", "superres_tokenizer", "codebook_size"),
    ("superres", "low_codebook_size", "tokenizer", "codebook_size"),
    ("superres", "low_grid", "base", "grid"),
    ("superres", "text_width", "base", "text_width"),
    ("superres_decoder", "code_dim", "superres_tokenizer", "code_dim"),
    ("critic", "width", "base", "width"),
)

NONE = SampleOptions()


def check_agreement(configs: dict[str, Any]) -> None:
    """ValueError for configs, by stage, whose sizes do not agree."""
    for one, its, other, others in AGREE:
        if one in configs and other in configs:
            sizes = {
                f"{one}'s {its}": getattr(configs[one], its),
                f"{other}'s {others}": getattr(configs[other], others),
            }
            if len(set(sizes.values())) > 1:
                message = " and ".join(f"{name} is {size}" for name, size in sizes.items())
                raise ValueError(f"These stages do not fit together: {message}.")


def build(stage: str, config: Any) -> nnx.Module:
    """A stage's module with shapes in the place of weights, or a ValueError for sizes that do not fit together.

    Equal configs share one such module: do not change it."""
    try:
        if isinstance(config, (VQGANConfig, TransformerConfig)):
            config.check()
        return layers.abstract(STAGES[stage][1], config)
    except Exception as error:  # no heads, a negative width, and whatever else a config.json may contain
        raise ValueError(f"Cannot build {stage} from {config}: {error}") from error


def init_stage(stage: str, config: Any, seed: int = 0) -> nnx.Module:
    """A stage's module with fresh weights."""
    return layers.init(STAGES[stage][1], config, seed=seed)


class Generation(NamedTuple):
    """What `Muse.generate(..., trace=True)` returns."""

    images: np.ndarray  # uint8 [B, H, W, 3], as the last stage drew them
    tokens: np.ndarray  # int [B, h, w], of the base stage
    trace: Trace  # each step's tokens, confidence and hidden positions
    superres_tokens: np.ndarray | None = None  # int [B, h, w], of the super-resolution stage, if it was run; decoded
    # by `detokenize(tokens, "superres", finetuned=True)` where there is a fine-tuned decoder
    superres_trace: Trace | None = None


class Plan(NamedTuple):
    """How a Muse draws."""

    stages: dict[str, Sampling]  # of each stage in order: base, superres
    finetuned: bool  # whether the fine-tuned decoder makes the pixels
    on_step: OnStep | None = None  # called after every step


class Muse:
    """All stages of one checkpoint, ready to draw.

    text        TextEncoder
    configs     {"tokenizer": VQGANConfig, "base": TransformerConfig}; for the cascade superres_tokenizer, superres and
                superres_decoder, too, and critic, if there is one (STAGES)
    models      their modules, by stage
    sampling    what `generate` uses where nothing else is given, by stage
    about       what else config.json says, such as what it was trained on; `save` keeps it
    folder      where the checkpoint was read from, if it was
    """

    def __init__(
        self,
        text: TextEncoder,
        configs: dict[str, Any],
        models: dict[str, Any],
        sampling: dict[str, Sampling],
        text_name: str,
        *,
        about: dict[str, Any] | None = None,
        folder: Path | None = None,
    ):
        self.text, self.configs, self.models, self.sampling = text, configs, models, sampling
        self.text_name, self.about, self.folder = text_name, about or {}, folder
        check_agreement(configs)
        if "superres" in configs and "superres_tokenizer" not in configs:
            raise ValueError("There is a super-resolution transformer, but no superres_tokenizer to decode its tokens.")
        if text.width != configs["base"].text_width:
            raise ValueError(
                f"The text encoder {text_name!r} gives vectors of {text.width} numbers; this base transformer was "
                f"trained on {configs['base'].text_width}. Use the encoder it was trained with."
            )

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike = "tiny",
        *,
        superres: bool = True,
        revision: str | None = None,
        dtype: str = "float32",
        style: "str | os.PathLike | style.Style | None" = None,
    ) -> "Muse":
        """Read a checkpoint: a preset's name (data/checkpoints/NAME), any folder of the same form, or a model of the
        Hugging Face Hub of that form, "user/name". Only its weights, tokenizer and config.json are downloaded.

        superres    False leaves the super-resolution stage out: pictures are then those of the base stage
        revision    of a model of the Hub: a branch, a tag or a commit
        dtype       what the transformers compute in, text encoder and tokenizers stay in float32: float32; bfloat16,
                    for TPUs and newer GPUs; float16, for older GPUs such as the T4
        style       what to draw in, as `with_style` takes it; None: as the checkpoint was trained

        FileNotFoundError for a missing folder, file or model, ValueError for one that does not fit its config.json; of
        the Hub also PermissionError without access, and ConnectionError if it cannot be reached.
        """
        if dtype not in DTYPES:
            raise ValueError(f"There is no dtype {as_given(dtype)}; there are {', '.join(DTYPES)}.")
        folder = find_checkpoint(name, revision)
        values = read_config(folder)
        missing = [key for key in ("text", *STAGES) if key not in values and key not in OPTIONAL]
        if missing:
            raise ValueError(f"{folder / 'config.json'} has no {', '.join(missing)}: are all stages trained?")
        there = {stage: config_cls for stage, (config_cls, _) in STAGES.items() if stage in values}
        if not superres:
            there = {stage: config_cls for stage, config_cls in there.items() if stage not in CASCADE}
        configs = {stage: from_dict(config_cls, values[stage]) for stage, config_cls in there.items()}
        models = {
            stage: load_weights(folder / f"{stage}.safetensors", build(stage, config))
            for stage, config in configs.items()
        }
        if dtype != "float32":
            models |= {stage: layers.cast(models[stage], dtype) for stage in TOKENIZERS if stage in models}
        if not isinstance(values["text"], str):
            raise ValueError(
                f"text is the name or the folder of a text encoder; it was {as_given(values['text'])} in {folder}."
            )
        # A run folder keeps its own text encoder beside the weights.
        beside = folder / values["text"]
        text = TextEncoder.from_pretrained(str(beside) if beside.is_dir() else values["text"])
        text_name = str(beside.resolve()) if beside.is_dir() else values["text"]
        sampling = sampling_from_dict(values.get("sampling", {}))
        parts = {"format", "text", "sampling", *STAGES}  # and the baselines, each of which has a file of its own
        about = {k: v for k, v in values.items() if k not in parts and not (folder / f"{k}.safetensors").is_file()}
        muse = cls(text, configs, models, sampling, text_name, about=about, folder=folder)
        return muse if style is None else muse.with_style(style)

    def save(self, folder: str | os.PathLike, **about: Any) -> None:
        """Write a checkpoint folder that `from_pretrained` reads; `about` goes into config.json (how it was made), over
        what the checkpoint's own config.json said.

        All of it or nothing: a checkpoint that is there already stays as it was until all files are written. A text
        encoder that is a folder of its own, as in a run, is copied to its subfolder `text`.
        """
        folder, text_name = to_path(folder, "A checkpoint folder"), self.text_name
        folder.mkdir(parents=True, exist_ok=True)
        copied = []
        if Path(text_name).is_absolute():
            copied = [file for file in Path(text_name).iterdir() if file.suffix in (".json", ".safetensors")]
            (folder / "text").mkdir(exist_ok=True)
            text_name = "text"
        configs = {stage: dataclasses.asdict(config) for stage, config in self.configs.items()}
        sampling = sampling_to_dict(self.sampling)
        config = dict(format=FORMAT, text=text_name, **configs, sampling=sampling, **self.about | about)
        with contextlib.ExitStack() as stack:  # files take their names at its end, config.json the last of them
            partial = lambda path: stack.enter_context(atomic_path(path))
            partial(folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            for file in copied:
                shutil.copyfile(file, partial(folder / "text" / file.name))
            for stage, model in self.models.items():
                save_weights(partial(folder / f"{stage}.safetensors"), model)

    @property
    def defaults(self) -> dict[str, Any]:
        """What `generate` uses where nothing else is given, as its options: pairs of base and super-resolution stage,
        or single values if that stage is missing, or where an option is the same for both."""
        names, base = SampleOptions.__annotations__, self.sampling["base"]
        if "superres" not in self.configs:
            return {name: getattr(base, name) for name in names}
        pairs = {name: (getattr(base, name), getattr(self.sampling["superres"], name)) for name in names}
        return {name: pair if name in BASE_ONLY or pair[0] != pair[1] else pair[0] for name, pair in pairs.items()}

    def generate(
        self,
        captions: str | Sequence[str],
        n: int = 1,
        seed: int | Sequence[int] = 0,
        *,
        index: int | Sequence[int] = 0,
        negative: str | Sequence[str] | None = None,
        superres: bool | None = None,
        finetuned: bool | None = None,
        trace: bool = False,
        on_step: OnStep | None = None,
        **options: Unpack[SampleOptions],
    ) -> np.ndarray | Generation:
        """Draw n images of every caption: uint8 [len(captions) * n, H, W, 3], the images of a caption side by side.

        seed         same seed, same device, same pictures; image i depends on (seed, i) only, not on the batch
        index        the first i: `index=3` draws image 3 of the seed without the three before it. A list of seeds, of
                     indices or of both has one per caption, whose images are index, index + 1, ... of its own seed
        negative     one caption for all or one each, of what should not be seen; takes the unguided half's place
        superres     whether the base's tokens are raised to the higher resolution; None: if the checkpoint can
        finetuned    whether the fine-tuned decoder makes the pixels; None: if the checkpoint has one
        trace        return a Generation, with the tokens and every step of each stage
        on_step      called with a `stepwise.Step` after every step of each stage; the pictures stay the same. The steps
                     are then separate programs, which takes longer. What it raises ends the drawing
        options      steps, guidance, ramp, temperature, token_temperature, top_k, law, order, guided_from, guided_to,
                     revise and critic, see SampleOptions; each is one value, or a pair for the base and the
                     super-resolution stage
        """
        plan = self.plan(superres, finetuned, options, on_step)
        prompts, tokens, traces = self.prompts(captions, n, seed, negative, index=index), [], []
        for stage, sampling in plan.stages.items():
            inputs = self.stage_inputs(stage, prompts, tokens[-1] if tokens else None)
            found, record = sample_stage(self, stage, sampling, inputs, on_step=plan.on_step, trace=bool(trace))
            tokens.append(found.reshape(-1, *self.configs[stage].grid))
            traces.append(record)
        images = np.asarray(self.detokenize(tokens[-1], stage, finetuned=plan.finetuned))
        if not trace:
            return images
        traces = jax.tree.map(np.asarray, traces)
        return Generation(images, tokens[0], traces[0], *tokens[1:], *traces[1:])

    def plan(
        self,
        superres: bool | None = None,
        finetuned: bool | None = None,
        options: SampleOptions = NONE,
        on_step: OnStep | None = None,
    ) -> Plan:
        """How `generate` and editing draw: with these options, or the checkpoint's own where there are none."""
        superres = self._there(superres, "superres", "super-resolution stage", "superres")
        if finetuned and not superres:
            raise ValueError("The fine-tuned decoder is that of the super-resolution stage, which is left out here.")
        finetuned = superres and self._there(finetuned, "superres_decoder", "fine-tuned decoder", "finetuned")
        stages = {}
        for i, stage in enumerate(("base", "superres") if superres else ("base",)):
            config = self.configs[stage]
            chosen = prompting.with_options(self.sampling[stage], options, i)
            if chosen.critic and stage != "base":
                raise ValueError(
                    f"The critic is of the base stage; it was critic={as_given(chosen.critic)} for {stage}."
                )
            self._there(chosen.critic, "critic", "token critic", "critic, or train one")
            stages[stage] = check_sampling(chosen, math.prod(config.grid), config.codebook_size)
        return Plan(stages, finetuned, on_step)

    def critic_for(self, sampling: Sampling) -> TokenCritic | None:
        """The token critic, if this record of a plan uses it."""
        return self.models["critic"] if sampling.critic else None

    def stage_inputs(
        self, stage: str, prompts: Prompts, low: np.ndarray | None = None, start: np.ndarray | None = None
    ) -> tuple[Prompts, jax.Array | None, jax.Array | None]:
        """What `sample_tokens` takes for a stage: prompts, and low and start, int [B, h, w], as [B, N]."""
        if stage == "superres":  # so that it does not repeat the base's randomness
            prompts = prompts._replace(keys=other_keys(prompts.keys, np.uint32(2**31)))
        flat = lambda x: None if x is None else jnp.asarray(x).reshape(len(prompts.keys), -1)
        return prompts, flat(low), flat(start)

    prompts = prompting.prompts
    inpaint, outpaint = editing.inpaint, editing.outpaint
    vary, interpolate = editing.vary, editing.interpolate
    edit, find_mask = mask_free.edit, mask_free.find_mask
    push_to_hub, with_style = sharing.push_to_hub, style.muse_with_style

    def _there(self, wanted: bool | None, stage: str, what: str, name: str) -> bool:
        """Whether to run an optional stage: as requested; by default, if the checkpoint has it."""
        if wanted and stage not in self.configs:
            raise ValueError(f"This checkpoint has no {what}; leave out {name}.")
        return stage in self.configs if wanted is None else bool(wanted)

    def _tokenizer(self, stage: str) -> str:
        check_jax()
        name = TOKENIZERS.get(stage) if isinstance(stage, str) else None
        if name not in self.configs:
            there = [stage for stage, name in TOKENIZERS.items() if name in self.configs]
            raise ValueError(
                f"There is no tokenizer for the stage {as_given(stage)}; this checkpoint has {', '.join(there)}."
            )
        return name

    def tokenizer_config(self, stage: str = "base") -> VQGANConfig:
        """The config of the tokenizer whose tokens the stage predicts."""
        return self.configs[self._tokenizer(stage)]

    def detokenize(self, tokens: np.ndarray | jax.Array, stage: str = "base", *, finetuned: bool = False) -> jax.Array:
        """Tokens int [B, h, w], or [B, N] of the trained grid, -> pixels uint8 [B, H, W, 3]. ValueError for others.

        stage        base or superres, whose tokens they are
        finetuned    with the fine-tuned decoder of the super-resolution tokenizer (section 2.5), which `generate` uses
                     where there is one; else with the tokenizer's own
        """
        name = self._tokenizer(stage)
        decoder, own = self.models[name].decoder, self.configs[name]
        if finetuned:
            if stage != "superres" or "superres_decoder" not in self.configs:
                raise ValueError(f"This checkpoint has no fine-tuned decoder for the stage {as_given(stage)}.")
            decoder, own = self.models["superres_decoder"], self.configs["superres_decoder"]
        ids = check_tokens(tokens, self.configs[name].codebook_size, own.image_size // own.factor)
        return draw_pixels(decoder, self.models[name].codebook[...], ids)

    def tokenize(self, images: np.ndarray, stage: str = "base") -> np.ndarray:
        """Pixels uint8 [B, H, W, 3] -> tokens int [B, h, w], by the base or the super-resolution tokenizer."""
        images = whole(images, "Images")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"Images must be uint8 [B, H, W, 3]; these are {images.dtype} {list(images.shape)}.")
        return np.asarray(read_tokens(self.models[self._tokenizer(stage)], images))
