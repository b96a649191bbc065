"""The frozen text encoder (paper section 2.1): a T5 encoder that reads Hugging Face folders, and its tokenizer.

T5 v1.0 (relu), v1.1 and FLAN (gated GELU) are the same network except for the MLP and the head. What sets T5 apart from
other transformers: no biases, RMSNorm, attention without 1/sqrt(d), and positions only as a learned bias on the
attention scores, by the distance from query to key; all layers share one table of biases. The decoder, which only
pretraining needs, is in `train/t5_pretraining.py` and built from the same layers.
"""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from minimuse import hub
from minimuse.config import T5Config, data_dir, from_dict
from minimuse.files import as_given, open_arrays, read_json, reading, to_path, write_arrays, write_text
from minimuse.layers import Embed, Linear, abstract, split_heads
from minimuse.processes import check_jax, is_first, to_host
from minimuse.weights import named_arrays, not_finite, not_floating, with_arrays

# The values of what a T5's config.json leaves out; v1.0 folders leave out most of them.
DEFAULTS = dict(
    relative_attention_num_buckets=32,
    relative_attention_max_distance=128,
    layer_norm_epsilon=1e-6,
    feed_forward_proj="relu",
    tie_word_embeddings=True,
)
MLPS = ("relu", "gated-gelu")
# Standard deviation of token vectors before pretraining. T5's own is 1, for Adafactor. With AdamW they start smaller,
# so that what a word learns outweighs its random start; with 0.05 or less, only word frequencies are learned.
INIT_STD = 0.3

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# --- the network ----------------------------------------------------------------------------------------------------


def relative_buckets(
    queries: int, keys: int, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
) -> np.ndarray:
    """The row of the bias table that each pair (query, key) uses: int32 [queries, keys].

    Every short distance has a bucket, longer ones share buckets that grow logarithmically up to max_distance. An
    encoder's keys after the query use the second half of the table; in a decoder there are none.
    """
    distance = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    offset = np.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        offset = np.where(distance > 0, buckets, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    # float32 as in the original: how values at the edge of a bucket round is part of what the weights mean.
    log = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    far = exact + (log / np.float32(np.log(max_distance / exact)) * (buckets - exact)).astype(np.int32)
    return (offset + np.where(distance < exact, distance, np.minimum(far, buckets - 1))).astype(np.int32)


def _linear(width_in: int, width_out: int, rngs: nnx.Rngs, std: float) -> Linear:
    return Linear(width_in, width_out, nnx.initializers.normal(std), rngs=rngs)


class Attention(nnx.Module):
    """Multi-head attention with an added bias and without scaling."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        d, inner, self.heads = config.d_model, config.num_heads * config.d_kv, config.num_heads
        self.q = _linear(d, inner, rngs, (d * config.d_kv) ** -0.5)  # what the missing 1/sqrt(d) would have done
        self.k = _linear(d, inner, rngs, d**-0.5)
        self.v = _linear(d, inner, rngs, d**-0.5)
        self.o = _linear(inner, d, rngs, 0.4 * INIT_STD * inner**-0.5)

    def __call__(self, x: jax.Array, source: jax.Array, bias: jax.Array | None, mask: jax.Array | None) -> jax.Array:
        """x [B, Q, D] attends to source [B, K, D]; bias [1, heads, Q, K] or None, mask bool to [B, heads, Q, K]."""
        q, k, v = (split_heads(y, self.heads) for y in (self.q(x), self.k(source), self.v(source)))
        seen = jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask, scale=1.0)
        return self.o(seen.reshape(*x.shape[:2], -1))


class MLP(nnx.Module):
    """relu(x wi) wo, or gelu(x wi_0) * (x wi_1) wo."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        d, hidden, self.gated = config.d_model, config.d_ff, config.feed_forward_proj == "gated-gelu"
        if self.gated:
            self.wi_0, self.wi_1 = (_linear(d, hidden, rngs, d**-0.5) for _ in range(2))
        else:
            self.wi = _linear(d, hidden, rngs, d**-0.5)
        self.wo = _linear(hidden, d, rngs, 0.4 * INIT_STD * hidden**-0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        if not self.gated:
            return self.wo(nnx.relu(self.wi(x)))
        return self.wo(
            jax.nn.gelu(self.wi_0(x), approximate=True) * self.wi_1(x)
        )  # T5's GELU is the tanh approximation


def _norm(config: T5Config, rngs: nnx.Rngs) -> nnx.RMSNorm:
    return nnx.RMSNorm(config.d_model, epsilon=config.layer_norm_epsilon, rngs=rngs)  # statistics in float32


class Layer(nnx.Module):
    """Self-attention, in a decoder cross-attention to the encoder's output, MLP; each after a norm, each added to x."""

    def __init__(self, config: T5Config, cross: bool = False, *, rngs: nnx.Rngs):
        self.norm, self.attention = _norm(config, rngs), Attention(config, rngs=rngs)
        self.has_cross = cross
        if cross:
            self.cross_norm, self.cross = _norm(config, rngs), Attention(config, rngs=rngs)
        self.mlp_norm, self.mlp = _norm(config, rngs), MLP(config, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        bias: jax.Array,
        mask: jax.Array,
        source: jax.Array | None = None,
        source_mask: jax.Array | None = None,
    ) -> jax.Array:
        normed = self.norm(x)
        x = x + self.attention(normed, normed, bias, mask)
        if self.has_cross and source is not None:
            x = x + self.cross(self.cross_norm(x), source, None, source_mask)
        return x + self.mlp(self.mlp_norm(x))


class Stack(nnx.Module):
    """Layers, the bias table that they share, and the last norm: half of a T5."""

    def __init__(self, config: T5Config, depth: int, decoder: bool, *, rngs: nnx.Rngs):
        self.config, self.decoder = config, decoder
        # Large enough that every head starts with distances of its own.
        std, buckets = nnx.initializers.normal(1.0), config.relative_attention_num_buckets
        self.relative = Embed(buckets, config.num_heads, embedding_init=std, rngs=rngs)
        keys = jax.random.split(rngs.params(), depth)
        self.layers = jax.vmap(lambda key: Layer(config, decoder, rngs=nnx.Rngs(key)))(keys)  # one stack, for lax.scan
        self.norm = _norm(config, rngs)

    def __call__(self, x, mask, source=None, source_mask=None):
        """x [B, S, D], mask bool to [B, 1, S, S], source [B, Z, D], source_mask to [B, 1, S, Z] -> [B, S, D]."""
        length, config = x.shape[1], self.config
        buckets = relative_buckets(
            length,
            length,
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
            bidirectional=not self.decoder,
        )
        bias = self.relative(buckets).transpose(2, 0, 1)[None]  # [1, heads, S, S]
        step = lambda x, layer: (layer(x, bias, mask, source, source_mask), None)
        return self.norm(jax.lax.scan(step, x, self.layers)[0])


class T5Encoder(nnx.Module):
    """Token ids to one vector per token."""

    def __init__(self, config: T5Config, *, rngs: nnx.Rngs):
        std = nnx.initializers.normal(INIT_STD)
        self.embed = Embed(config.vocab_size, config.d_model, embedding_init=std, rngs=rngs)
        self.stack = Stack(config, config.num_layers, decoder=False, rngs=rngs)

    def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """ids int [B, S], mask bool [B, S] (False at padding) -> [B, S, d_model], zero at padding."""
        x = self.stack(self.embed(ids), mask[:, None, None, :])
        return x * mask[..., None]


@jax.jit
def encode(model: T5Encoder, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """The encoder as one compiled program; the weights are arguments, so they are not copied into it."""
    return model(ids, mask)


# --- Hugging Face folders -------------------------------------------------------------------------------------------


def _hf_name(name: str) -> str:
    """A weight's name -> its key in a Hugging Face file; "{}" stands for the number of the layer."""
    path = name.split(".")
    if path[-2] == "embed":
        return "shared.weight"
    if path[0] == "head":
        return "lm_head.weight"
    side, _, *rest = path  # "encoder" or "decoder", "stack"
    if rest[0] == "relative":
        return f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    if rest[0] == "norm":
        return f"{side}.final_layer_norm.weight"
    part, last = rest[1], 1 if side == "encoder" else 2
    place = {"norm": 0, "attention": 0, "cross_norm": 1, "cross": 1, "mlp_norm": last, "mlp": last}[part]
    names = {"attention": "SelfAttention", "cross": "EncDecAttention", "mlp": "DenseReluDense"}
    inner = f"{names[part]}.{rest[2]}" if part in names else "layer_norm"
    return f"{side}.block.{{}}.layer.{place}.{inner}.weight"


def read_t5_config(folder: Path) -> T5Config:
    """The T5Config of a Hugging Face config.json."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no config.json; a T5 folder holds one beside model.safetensors.")
    values = DEFAULTS | read_json(path)
    if values.get("model_type", "t5") not in ("t5", "mt5"):
        raise ValueError(f"{path} is of a model of type {as_given(values['model_type'])}; a text encoder is a T5.")
    if (mlp := values["feed_forward_proj"]) not in MLPS:
        raise ValueError(f"{path}: feed_forward_proj {as_given(mlp)} is not one of {', '.join(MLPS)}.")
    values["num_decoder_layers"] = values.get("num_decoder_layers") or values.get("num_layers")
    names = [field.name for field in dataclasses.fields(T5Config)]
    if missing := [name for name in names if name not in values]:
        raise ValueError(f"{path} has no {', '.join(missing)}; is it a T5's config.json?")
    return from_dict(T5Config, {name: values[name] for name in names})


def _weight_files(folder: Path) -> dict[str, Path]:
    """The file of every weight, by key: model.safetensors, or the shards that its index names."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        with reading(index, "an index of shards"):
            files = {key: folder / Path(file).name for key, file in read_json(index)["weight_map"].items()}
        if missing := sorted({file.name for file in files.values() if not file.is_file()}):
            raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}, which {index.name} names; copy all shards.")
        return files
    if not single.is_file():
        if list(folder.glob("pytorch_model*.bin")):
            raise FileNotFoundError(
                f"{folder} holds only pytorch_model.bin, which is unpickled and so never read here. Convert it once, "
                "where PyTorch is installed: transformers.T5EncoderModel.from_pretrained(this).save_pretrained(new)."
            )
        raise FileNotFoundError(f"{folder} has no model.safetensors; a T5 folder holds it beside config.json.")
    return dict.fromkeys(open_arrays(single).keys(), single)


def find_t5(name: str | os.PathLike) -> Path:
    """The folder of a name: one in data/ ("t5-scenes"), else a local folder, else a model of the Hugging Face Hub."""
    given = to_path(name, "A text encoder")
    for folder in (data_dir() / given, given):
        if folder.is_dir():
            return folder
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", str(name)):
        raise FileNotFoundError(f"There is no folder {str(name)!r} for the text encoder.")
    wanted = ["config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json"]
    return hub.download(str(name), wanted)


def load_encoder(name: str | os.PathLike, dtype: DTypeLike = jnp.float32) -> tuple[T5Config, T5Encoder]:
    """Configuration and encoder half of a T5; only that half is read from disk.

    name    a folder with config.json and model.safetensors (or its shards and their index), or a Hub name
    dtype   of the weights, and so of all computation except the statistics of norms
    FileNotFoundError for a missing folder or file, ValueError for weights that do not fit config.json.
    """
    import ml_dtypes  # noqa: F401  teaches NumPy bfloat16, in which some folders are stored

    check_jax()
    folder = find_t5(name)
    config = read_t5_config(folder)
    files = _weight_files(folder)
    model = abstract(T5Encoder, config)
    opened = {path: open_arrays(path) for path in set(files.values())}

    def read(key: str, expected: tuple[int, ...], transposed: bool) -> np.ndarray:
        if key == "shared.weight" and key not in files:
            key = "encoder.embed_tokens.weight"  # where an encoder saved without its decoder may keep it
        expected = expected[::-1] if transposed else expected  # torch stores a Linear as (out, in)
        if key not in files:
            raise ValueError(f"{folder}: {key} is missing, its config.json requires one of shape {expected}.")
        with reading(files[key], "safetensors"):  # of numbers that NumPy has, for instance not of 8 bits
            value = opened[files[key]].get_tensor(key)
        if wrong := not_floating({key: value}):
            raise ValueError(f"{folder}: weights are floating-point numbers, and it holds {wrong[0]}.")
        if value.shape != expected:
            raise ValueError(f"{folder}: {key} has shape {value.shape}, its config.json requires {expected}.")
        value = (value.T if transposed else value).astype(dtype)
        if not np.isfinite(value).all():
            raise ValueError(f"{folder}: {key} holds NaN or infinite numbers; train or download it again.")
        return value

    arrays = {}
    for name_, leaf in named_arrays(model).items():
        key, transposed = _hf_name(f"encoder.{name_}"), name_.endswith("kernel")
        if "{}" not in key:
            arrays[name_] = read(key, leaf.shape, transposed)
            continue
        stack = np.empty(leaf.shape, dtype)
        for i in range(config.num_layers):
            stack[i] = read(key.format(i), leaf.shape[1:], transposed)
        arrays[name_] = stack
    if (more := f"encoder.block.{config.num_layers}.layer.0.layer_norm.weight") in files:
        raise ValueError(f"{folder}: its config.json says {config.num_layers} layers, its weights have more ({more}).")
    return config, with_arrays(model, jax.device_put(arrays))


def save_t5(folder: str | os.PathLike, config: T5Config, model: nnx.Module | dict[str, nnx.Module]) -> None:
    """Write a `t5_pretraining.T5`, or dict(encoder=T5Encoder), as `transformers.T5ForConditionalGeneration` reads it.

    Weights are stored in float16; a file is written whole or not at all, and only by the first of several processes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, value in named_arrays(model).items():
        key, value = _hf_name(name), to_host(value).astype(np.float16)
        if name.endswith("kernel"):
            value = value.swapaxes(-1, -2)
        pairs = [(key.format(i), v) for i, v in enumerate(value)] if "{}" in key else [(key, value)]
        arrays |= {key: np.ascontiguousarray(v) for key, v in pairs}
    if bad := not_finite(arrays):
        raise ValueError(f"{folder} was not written: {bad[0]} holds numbers that are NaN, or too large for float16.")
    if not is_first():
        return
    about = dict(architectures=["T5ForConditionalGeneration"], model_type="t5", is_encoder_decoder=True)
    about |= dict(dtype="float32", pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, dropout_rate=0.0)
    write_arrays(folder / "model.safetensors", arrays, {"format": "pt"})
    write_text(folder / "config.json", json.dumps(about | dataclasses.asdict(config), indent=1) + "\n")


# --- captions to vectors --------------------------------------------------------------------------------------------


def read_tokenizer(path: Path) -> "Tokenizer":
    """The tokenizer in a tokenizer.json; ValueError for a damaged one."""
    from tokenizers import Tokenizer  # transformers' AutoTokenizer gives the same ids and takes a second to import

    with reading(path, "a tokenizer"):
        return Tokenizer.from_file(str(path))


class TextEncoder:
    """A frozen T5 encoder with its tokenizer. `width` is the length of its vectors."""

    def __init__(self, config: T5Config, model: T5Encoder, tokenizer: "Tokenizer"):
        self.config, self.model, self.tokenizer = config, model, tokenizer
        self.width = config.d_model

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike = "t5-scenes", dtype: DTypeLike = jnp.float32) -> "TextEncoder":
        """Read "t5-scenes" (or another folder in data/), a local folder, or a Hub name ("google/flan-t5-base")."""
        folder = find_t5(name)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no tokenizer.json. If it has a spiece.model, convert it once, where sentencepiece is "
                "installed: transformers.AutoTokenizer.from_pretrained(this).save_pretrained(this)."
            )
        tokenizer = read_tokenizer(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(*load_encoder(folder, dtype), tokenizer)

    def tokenize(self, captions: list[str], length: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 [B, length] and mask bool [B, length]: cut or padded to `length`, the last id is always </s>."""
        given = list(captions) if isinstance(captions, (list, tuple)) else []
        if not given or not all(isinstance(caption, str) for caption in given):
            raise ValueError(f"captions must be a list of at least one string; it was {as_given(captions)}.")
        if length < 1:
            raise ValueError(f"A caption has at least one token, the end of the text; length was {length}.")
        for caption in given:
            try:
                caption.encode()
            except UnicodeEncodeError:  # from an argument that is not UTF-8, for instance
                raise ValueError(
                    f"This caption contains an unpaired surrogate, which is not text: {as_given(caption)}."
                ) from None
        ids = np.zeros((len(given), length), np.int64)
        mask = np.zeros((len(given), length), bool)
        for row, encoding in enumerate(self.tokenizer.encode_batch(given)):
            own = encoding.ids if len(encoding.ids) <= length else encoding.ids[: length - 1] + encoding.ids[-1:]
            ids[row, : len(own)], mask[row, : len(own)] = own, True
        if ids.max() >= (known := self.config.vocab_size):
            raise ValueError(f"tokenizer.json gives the id {ids.max()}, and config.json has {known} ids; use one T5's.")
        return ids.astype(np.int32), mask

    def encode(self, captions: list[str], length: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Vectors float32 [B, length, width], zero at padding, and mask bool [B, length].

        One program is compiled for a batch size and a length, whatever the captions are.
        """
        ids, mask = self.tokenize(captions, length)
        return np.asarray(encode(self.model, ids, mask), np.float32), mask

    def directions(self, captions: list[str]) -> np.ndarray:
        """One vector per caption, to compare captions by their cosine: the mean of its tokens' vectors, scaled to
        length 1, float32 [B, width]."""
        vectors, mask = self.encode(captions)
        means = vectors.sum(1) / mask.sum(1, keepdims=True)
        return means / np.linalg.norm(means, axis=-1, keepdims=True)
