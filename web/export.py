"""The models of a checkpoint as ONNX, for the playground: `make web` runs it in an environment of its own.

    python web/export.py [--checkpoint tiny] [--out web/dist/models]

Each model is one file, NAME.mm.gz: a graph in float32, then its weights, packed as small as pictures allow. The page
unpacks them (web/src/models.js). Only what `PIXELS` names is packed with loss. `models.json` names the files, repeats
what the page needs of the checkpoint's config.json, and lists the words of its captions.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import logging
import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from jax2onnx import to_onnx
from onnx import external_data_helper, numpy_helper

from minimuse import Muse
from minimuse.data import everyday, scenes
from minimuse.files import atomic_path, write_text
from minimuse.layers import split_heads
from minimuse.masking import LAWS
from minimuse.t5 import find_t5, relative_buckets
from minimuse.transformer import BaseTransformer, to_windows
from minimuse.vqgan import unit
from minimuse.weights import fingerprint_of

ROOT = Path(__file__).resolve().parent.parent
PIXELS = ("decoder", "superres_decoder")  # whose weights are rounded to 8 bits: they change pixels, not tokens
LEVELS = 12  # of these roundings in a standard deviation: 45 dB and more between the pictures
CAPTIONS = 1000  # of each grammar that are read for their words
SMALL = 64  # arrays with fewer numbers stay in the graph
Spec = list[Any]


def layers_of(stack: Any, depth: int) -> list[Any]:
    """A stack of blocks as a list of blocks: ONNX Runtime is faster with layers written out than with a loop."""
    return [jax.tree.map(lambda x, i=i: np.asarray(x[i]), stack) for i in range(depth)]


def forward_of(model: BaseTransformer, depth: int) -> Callable:
    """The transformer as (tokens int [B, N], places int [M], keys, values [depth, B, S, heads, d], mask bool [B, S]) ->
    logits [B, M, K] of these places only, and the cross-attention weights [depth, B, heads, N, S].

    With windows, as in super-resolution, there are no attention weights, and whatever follows the last self-attention
    is computed for these places only.
    """
    blocks = layers_of(model.blocks, depth)
    if model.window:
        numbers = jnp.arange(math.prod(model.grid))[None, :, None]
        turns = np.argsort(np.asarray(to_windows(numbers, model.grid, model.window)).ravel()).astype(np.int32)

    def forward(tokens, places, keys, values, mask):
        x, seen = model.embed_tokens(tokens), []
        if model.window:
            x, places = to_windows(x, model.grid, model.window), jnp.take(jnp.asarray(turns), places, axis=0)
        for i, block in enumerate(blocks):
            x = block.self_attention(x)
            if model.window and i == depth - 1:
                x = jnp.take(x, places, axis=1)
            x, weights = cross_attention(block, x, keys[i], values[i], mask)
            x = block.mlp(x)
            seen.append(weights)
        if model.window:
            return model.head(x)
        return model.head(jnp.take(x, places, axis=1)), jnp.stack(seen)

    return forward


def cross_attention(block: Any, x: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array) -> tuple:
    """`block.cross_attention`, and its weights [B, heads, N, S]."""
    q = split_heads(block.cross_q(block.norm2(x)) * (x.shape[-1] // block.heads) ** -0.5, block.heads)
    scores = q.transpose(0, 2, 1, 3) @ keys.transpose(0, 2, 3, 1)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min))
    out = block.cross_out((weights @ values.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3).reshape(x.shape))
    return x + out * jnp.any(mask, -1)[:, None, None], weights


def keys_values_of(model: BaseTransformer, depth: int) -> Callable:
    """`model.text_keys_values`, written out: text [1, S, text_width] -> keys, values [depth, 1, S, heads, d]."""
    blocks = layers_of(model.blocks, depth)

    def keys_values(text):
        white = (text - model.text_mean[...]) @ model.text_whiten[...]
        x = model.text(white) + model.text_positions[...][: text.shape[1]]
        return tuple(jnp.stack(parts) for parts in zip(*(block.keys_values(x) for block in blocks)))

    return keys_values


def functions(muse: Muse) -> dict[str, tuple[Callable, Spec, list[str], list[str]]]:
    """Every model: what it computes, and its inputs' shapes; then the names of inputs and of outputs."""
    f32, i32, flag = np.float32, np.int32, np.bool_
    batch, places = jax.export.symbolic_shape("B, M")
    of = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype)
    base, config = muse.models["base"], muse.configs["base"]
    s, width = config.text_length, config.text_width
    step_names = ["tokens", "places", "keys", "values", "mask"]

    def step_spec(c, length):
        kv = of(f32, c.depth, batch, length, c.heads, c.width // c.heads)
        return [of(i32, batch, math.prod(c.grid)), of(i32, places), kv, kv, of(flag, batch, length)]

    t5, t5_layers = muse.text.model, layers_of(muse.text.model.stack.layers, muse.text.config.num_layers)

    def text(ids, mask):
        stack, c = t5.stack, t5.stack.config
        buckets = relative_buckets(s, s, c.relative_attention_num_buckets, c.relative_attention_max_distance)
        bias = stack.relative(buckets).transpose(2, 0, 1)[None]
        x = t5.embed(ids)
        for layer in t5_layers:
            x = layer(x, bias, mask[:, None, None, :])
        return stack.norm(x) * mask[..., None]

    def pixels(decoder, codebook):
        codes = unit(codebook)
        return lambda tokens: jnp.clip((decoder(codes[tokens]) + 1) / 2, 0, 1)

    tokenizer = muse.models["tokenizer"]
    found = {
        "text": (text, [of(i32, 1, s), of(flag, 1, s)], ["ids", "mask"], ["text"]),
        "condition": (keys_values_of(base, config.depth), [of(f32, 1, s, width)], ["text"], ["keys", "values"]),
        "base": (
            forward_of(base, config.depth),
            step_spec(config, s),
            step_names,
            ["logits", "attention"],
        ),
        "decoder": (
            pixels(tokenizer.decoder, tokenizer.codebook[...]),
            [of(i32, 1, *config.grid)],
            ["tokens"],
            ["pixels"],
        ),
    }
    if "superres" not in muse.configs:
        return found
    model, config = muse.models["superres"], muse.configs["superres"]
    low = math.prod(config.low_grid)
    low_blocks, blocks = layers_of(model.low_blocks, config.low_depth), layers_of(model.blocks, config.depth)
    of_text = keys_values_of(model, config.depth)

    def condition(text, tokens):
        x = model.low_embed(tokens) + model.low_positions()
        for block in low_blocks:
            x = block(x)
        seen = model.low_norm(x) + model.low_positions()
        own = zip(*(block.keys_values(seen) for block in blocks))
        return tuple(jnp.concatenate([jnp.stack(parts), texts], 2) for parts, texts in zip(own, of_text(text)))

    found["superres_condition"] = (
        condition,
        [of(f32, 1, s, width), of(i32, 1, low)],
        ["text", "tokens"],
        ["keys", "values"],
    )
    found["superres"] = (
        forward_of(model, config.depth),
        step_spec(config, low + s),
        step_names,
        ["logits"],
    )
    decoder = muse.models.get("superres_decoder", muse.models["superres_tokenizer"].decoder)
    found["superres_decoder"] = (
        pixels(decoder, muse.models["superres_tokenizer"].codebook[...]),
        [of(i32, 1, *config.grid)],
        ["tokens"],
        ["pixels"],
    )
    return found


def graph_of(function: Callable, spec: Spec, inputs: list[str], outputs: list[str], folder: Path) -> onnx.ModelProto:
    """The function as a graph, with everything folded that does not depend on its inputs."""
    model = to_onnx(function, inputs=spec)
    names = {old.name: new for old, new in zip([*model.graph.input, *model.graph.output], [*inputs, *outputs])}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in [*model.graph.input, *model.graph.output]:
        value.name = names[value.name]
    onnx.save(model, folder / "given.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(folder / "given.onnx", options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "folded.onnx")


def packed(x: np.ndarray, eight_bits: bool) -> tuple[str, bytes, list[float]]:
    """An array's packing, its bytes, and for 8 bits the scale of every output channel, the first axis of a convolution.

    The lowest bytes of all numbers come first, the highest last: those are similar, and so compress well. f16 is exact
    for the shipped weights, which are stored so; what was computed from them stays f32.
    """
    if eight_bits and x.ndim == 4:
        scales = x.std((1, 2, 3)) / LEVELS
        scales = np.maximum(scales, np.abs(x).max((1, 2, 3)) / 127).astype(np.float32)
        return "i8", np.round(x / scales[:, None, None, None]).astype(np.int8).tobytes(), scales.tolist()
    half = x.astype(np.float16)
    if np.array_equal(half.astype(np.float32), x):
        return "f16", half.view(np.uint8).reshape(-1, 2).T.tobytes(), []
    return "f32", x.view(np.uint8).reshape(-1, 4).T.tobytes(), []


def pack(name: str, model: onnx.ModelProto) -> bytes:
    """A graph and its weights as one compressed file: the length of a JSON header, the header, graph, weights.

    In the graph a weight is external data: its offset and length in a file of float32, which the page unpacks.
    """
    weights, data, offset = [], [], 0
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or math.prod(tensor.dims) < SMALL:
            continue
        x = numpy_helper.to_array(tensor)
        kind, content, scales = packed(x, name in PIXELS)
        weights.append({"kind": kind, "count": x.size, "scales": scales})
        data.append(content)
        tensor.ClearField("float_data")
        tensor.raw_data = b""
        external_data_helper.set_external_data(tensor, "weights", offset, x.nbytes)
        tensor.ClearField("raw_data")
        offset += x.nbytes
    graph = model.SerializeToString()
    header = json.dumps({"graph": len(graph), "weights": weights}).encode()
    parts = [len(header).to_bytes(4, "little"), header, graph, *data]
    return gzip.compress(b"".join(parts), 9, mtime=0)


def about(muse: Muse) -> dict[str, Any]:
    """What the page reads of the checkpoint: sizes, sampling defaults, the names of laws, and the words of captions."""
    stages = [stage for stage in ("base", "superres") if stage in muse.configs]
    sizes = ("grid", "codebook_size", "text_length", "depth")
    return {
        "stages": {stage: {k: getattr(muse.configs[stage], k) for k in sizes} for stage in stages},
        "image_size": {stage: muse.tokenizer_config(stage).image_size for stage in stages},
        "sampling": {stage: dataclasses.asdict(muse.sampling[stage]) for stage in stages},
        "laws": [law for law in LAWS if law != "uniform"],
        "words": words() if muse.text_name == "t5-scenes" else None,
        "weights": fingerprint_of(*sorted(muse.folder.glob("*.safetensors"))) if muse.folder else {},
    }


def words() -> dict[str, Any]:
    """The words of captions of scenes: `lists` to show, by kind, and `all`, in lower case, to compare captions with."""
    sprites = scenes.sprites().values()
    coloured = sorted({scenes.pluralise(sprite.word) for sprite in sprites if sprite.colour})
    lists = {
        "Objects": list(dict.fromkeys(sprite.word for sprite in sprites)),
        f"Colours of {', '.join(coloured[:-1])} and {coloured[-1]}": list(
            dict.fromkeys(sprite.colour for sprite in sprites if sprite.colour)
        ),
        "Backgrounds": list(scenes.BACKGROUNDS),
        "Numbers": list(scenes.NUMBERS[1:]),
        "Positions": [way for ways in everyday.BETWEEN.values() for way in ways],
        "Sizes": [*everyday.BIG, *everyday.SMALL],
        "Other names, which only the text encoder has read": sorted(
            {name.removeprefix(f"{sprite.colour} ") for sprite in sprites for name in sprite.synonyms}
        ),
    }
    texts = [everyday.example(split, i)[1] for split in ("train", "everyday") for i in range(CAPTIONS)]
    texts += [name for sprite in sprites for name in (sprite.name, sprite.plural, *sprite.synonyms)]
    texts += [scenes.pluralise(name) for sprite in sprites for name in sprite.synonyms]
    texts += [*everyday.LEADS, *everyday.IDLE, *(word for words in lists.values() for word in words)]
    return {"lists": lists, "all": sorted(set(re.findall(r"[^\W_]+(?:-[^\W_]+)*", " ".join(texts).lower())))}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny", help="a folder, or a name in data/checkpoints")
    parser.add_argument("--only", nargs="*", help="these models, for trying things")
    parser.add_argument("--out", type=Path, default=ROOT / "web/dist/models", help="folder (default: %(default)s)")
    args = parser.parse_args(arguments)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # warns of every shape that it does not keep
    args.out.mkdir(parents=True, exist_ok=True)
    muse, files = Muse.from_pretrained(args.checkpoint), {}
    for name, given in functions(muse).items():
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            content = pack(name, graph_of(*given, Path(folder)))
        with atomic_path(args.out / f"{name}.mm.gz") as partial:
            partial.write_bytes(content)
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()[:12]}
        print(f"  {name}: {len(content) / 1e6:.2f} MB", flush=True)
    write_text(args.out / "tokenizer.json", (find_t5(muse.text_name) / "tokenizer.json").read_text(encoding="utf-8"))
    write_text(args.out / "models.json", json.dumps({"files": files, **about(muse)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
