"""The pipeline: a caption to pixels (paper section 2), and its weights on disk.

A checkpoint folder holds config.json, tokenizer.safetensors and base.safetensors, float16. Nothing is ever unpickled.
"""

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
from flax import nnx

from minimuse.config import SampleConfig, from_dict
from minimuse.decoding import ORDERS, Trace, both_halves, guide, order_ranks, parallel_decode
from minimuse.files import whole, write_text
from minimuse.masking import LAWS
from minimuse.t5 import TextEncoder
from minimuse.vqgan import to_float, to_uint8
from minimuse.weights import (
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

# --- sampling -------------------------------------------------------------------------------------------------------


STATIC = ("graphdef", "grid", "mask_id", "guided", "order", "steps", "top_k", "law", "trace")


@functools.partial(jax.jit, static_argnames=STATIC)
def sample_base(graphdef, params, text, negative, keys, options, *, grid, mask_id, guided, order, **static):
    """Draw base tokens: the whole of parallel decoding with guidance as one program.

    text, negative   (embeddings [B, S, text_width], mask bool [B, S]); the negative takes the unconditional half's
                     place, and its mask is all False when there is none
    options, static  for `parallel_decode`: numbers that need no compiling anew (guidance, ramp, both temperatures), and
                     what does (steps, top_k, law, trace)
    -> tokens int [B, N], Trace or None
    """
    model = nnx.merge(graphdef, params)
    batch = keys.shape[0]
    if guided:
        text = both_halves(text, negative)
    embeddings, text_mask = text
    keys_values = model.text_keys_values(embeddings)

    def logits_fn(tokens, t):
        if not guided:
            return model(tokens, keys_values, text_mask)
        logits = model(both_halves(tokens, tokens), keys_values, text_mask)
        return guide(logits[:batch], logits[batch:], t)

    tokens = jnp.full((batch, grid[0] * grid[1]), mask_id, jnp.int32)
    ranks = order_ranks(order, grid, keys)
    return parallel_decode(logits_fn, tokens, keys, mask_id=mask_id, ranks=ranks, **static, **options)


@functools.partial(jax.jit, static_argnames=("graphdef", "grid"))
def draw_pixels(graphdef, params: dict, tokens: jax.Array, *, grid: tuple[int, int]) -> jax.Array:
    """Tokens int [B, N] -> pixels uint8 [B, H, W, 3]."""
    return to_uint8(nnx.merge(graphdef, params).detokenize(tokens.reshape(-1, *grid)))


class Generation(NamedTuple):
    """What `Muse.generate(..., trace=True)` returns."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    tokens: np.ndarray  # int [B, h, w]
    trace: Trace  # each step's tokens, confidence and hidden places


def _whole(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def checked(numbers: dict) -> dict[str, float]:
    """Guidance and temperatures as floats, or a ValueError that says what is wrong."""
    numbers = {name: float(value) for name, value in numbers.items()}
    if not all(0 <= value < math.inf for value in numbers.values()):  # false for nan, too
        told = ", ".join(f"{name} was {value}" for name, value in numbers.items())
        raise ValueError(f"guidance and temperatures must be finite and cannot be negative; {told}.")
    if numbers.get("token_temperature") == 0:
        raise ValueError("token_temperature divides the logits and cannot be 0; a small one, 0.01, does the same.")
    return numbers


def whole_number(name: str, value, low: int, high: int) -> int:
    """`value` as an int from low to high, or a ValueError that says what is wrong."""
    if not _whole(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}; it was {value!r}.")
    return int(value)


def _strings(captions, what: str) -> list[str]:
    given = [captions] if isinstance(captions, str) else captions
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(c, str) for c in given):
        raise ValueError(f"{what} must be a string or a list of at least one string; it was {captions!r}.")
    return list(given)


class Muse:
    """All stages of one checkpoint, ready to draw.

    text        TextEncoder
    configs     {"tokenizer": VQGANConfig, "base": TransformerConfig}
    params      nested dicts of weights, by stage
    sampling    SampleConfig, what `generate` uses when it is not told otherwise
    """

    def __init__(self, text: TextEncoder, configs: dict, params: dict, sampling: SampleConfig, text_name: str):
        self.text, self.configs, self.params, self.sampling = text, configs, params, sampling
        self.text_name = text_name
        sizes = {stage: configs[stage].codebook_size for stage in ("tokenizer", "base")}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"These stages were not trained together: their codebooks have {sizes} codes.")
        self.graphdefs = {stage: abstract(stage, config)[0] for stage, config in configs.items()}
        if text.width != configs["base"].text_width:
            raise ValueError(
                f"The text encoder {text_name!r} gives vectors of {text.width} numbers; this base transformer was "
                f"trained on {configs['base'].text_width}. Use the encoder it was trained with."
            )

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike = "tiny") -> "Muse":
        """Read a checkpoint: a preset's name (data/checkpoints/NAME) or any folder of the same form.

        FileNotFoundError for a missing folder or file, ValueError for one that does not fit its config.json.
        """
        folder = find_checkpoint(name)
        values = read_config(folder)
        missing = [key for key in ("text", *STAGES) if key not in values and key not in OPTIONAL]
        if missing:
            raise ValueError(f"{folder / 'config.json'} has no {', '.join(missing)}: are all stages trained?")
        there = {stage: config_cls for stage, (config_cls, _) in STAGES.items() if stage in values}
        configs = {stage: from_dict(config_cls, values[stage]) for stage, config_cls in there.items()}
        params = {
            stage: load_weights(folder / f"{stage}.safetensors", abstract(stage, config)[1])
            for stage, config in configs.items()
        }
        # A run folder keeps its own text encoder beside the weights.
        beside = folder / values["text"]
        text = TextEncoder.from_pretrained(str(beside) if beside.is_dir() else values["text"])
        text_name = str(beside.resolve()) if beside.is_dir() else values["text"]
        return cls(text, configs, params, from_dict(SampleConfig, values.get("sampling", {})), text_name)

    def save(self, folder: str | os.PathLike, **about) -> None:
        """Write a checkpoint folder that `from_pretrained` reads; `about` goes into config.json (how it was made).

        A text encoder that is a folder of its own, as in a run, is copied to its subfolder `text`.
        """
        folder, text_name = Path(folder), self.text_name
        folder.mkdir(parents=True, exist_ok=True)
        if Path(text_name).is_absolute():
            for file in Path(text_name).iterdir():
                if file.suffix in (".json", ".safetensors"):
                    (folder / "text").mkdir(exist_ok=True)
                    with whole(folder / "text" / file.name) as partial:
                        shutil.copyfile(file, partial)
            text_name = "text"
        for stage, params in self.params.items():
            save_weights(folder / f"{stage}.safetensors", params)
        configs = {stage: dataclasses.asdict(config) for stage, config in self.configs.items()}
        sampling = dataclasses.asdict(self.sampling)
        config = dict(format=FORMAT, text=text_name, **configs, sampling=sampling, **about)
        write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")

    @property
    def defaults(self) -> dict:
        """What `generate` draws with when it is not told otherwise."""
        return {name: value for name, value in dataclasses.asdict(self.sampling).items() if name != "text_length"}

    def _encode(self, captions: list[str]) -> tuple[jax.Array, jax.Array]:
        """Text embeddings [B, S, width] and mask [B, S]; an empty caption has an empty mask, as in training."""
        embeddings, mask = self.text.encode(captions, length=self.sampling.text_length)
        given = np.array([bool(caption.strip()) for caption in captions])[:, None]
        return jnp.asarray(embeddings), jnp.asarray(np.asarray(mask) & given)

    def prompts(self, captions: str | list[str], n: int, seed: int, negative: str | list[str] | None) -> tuple:
        """What a sampler reads, every caption n times: text and negative, each (embeddings [B, S, width], mask bool
        [B, S]), and a random key an image [B]. ValueError for what `generate` does not take."""
        captions = _strings(captions, "A caption")
        if not _whole(n) or n < 1:
            raise ValueError(f"n is the number of images of each caption, 1 or more; it was {n!r}.")
        seed = whole_number("seed", seed, 0, 2**32 - 1)
        negatives = _strings("" if negative is None else negative, "A negative caption")
        if len(negatives) not in (1, len(captions)):
            raise ValueError(f"{len(negatives)} negative captions for {len(captions)} captions; give one, or one each.")
        negatives = negatives * (len(captions) // len(negatives))
        repeat = functools.partial(jax.tree.map, lambda x: jnp.repeat(x, n, axis=0))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(len(captions) * n))
        return repeat(self._encode(captions)), repeat(self._encode(negatives)), keys

    def generate(
        self,
        captions: str | list[str],
        n: int = 1,
        seed: int = 0,
        *,
        steps: int | tuple[int, int] | None = None,
        guidance: float | None = None,
        ramp: bool | None = None,
        negative: str | list[str] | None = None,
        temperature: float | None = None,
        token_temperature: float | None = None,
        top_k: int | None = None,
        law: str | None = None,
        order: str | None = None,
        superres: bool | None = None,
        trace: bool = False,
    ) -> np.ndarray | Generation:
        """Draw n images of every caption: uint8 [len(captions) * n, H, W, 3], a caption's images side by side.

        seed         same seed, same device, same pictures; image i depends on (seed, i) alone, not on the batch
        steps        decoding steps of the base (and of the super-resolution) stage
        guidance     t of equation 1 at the last step; 0 leaves out the unguided half
        ramp         whether t rises linearly to that, or is the same at all steps
        negative     one caption for all or one each, of what should not be seen; takes the unguided half's place
        temperature  of the noise on the confidence; more gives more variety and less order
        token_temperature   of the tokens: 1 draws them as the model's probabilities say, less prefers the likelier
        top_k        draw tokens from so many likeliest codes alone; 0: from all
        law          of the decode schedule: cosine or another of masking.LAWS
        order        in which places are revealed: confidence, halton or random; the last two need no temperature
        superres     None: if the checkpoint has that stage
        trace        return a Generation, with tokens and every step
        """
        if superres:
            raise ValueError("This checkpoint has no super-resolution stage; leave superres out.")
        given = dict(guidance=guidance, temperature=temperature, token_temperature=token_temperature)
        options = checked({k: getattr(self.sampling, k) if v is None else v for k, v in given.items()})
        options["ramp"] = bool(self.sampling.ramp if ramp is None else ramp)
        order, law = order or self.sampling.order, law or self.sampling.law
        for name, value, known in (("order", order, ORDERS), ("law", law, tuple(LAWS))):
            if value not in known:
                raise ValueError(f"There is no {name} {value!r}; there are {', '.join(known)}.")
        top_k = self.sampling.top_k if top_k is None else top_k
        top_k = whole_number("top_k", top_k, 0, self.configs["base"].codebook_size)
        static = dict(steps=self._base_steps(steps), top_k=top_k, law=law, trace=bool(trace))
        text, negative, keys = self.prompts(captions, n, seed, negative)
        grid = self.configs["base"].grid
        tokens, steps_taken = sample_base(
            self.graphdefs["base"],
            self.params["base"],
            text,
            negative,
            keys,
            options,
            grid=grid,
            mask_id=self.configs["base"].codebook_size,
            guided=options["guidance"] > 0,
            order=order,
            **static,
        )
        images = np.asarray(self.detokenize(tokens.reshape(-1, *grid)))
        if not trace:
            return images
        return Generation(images, np.asarray(tokens).reshape(-1, *grid), jax.tree.map(np.asarray, steps_taken))

    def _base_steps(self, steps) -> int:
        """Decoding steps of the base stage, of what `generate` was given or of the checkpoint's own."""
        steps = self.sampling.steps if steps is None else steps
        base_steps = steps[0] if isinstance(steps, (tuple, list)) and steps else steps
        return whole_number("steps", base_steps, 1, math.prod(self.configs["base"].grid))

    def _tokenizer(self, stage: str) -> str:
        name = TOKENIZERS.get(stage)
        if name not in self.configs:
            there = [stage for stage, name in TOKENIZERS.items() if name in self.configs]
            raise ValueError(f"There is no tokenizer for the stage {stage!r}; this checkpoint has {', '.join(there)}.")
        return name

    def detokenize(self, tokens: jax.Array, stage: str = "base") -> jax.Array:
        """Tokens int [B, h, w], or [B, N] of the trained grid, -> pixels uint8 [B, H, W, 3]; stage: base, superres."""
        name = self._tokenizer(stage)
        side = self.configs[name].image_size // self.configs[name].factor
        grid = (side, side) if tokens.ndim == 2 else tokens.shape[1:]
        tokens = jnp.asarray(tokens).reshape(tokens.shape[0], -1)
        return draw_pixels(self.graphdefs[name], self.params[name], tokens, grid=tuple(grid))

    def tokenize(self, images: np.ndarray, stage: str = "base") -> np.ndarray:
        """Pixels uint8 [B, H, W, 3] -> tokens int [B, h, w], of the base or the super-resolution tokenizer."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"Images must be uint8 [B, H, W, 3]; these are {images.dtype} {list(images.shape)}.")
        name = self._tokenizer(stage)
        return np.asarray(read_tokens(self.graphdefs[name], self.params[name], jnp.asarray(images)))


@functools.partial(jax.jit, static_argnames="graphdef")
def read_tokens(graphdef, params: dict, images: jax.Array) -> jax.Array:
    """Pixels uint8 [B, H, W, 3] -> tokens int [B, h, w]."""
    return nnx.merge(graphdef, params).tokenize(to_float(images))
