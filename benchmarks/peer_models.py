"""The public packages that `benchmarks.peers` races, at its sizes, with random weights; the only file that needs torch.

The programs that functions here return take no arguments and have finished when they return.
"""

import sys
from collections.abc import Callable
from unittest import mock

import diffusers
import torch
import transformers  # noqa: F401  before the stand-in below: it also looks for torchvision
from diffusers import AmusedPipeline, AmusedScheduler, UVit2DModel
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import T5Config, T5EncoderModel, T5Tokenizer  # noqa: F401

from minimuse.config import TrainConfig, TransformerConfig

# muse-maskgit-pytorch imports torchvision for its pictures. Only tokens are sampled here, and torchvision would have to
# match torch's build exactly, so it gets a stand-in.
STAND_IN = [f"torchvision{part}" for part in ("", ".transforms", ".datasets", ".utils")]
sys.modules.update({name: mock.MagicMock() for name in STAND_IN})
import muse_maskgit_pytorch.t5  # noqa: E402
from muse_maskgit_pytorch import MaskGit, MaskGitTransformer, VQGanVAE  # noqa: E402

for name in STAND_IN:
    del sys.modules[name]
muse_maskgit_pytorch.muse_maskgit_pytorch.tqdm = lambda steps, **_: steps  # no progress bar at every step
diffusers.utils.logging.set_verbosity_error()  # no warning that aMUSEd is unmaintained since release 0.33.1

LUCID, AMUSED = PEERS = ("muse-maskgit-pytorch", "diffusers aMUSEd")


def gated(mlp_width: int) -> int:
    """The inner width of a gated MLP (three matrices) that has as many weights as an MLP of two matrices."""
    return mlp_width * 2 // 3


def lucid(config: TransformerConfig, device: str) -> tuple[MaskGit, MaskGitTransformer]:
    """The package's whole model and the transformer in it. Without `flash`, which on anything but an A100 is a slower
    loop in Python."""
    text = T5Config(d_model=config.text_width)
    muse_maskgit_pytorch.t5.T5_CONFIGS["random"] = dict(config=text)  # otherwise its config is downloaded
    transformer = MaskGitTransformer(
        num_tokens=config.codebook_size,
        seq_len=config.grid[0] * config.grid[1],
        dim=config.width,
        depth=config.depth,
        heads=config.heads,
        dim_head=config.width // config.heads,
        ff_mult=config.mlp_width // config.width,
        t5_name="random",
        flash=False,
    )
    tokenizer = VQGanVAE(dim=16, layers=1, codebook_size=config.codebook_size, use_vgg_and_gan=False)
    whole = MaskGit(image_size=config.grid[0] * 2, transformer=transformer, vae=tokenizer, cond_drop_prob=0.1)
    whole.vae.decode_from_ids = lambda ids: ids  # tokens are sampled here, not pixels
    return whole.to(device), transformer


def amused(config: TransformerConfig, device: str) -> UVit2DModel:
    """aMUSEd's transformer layers. The convolution blocks around them, which the other models do not have, are left
    out, in its favour."""
    return UVit2DModel(
        hidden_size=config.width,
        in_channels=config.width,
        block_out_channels=config.width,
        num_res_blocks=0,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=gated(config.mlp_width),
        encoder_hidden_size=config.text_width,
        cond_embed_dim=config.text_width,
        micro_cond_encode_dim=32,
        micro_cond_embed_dim=5 * 32,  # two sizes, two crops and a score
        vocab_size=config.codebook_size + 1,
        codebook_size=config.codebook_size,
    ).to(device)


def compiled(model: torch.nn.Module, mode: str) -> None:
    """Compile a model's forward in place; "eager" leaves it as it is."""
    if mode != "eager":
        model.forward = torch.compile(model.forward, mode=mode, dynamic=False)


def decoding(
    peer: str, mode: str, config: TransformerConfig, batch: int, steps: int, scale: float, dtype: str, device: str
) -> tuple[Callable, torch.nn.Module]:
    """program, model: samples the tokens of `batch` pictures in `steps` steps with a guidance of `scale` = 1 + t."""
    kind = getattr(torch, dtype)
    text = torch.randn(batch, config.text_length, config.text_width, device=device, dtype=kind)
    if peer == LUCID:
        whole, model = lucid(config, device)
        whole.to(kind)
        model.encode_text = lambda texts: text
        draw = lambda: whole.generate(texts=[""] * batch, fmap_size=config.grid[0], timesteps=steps, cond_scale=scale)
    else:
        model = amused(config, device).to(kind)
        pipeline = AmusedPipeline(None, None, None, model, AmusedScheduler(mask_token_id=config.codebook_size))
        pipeline.set_progress_bar_config(disable=True)
        draw = lambda: pipeline(
            prompt_embeds=text[:, 0],
            encoder_hidden_states=text,
            negative_prompt_embeds=text[:, 0],
            negative_encoder_hidden_states=torch.zeros_like(text),
            height=config.grid[0] * pipeline.vae_scale_factor,
            width=config.grid[1] * pipeline.vae_scale_factor,
            num_inference_steps=steps,
            guidance_scale=scale,
            output_type="latent",
        )
    model.eval()
    compiled(model, mode)
    return waited(draw, device), model


def training(
    peer: str, mode: str, config: TransformerConfig, train: TrainConfig, device: str
) -> tuple[Callable, torch.nn.Module]:
    """program, model: one step with masks, loss, gradients, clipping, AdamW and running average, as ours."""
    b, (h, w), k = train.batch, config.grid, config.codebook_size
    text = torch.randn(b, config.text_length, config.text_width, device=device)
    tokens = torch.randint(k, (b, h, w), device=device)
    if peer == LUCID:
        whole, model = lucid(config, device)
        loss = lambda: whole(tokens, text_embeds=text)
    else:
        model = amused(config, device)
        about = torch.full((b, 5), 64.0, device=device)

        def loss():
            rate = torch.cos(torch.rand(b, 1, 1, device=device) * torch.pi / 2)
            mask = torch.rand(b, h, w, device=device) < rate
            logits = model(torch.where(mask, k, tokens), text, text[:, 0], about)
            return F.cross_entropy(logits, torch.where(mask, tokens, -100))

    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(train.ema))
    model.train()
    compiled(model, mode)
    betas = (0.9, train.b2)
    optimizer = torch.optim.AdamW(
        model.parameters(), train.learning_rate, betas, weight_decay=train.weight_decay, fused=True
    )

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=train.dtype == "bfloat16"):
            found = loss()
        optimizer.zero_grad(set_to_none=True)
        found.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip)
        optimizer.step()
        average.update_parameters(model)

    return waited(step, device), model


def waited(program: Callable, device: str) -> Callable:
    """The program, which on a GPU also waits for its end."""

    def run() -> None:
        program()
        if device == "cuda":
            torch.cuda.synchronize()

    return run
