"""The pipeline: a caption to pixels (paper section 2), and its weights on disk.

A checkpoint folder holds config.json and one float16 safetensors file a stage: tokenizer and base at least, and for the
cascade superres_tokenizer, superres and superres_decoder. Nothing is ever unpickled.
"""

import contextlib
import dataclasses
import functools
import json
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from minimuse import editing, layers
from minimuse.config import SampleConfig, VQGANConfig, from_dict
from minimuse.decoding import ORDERS, Trace, checked, is_whole, other_keys, sample_tokens, whole_number
from minimuse.files import whole
from minimuse.masking import LAWS
from minimuse.t5 import TextEncoder
from minimuse.vqgan import Decoder, draw_pixels, read_tokens
from minimuse.weights import (
    CASCADE,
    FORMAT,
    OPTIONAL,
    STAGES,
    TOKENIZERS,
    abstract,
    find_checkpoint,
    load_weights,
    read_config,
    save_weights,
)

_numbered = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))  # key [] and numbers [B] -> keys [B], as one program


class Generation(NamedTuple):
    """What `Muse.generate(..., trace=True)` returns."""

    images: np.ndarray  # uint8 [B, H, W, 3], as the last stage drew them
    tokens: np.ndarray  # int [B, h, w], of the base stage
    trace: Trace  # each step's tokens, confidence and hidden places
    superres_tokens: np.ndarray | None = None  # int [B, h, w], of the super-resolution stage, if it was run; decoded
    # by `detokenize(tokens, "superres", finetuned=True)` where there is a fine-tuned decoder
    superres_trace: Trace | None = None


class Plan(NamedTuple):
    """How a Muse draws: what `decoding.sample_tokens` takes beside weights and prompts, for each stage in order."""

    stages: dict[str, tuple[dict, dict]]  # {"base": (numbers, static), "superres": ...}
    finetuned: bool  # whether the fine-tuned decoder makes the pixels


def _strings(captions, what: str) -> list[str]:
    given = [captions] if isinstance(captions, str) else captions
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(c, str) for c in given):
        raise ValueError(f"{what} must be a string or a list of at least one string; it was {captions!r}.")
    return list(given)


# What each stage draws from or into: these sizes have to agree.
AGREE = (
    ("base", "codebook_size", "tokenizer", "codebook_size"),
    ("superres", "codebook_size", "superres_tokenizer", "codebook_size"),
    ("superres", "low_codebook_size", "tokenizer", "codebook_size"),
    ("superres", "low_grid", "base", "grid"),
    ("superres", "text_width", "base", "text_width"),
    ("superres_decoder", "code_dim", "superres_tokenizer", "code_dim"),
)


class Muse:
    """All stages of one checkpoint, ready to draw.

    text        TextEncoder
    configs     {"tokenizer": VQGANConfig, "base": TransformerConfig}; for the cascade superres_tokenizer, superres and
                superres_decoder, too (weights.STAGES)
    params      nested dicts of weights, by stage
    sampling    SampleConfig, what `generate` uses when it is not told otherwise
    """

    def __init__(self, text: TextEncoder, configs: dict, params: dict, sampling: SampleConfig, text_name: str):
        self.text, self.configs, self.params, self.sampling = text, configs, params, sampling
        self.text_name = text_name
        for one, its, other, others in AGREE:
            if one in configs and other in configs:
                sizes = {
                    f"{one}'s {its}": getattr(configs[one], its),
                    f"{other}'s {others}": getattr(configs[other], others),
                }
                if len(set(sizes.values())) > 1:
                    told = " and ".join(f"{name} is {size}" for name, size in sizes.items())
                    raise ValueError(f"These stages were not trained together: {told}.")
        if "superres" in configs and "superres_tokenizer" not in configs:
            raise ValueError("There is a super-resolution transformer, but no superres_tokenizer to make pixels of it.")
        self.graphdefs = {stage: abstract(stage, config)[0] for stage, config in configs.items()}
        if text.width != configs["base"].text_width:
            raise ValueError(
                f"The text encoder {text_name!r} gives vectors of {text.width} numbers; this base transformer was "
                f"trained on {configs['base'].text_width}. Use the encoder it was trained with."
            )

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike = "tiny", *, superres: bool = True) -> "Muse":
        """Read a checkpoint: a preset's name (data/checkpoints/NAME) or any folder of the same form.

        superres    False leaves the super-resolution stage out: pictures are then those of the base stage

        FileNotFoundError for a missing folder or file, ValueError for one that does not fit its config.json.
        """
        folder = find_checkpoint(name)
        values = read_config(folder)
        missing = [key for key in ("text", *STAGES) if key not in values and key not in OPTIONAL]
        if missing:
            raise ValueError(f"{folder / 'config.json'} has no {', '.join(missing)}: are all stages trained?")
        there = {stage: config_cls for stage, (config_cls, _) in STAGES.items() if stage in values}
        if not superres:
            there = {stage: config_cls for stage, config_cls in there.items() if stage not in CASCADE}
        configs = {stage: from_dict(config_cls, values[stage]) for stage, config_cls in there.items()}
        params = {
            stage: load_weights(folder / f"{stage}.safetensors", abstract(stage, config)[1])
            for stage, config in configs.items()
        }
        if not isinstance(values["text"], str):
            raise ValueError(
                f"text is the name or the folder of a text encoder; it was {values['text']!r} in {folder}."
            )
        # A run folder keeps its own text encoder beside the weights.
        beside = folder / values["text"]
        text = TextEncoder.from_pretrained(str(beside) if beside.is_dir() else values["text"])
        text_name = str(beside.resolve()) if beside.is_dir() else values["text"]
        return cls(text, configs, params, from_dict(SampleConfig, values.get("sampling", {})), text_name)

    def save(self, folder: str | os.PathLike, **about) -> None:
        """Write a checkpoint folder that `from_pretrained` reads; `about` goes into config.json (how it was made).

        All of it or nothing: a checkpoint that is there already stays as it was until all files are written. A text
        encoder that is a folder of its own, as in a run, is copied to its subfolder `text`.
        """
        folder, text_name = Path(folder), self.text_name
        folder.mkdir(parents=True, exist_ok=True)
        copied = []
        if Path(text_name).is_absolute():
            copied = [file for file in Path(text_name).iterdir() if file.suffix in (".json", ".safetensors")]
            (folder / "text").mkdir(exist_ok=True)
            text_name = "text"
        configs = {stage: dataclasses.asdict(config) for stage, config in self.configs.items()}
        sampling = dataclasses.asdict(self.sampling)
        config = dict(format=FORMAT, text=text_name, **configs, sampling=sampling, **about)
        with contextlib.ExitStack() as stack:  # files take their names at its end, config.json the last of them
            partial = lambda path: stack.enter_context(whole(path))
            partial(folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
            for file in copied:
                shutil.copyfile(file, partial(folder / "text" / file.name))
            for stage, params in self.params.items():
                save_weights(partial(folder / f"{stage}.safetensors"), params)

    @property
    def defaults(self) -> dict:
        """What `generate` draws with when it is not told otherwise; a pair is of the base and the next stage."""
        values = {name: value for name, value in dataclasses.asdict(self.sampling).items() if name != "text_length"}
        if "superres" in self.configs:
            return values
        return {name: value[0] if isinstance(value, tuple) else value for name, value in values.items()}

    def _encode(self, captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Text embeddings [B, S, width] and mask [B, S]; an empty caption has an empty mask, as in training."""
        embeddings, mask = self.text.encode(captions, length=self.sampling.text_length)
        given = np.array([bool(caption.strip()) for caption in captions])[:, None]
        return np.asarray(embeddings), np.asarray(mask) & given

    def prompts(self, captions: str | list[str], n: int, seed: int, negative: str | list[str] | None) -> tuple:
        """What a sampler reads, every caption n times: text and negative, each (embeddings [B, S, width], mask bool
        [B, S]), and a random key an image [B]. ValueError for what `generate` does not take."""
        captions = _strings(captions, "A caption")
        if not is_whole(n) or not 1 <= n <= 2**16:
            raise ValueError(f"n is the number of images of each caption, from 1 to {2**16}; it was {n!r}.")
        seed = whole_number("seed", seed, 0, 2**32 - 1)
        negatives = _strings("" if negative is None else negative, "A negative caption")
        if len(negatives) not in (1, len(captions)):
            raise ValueError(f"{len(negatives)} negative captions for {len(captions)} captions; give one, or one each.")
        negatives = negatives * (len(captions) // len(negatives))
        repeat = functools.partial(jax.tree.map, lambda x: jax.device_put(np.repeat(x, n, axis=0)))
        keys = _numbered(jax.random.key(seed), np.arange(len(captions) * n))
        return repeat(self._encode(captions)), repeat(self._encode(negatives)), keys

    def generate(
        self,
        captions: str | list[str],
        n: int = 1,
        seed: int = 0,
        *,
        steps: int | tuple[int, int] | None = None,
        guidance: float | tuple[float, float] | None = None,
        ramp: bool | None = None,
        negative: str | list[str] | None = None,
        temperature: float | tuple[float, float] | None = None,
        token_temperature: float | tuple[float, float] | None = None,
        top_k: int | None = None,
        law: str | None = None,
        order: str | None = None,
        superres: bool | None = None,
        finetuned: bool | None = None,
        trace: bool = False,
    ) -> np.ndarray | Generation:
        """Draw n images of every caption: uint8 [len(captions) * n, H, W, 3], a caption's images side by side.

        seed         same seed, same device, same pictures; image i depends on (seed, i) alone, not on the batch
        steps        decoding steps
        guidance     t of equation 1 at the last step; 0 leaves out the unguided half
        ramp         whether t rises linearly to that, or is the same at all steps
        negative     one caption for all or one each, of what should not be seen; takes the unguided half's place
        temperature  of the noise on the confidence; more gives more variety and less order
        token_temperature   of the tokens: 1 draws them as the model's probabilities say, less prefers the likelier
        top_k        draw tokens from so many likeliest codes alone; 0: from all
        law          of the decode schedule: cosine or another of masking.LAWS
        order        in which places are revealed: confidence, halton or random; the last two need no temperature
        superres     whether the base's tokens are raised to the higher resolution; None: if the checkpoint can
        finetuned    whether its pixels come from the fine-tuned decoder; None: if the checkpoint has one
        trace        return a Generation, with the tokens and every step of each stage

        Of steps, guidance and both temperatures a single number is the base stage's; a pair sets that of the
        super-resolution stage, too, and None in a pair is the checkpoint's own.
        """
        plan = self.plan(
            steps=steps,
            guidance=guidance,
            ramp=ramp,
            temperature=temperature,
            token_temperature=token_temperature,
            top_k=top_k,
            law=law,
            order=order,
            superres=superres,
            finetuned=finetuned,
        )
        prompts, tokens, traces = self.prompts(captions, n, seed, negative), [], []
        for stage in plan.stages:
            drawn, steps_taken = self.sample(plan, stage, prompts, low=tokens[-1] if tokens else None, trace=trace)
            tokens.append(drawn.reshape(-1, *self.configs[stage].grid))
            traces.append(steps_taken)
        images = np.asarray(self.detokenize(tokens[-1], stage, finetuned=plan.finetuned))
        if not trace:
            return images
        tokens, traces = jax.tree.map(np.asarray, (tokens, traces))
        return Generation(images, tokens[0], traces[0], *tokens[1:], *traces[1:])

    def plan(
        self,
        *,
        steps=None,
        guidance=None,
        ramp=None,
        temperature=None,
        token_temperature=None,
        top_k=None,
        law=None,
        order=None,
        superres=None,
        finetuned=None,
    ) -> Plan:
        """What `generate` and editing draw with: these settings, or the checkpoint's own where they are None."""
        superres = self._there(superres, "superres", "super-resolution stage", "superres")
        if finetuned and not superres:
            raise ValueError("The fine-tuned decoder is that of the super-resolution stage, which is left out here.")
        finetuned = superres and self._there(finetuned, "superres_decoder", "fine-tuned decoder", "finetuned")
        pairs = dict(steps=steps, guidance=guidance, temperature=temperature, token_temperature=token_temperature)
        pairs = {name: self._pair(name, value) for name, value in pairs.items()}
        own = self.sampling
        order, law = own.order if order is None else order, own.law if law is None else law
        for name, value, known in (("order", order, ORDERS), ("law", law, tuple(LAWS))):
            if not isinstance(value, str) or value not in known:
                raise ValueError(f"There is no {name} {value!r}; there are {', '.join(known)}.")
        stages = {}
        for i, stage in enumerate(("base", "superres") if superres else ("base",)):
            numbers = checked({name: pair[i] for name, pair in pairs.items() if name != "steps"})
            numbers["ramp"] = bool(own.ramp if ramp is None else ramp)
            taken = whole_number("steps", pairs["steps"][i], 1, math.prod(self.configs[stage].grid))
            most = whole_number("top_k", own.top_k if top_k is None else top_k, 0, self.configs[stage].codebook_size)
            static = dict(guided=numbers["guidance"] > 0, order=order, steps=taken, top_k=most, law=law)
            stages[stage] = numbers, static
        return Plan(stages, finetuned)

    def sample(self, plan: Plan, stage: str, prompts: tuple, *, low=None, start=None, trace: bool = False) -> tuple:
        """Tokens int [B, N] of one stage, and its Trace or None.

        prompts    of `prompts`
        low        the base's tokens [B, h, w], for the stage superres
        start      tokens [B, h, w] of this stage, of which those that are its mask_id are drawn; None: all are
        """
        (text, negative, keys), (numbers, static) = prompts, plan.stages[stage]
        if stage == "superres":  # each stage draws of its own, whatever the other does
            keys = other_keys(keys, np.uint32(2**31))
        low, start = (None if x is None else jnp.asarray(x).reshape(len(keys), -1) for x in (low, start))
        weights = self.graphdefs[stage], self.params[stage]
        return sample_tokens(*weights, text, negative, keys, numbers, low, start, trace=bool(trace), **static)

    inpaint, outpaint, edit = editing.inpaint, editing.outpaint, editing.edit
    vary, interpolate = editing.vary, editing.interpolate

    def _there(self, wanted: bool | None, stage: str, what: str, name: str) -> bool:
        """Whether to run an optional stage: as is wanted, or if it is there."""
        if wanted and stage not in self.configs:
            raise ValueError(f"This checkpoint has no {what}; leave {name} out.")
        return stage in self.configs if wanted is None else bool(wanted)

    def _pair(self, name: str, value) -> tuple:
        """A setting of the base and of the super-resolution stage, of what `generate` was given or the checkpoint's."""
        own = getattr(self.sampling, name)
        if value is None:
            return own
        if not isinstance(value, (tuple, list)):
            return value, own[1]
        if len(value) != 2:
            raise ValueError(
                f"{name} is one number, or a pair for the base and super-resolution stage; it was {value!r}."
            )
        return tuple(mine if part is None else part for part, mine in zip(value, own))

    def _tokenizer(self, stage: str) -> str:
        name = TOKENIZERS.get(stage)
        if name not in self.configs:
            there = [stage for stage, name in TOKENIZERS.items() if name in self.configs]
            raise ValueError(f"There is no tokenizer for the stage {stage!r}; this checkpoint has {', '.join(there)}.")
        return name

    def tokenizer_config(self, stage: str = "base") -> VQGANConfig:
        """That of the tokenizer whose tokens the stage draws."""
        return self.configs[self._tokenizer(stage)]

    def detokenize(self, tokens: jax.Array, stage: str = "base", *, finetuned: bool = False) -> jax.Array:
        """Tokens int [B, h, w], or [B, N] of the trained grid, -> pixels uint8 [B, H, W, 3].

        stage        base or superres, whose tokens they are
        finetuned    with the fine-tuned decoder of the super-resolution tokenizer (section 2.5), which `generate` uses
                     where there is one; else with the tokenizer's own
        """
        name = self._tokenizer(stage)
        decoder, own = self.params[name]["decoder"], self.configs[name]
        if finetuned:
            if stage != "superres" or "superres_decoder" not in self.configs:
                raise ValueError(f"This checkpoint has no fine-tuned decoder for the stage {stage!r}.")
            decoder, own = self.params["superres_decoder"], self.configs["superres_decoder"]
        tokens, side = jnp.asarray(tokens), own.image_size // own.factor
        if tokens.ndim == 2:
            tokens = tokens.reshape(-1, side, side)
        return draw_pixels(layers.abstract(Decoder, own)[0], decoder, self.params[name]["codebook"], tokens)

    def tokenize(self, images: np.ndarray, stage: str = "base") -> np.ndarray:
        """Pixels uint8 [B, H, W, 3] -> tokens int [B, h, w], of the base or the super-resolution tokenizer."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"Images must be uint8 [B, H, W, 3]; these are {images.dtype} {list(images.shape)}.")
        name = self._tokenizer(stage)
        return np.asarray(read_tokens(self.graphdefs[name], self.params[name], jnp.asarray(images)))
