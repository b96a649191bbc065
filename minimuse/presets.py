"""The presets: whole sets of sizes and training settings, by name."""

import dataclasses
from typing import Any

from minimuse.config import (
    AdversarialConfig,
    CriticTraining,
    Preset,
    RunConfig,
    Sampling,
    SuperresConfig,
    TrainConfig,
    TransformerConfig,
    VQGANConfig,
)

# Tables 4 and 6, with Adafactor's b1 of 0.9 and the cosine decay in `train.step.optimizer`. Of the base's steps table 4
# has 1.5 M and section 3 has 1 M, in a week; here it is the latter, as for the super-resolution transformer (table 6).
PAPER = TrainConfig(
    steps=1_000_000,
    batch=512,
    learning_rate=1e-4,
    optimizer="adafactor",
    b2=0.96,
    warmup=5000,
    weight_decay=0.045,
    # Section 3 averages checkpoints afterwards, one of every 5000 steps with a decay of 0.7; this is the same per step.
    ema=0.7 ** (1 / 5000),
    # Not in the tables: our choice, as is the clipping of gradients.
    dtype="bfloat16",
    label_smoothing=0.0,
)
# 24 and 8 steps are section 2.8's, the rest is MaskGIT's (temperature 4.5) and our choice: the paper gives no guidance
# scale for drawing; 4 is the one of section 3.3.
PAPER_SAMPLING = dict(
    base=Sampling(steps=24, guidance=4.0, token_temperature=1.0),
    superres=Sampling(steps=8, guidance=0.0, token_temperature=1.0),
)
# What the emoji scenes are drawn best with (python -m experiments.defaults).
EMOJI_SAMPLING = dict(
    base=Sampling(steps=16, revise=4, guidance=0.5, token_temperature=0.1, law="exp", order="halton"),
    superres=Sampling(steps=8, guidance=0.0, token_temperature=0.25, law="exp", order="halton"),
)
# In between: a caption of one's own says less of what is to be drawn than a scene's, so there is more guidance and more
# variety; public models of photographs have a guidance of 3 to 10. Not compared yet.
OWN_SAMPLING = dict(
    base=dataclasses.replace(EMOJI_SAMPLING["base"], steps=16, guidance=2.0, token_temperature=0.5),
    superres=EMOJI_SAMPLING["superres"],
)
# What the paper leaves open is our choice: text length, length of a code, heads, windows, and MaskGIT's channels.
LARGE: dict[str, Any] = dict(codebook_size=8192, text_width=4096, text_length=77)
MEDIUM: dict[str, Any] = dict(codebook_size=4096, text_width=512, text_length=64)
LARGE_VQGAN = VQGANConfig(256, 16, 8192, 256, channels=(128, 128, 256, 256, 512), blocks=2, encoder_kernel=3)


def paper_preset(name: str, base: dict, superres: dict) -> Preset:
    """A Muse of the paper: 16 x 16 tokens of 256 px, 64 x 64 tokens of 512 px, T5-XXL."""
    fine = dict(grid=(64, 64), low_grid=(16, 16), low_codebook_size=8192, window=8)
    return Preset(
        name=name,
        text="google/flan-t5-xxl",  # as large as the paper's T5-XXL, and on the Hub as safetensors
        tokenizer=LARGE_VQGAN,
        superres_tokenizer=dataclasses.replace(LARGE_VQGAN, image_size=512, factor=8, channels=(128, 128, 256, 512)),
        base=TransformerConfig(**LARGE, grid=(16, 16), **base),
        superres=SuperresConfig(**LARGE, **fine, **superres),
        sampling=PAPER_SAMPLING,
        train=dict(base=PAPER, superres=PAPER),
        run=RunConfig(mesh=(1, 0)),  # training takes 16 bytes per weight or more, too much for most single devices
    )


TOKENIZER = TrainConfig(steps=3000, batch=32, muon=0.01, b2=0.99, weight_decay=1e-4, quantize_start=400)
# A second phase for photographs. Rates and weight decay are Muse's (table 5). The rest follows VQGAN's code: the whole
# tokenizer learns, L1 and perceptual loss have equal weights, and the hinge loss has the adaptive weight, which is
# multiplied there by 0.8. Muse and MaskGIT have 0.1 without an adaptive weight; 0.25 is in between. Steps, batches,
# LeCam and the discriminator's start are our choice. None of this has been compared on photographs yet. With
# VGG16 the two phases of colab take 4.0 and 4.4 GiB (python -m benchmarks.train_memory).
PHOTOGRAPHS = AdversarialConfig(
    steps=5000,
    batch=32,
    learning_rate=1e-4,
    discriminator_rate=1e-4,
    b2=0.99,
    weight_decay=1e-4,
    perceptual=1.0,
    adversarial=0.25,
    discriminator_start=500,
    freeze_tokens=False,
)
BASE = TrainConfig(steps=10_000, batch=128, learning_rate=3e-3, muon=0.01, scenes=196_608, label_smoothing=0.0)
# For a few thousand pictures, each seen some forty times: MaskGIT's label smoothing, twice its weight decay, and some
# pictures held out, whose loss shows when the others are learned by heart.
FEW = dataclasses.replace(BASE, label_smoothing=0.1, weight_decay=0.1, warmup=100, scenes=16_384, held_out=128)
# A style's adapters, from a dozen pictures: few steps, or they learn the pictures by heart. A and B do not decay
# (`train.step.optimizer`).
STYLE = TrainConfig(steps=100, batch=12, learning_rate=3e-3, warmup=10, ema=0.98, label_smoothing=0.0)
PRESETS = {
    preset.name: preset
    for preset in [
        Preset(
            name="tiny",
            text="t5-scenes",
            sampling=EMOJI_SAMPLING,
            train={
                "text": TrainConfig(steps=5000, batch=64, learning_rate=2e-3, muon=0.01, b2=0.99, weight_decay=0.01),
                "scorer": TrainConfig(steps=2000, batch=64, learning_rate=2e-3, b2=0.99, weight_decay=0.01),
                "tokenizer": TOKENIZER,
                "superres_tokenizer": dataclasses.replace(TOKENIZER, steps=2500, batch=8),
                "superres_tokenizer_adversarial": AdversarialConfig(
                    steps=900, batch=6, learning_rate=2e-4, b2=0.99, weight_decay=1e-4, adversarial=0.25
                ),
                **dict.fromkeys(("base", "autoregressive", "diffusion"), BASE),  # baselines as the base
                "superres": TrainConfig(
                    steps=4500,
                    batch=32,
                    learning_rate=3e-3,
                    muon=0.01,
                    scenes=49_152,
                    label_smoothing=0.0,
                    low_noise=0.2,
                ),
                "style": STYLE,
                "style_superres": dataclasses.replace(STYLE, steps=50, batch=4),
                "superres_decoder": AdversarialConfig(
                    steps=1500, batch=8, learning_rate=1e-3, muon=0.005, b2=0.99, weight_decay=1e-4, crop=64
                ),
                # Half of the masks as sampling leaves them; no caption is dropped, as it judges without guidance.
                "critic": CriticTraining(steps=1500, batch=64, scenes=196_608, halton=0.5, caption_dropout=0.0),
            },
        ),
        Preset(  # seconds per stage; for tests and for a first look at the training commands
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
                **dict.fromkeys(("style", "style_superres"), TrainConfig(steps=4, batch=8, warmup=2)),
                "superres_decoder": AdversarialConfig(steps=4, batch=2, warmup=2, discriminator_start=2, crop=64),
                "critic": CriticTraining(steps=8, batch=8, warmup=2, scenes=64, halton=0.5, caption_dropout=0.0),
            },
        ),
        Preset(  # for a few thousand drawings of your own, on two cores; tiny's models
            name="own",
            text="t5-scenes",  # spells words that it does not know; --text google/flan-t5-small knows them
            base=TransformerConfig(text_length=48),
            superres=SuperresConfig(text_length=48),
            sampling=OWN_SAMPLING,
            run=RunConfig(samples_every=200, held_out_every=100),
            train={
                "tokenizer": dataclasses.replace(TOKENIZER, steps=1000, quantize_start=200),
                "superres_tokenizer": dataclasses.replace(TOKENIZER, steps=1000, batch=8, quantize_start=200),
                "base": dataclasses.replace(FEW, steps=700, batch=64),
                "superres": dataclasses.replace(FEW, steps=1800, batch=8, low_noise=0.2),
                # Without a discriminator: flat drawings have no texture that it could ask for.
                "superres_decoder": AdversarialConfig(
                    steps=300,
                    batch=8,
                    learning_rate=1e-3,
                    muon=0.005,
                    b2=0.99,
                    weight_decay=1e-4,
                    adversarial=0.0,
                    crop=64,
                ),
            },
        ),
        Preset(  # for one TPU chip or GPU, and for photographs of your own (chapter 13)
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
            sampling=PAPER_SAMPLING,
            run=RunConfig(samples_every=500),
            train={
                "tokenizer": dataclasses.replace(TOKENIZER, steps=10_000, batch=64, quantize_start=1000),
                "tokenizer_adversarial": PHOTOGRAPHS,
                "superres_tokenizer": dataclasses.replace(TOKENIZER, steps=8000, batch=16, quantize_start=1000),
                "superres_tokenizer_adversarial": dataclasses.replace(PHOTOGRAPHS, batch=8),
                # In pieces that fit devices of 16 GB: of the base 6.8 GiB instead of 12.4, of superres 9.8 instead of
                # 19.3 (python -m benchmarks.train_memory).
                "base": dataclasses.replace(
                    BASE,
                    steps=20_000,
                    accumulate=2,
                    learning_rate=1e-3,
                    warmup=500,
                    scenes=98_304,
                    held_out=256,
                ),
                "superres": dataclasses.replace(
                    BASE,
                    steps=10_000,
                    batch=32,
                    accumulate=2,
                    learning_rate=1e-3,
                    warmup=500,
                    scenes=49_152,
                    held_out=256,
                    low_noise=0.2,
                ),
                "superres_decoder": AdversarialConfig(
                    steps=4000, batch=16, learning_rate=5e-4, muon=0.005, b2=0.99, weight_decay=1e-4, crop=128
                ),
            },
        ),
        paper_preset(  # table 1's 632M and 268M; the paper gives no layer counts
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
    """The preset of that name, or a ValueError that lists the presets."""
    if not isinstance(name, str) or name not in PRESETS:
        given = repr(name) if isinstance(name, str) else f"of the type {type(name).__name__}"
        raise ValueError(f"There is no preset {given}; the presets are {', '.join(PRESETS)}.")
    return PRESETS[name]
