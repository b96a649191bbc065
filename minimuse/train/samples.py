"""Pictures of a few fixed captions, drawn while a transformer is trained."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from minimuse.config import Preset
from minimuse.data.cache import TokenCache
from minimuse.data.sources import open_source
from minimuse.decoding import Prompts, check_sampling, sample_tokens
from minimuse.files import atomic_path, write_text
from minimuse.muse import TOKENIZERS
from minimuse.processes import is_first, to_host
from minimuse.train.inputs import load_tokenizer, sizes_needed
from minimuse.transformer import BaseTransformer
from minimuse.vqgan import draw_pixels

COUNT = 6  # captions


def sampler(
    preset: Preset, out: Path, stage: str, cache: TokenCache, held: np.ndarray
) -> Callable[[BaseTransformer, Path, int], None]:
    """(weights, folder, step) -> None: draws the captions of the first held-out examples, or of the first examples if
    none is held out, and writes them side by side as folder/STEP.png, and the captions as folder/captions.json. The
    same weights give the same pictures.

    stage    base or superres; the latter raises the true low-resolution tokens of these examples
    cache    what the stage is trained on
    """
    rows = held[:COUNT] if len(held) else np.arange(min(COUNT, len(cache)))
    config, tokenizer = getattr(preset, stage), load_tokenizer(preset, out, TOKENIZERS[stage])
    plain = dataclasses.replace(preset.sampling[stage], critic=False)  # which is trained after the base
    sampling = check_sampling(plain, math.prod(config.grid), config.codebook_size)
    source, batch = open_source(preset.data, preset.pictures, sizes_needed(preset)), cache.batch(rows)
    found = [source.example(int(i), (), preset.train[stage])[1] for i in rows]
    captions = [words if isinstance(words, str) else words[0] for words in found]
    text: Any = (batch["text"].astype(np.float32), batch["text_mask"])
    nothing: Any = np.zeros_like(text[0]), np.zeros_like(text[1])
    prompts = Prompts(text, nothing, jax.random.split(jax.random.key(0), len(rows)))

    def draw(weights: BaseTransformer, folder: Path, step: int) -> None:
        tokens = to_host(sample_tokens(weights, sampling, prompts, batch.get("low"))[0])
        if not is_first():
            return
        images = np.asarray(draw_pixels(tokenizer.decoder, tokenizer.codebook[...], tokens.reshape(-1, *config.grid)))
        folder.mkdir(exist_ok=True)
        write_text(folder / "captions.json", json.dumps(captions, indent=1) + "\n")
        with atomic_path(folder / f"{step}.png") as partial:
            Image.fromarray(np.concatenate(list(images), 1)).save(partial)

    return draw
