"""The net under the redesign: what the shipped weights draw, and how training begins, stay the same bits.

    python tests/net.py store before.npz     at the commit to compare with
    python tests/net.py compare before.npz   at any later one; only some parts: ... drawn gradients trained

Drawn from the preset tiny: tokens and pixels of 24 captions in several ways, edits, and both baselines. Trained from
the preset micro: 20 steps of every stage, with every step's loss and the weights at the end; and the gradients of one
step of the base.
"""

import contextlib
import dataclasses
import os
import re
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from safetensors.numpy import load_file

import minimuse

try:
    from minimuse.data import scenes
    from minimuse.evaluate.baselines import Twin
except ImportError:
    from minimuse.baselines import Twin

    from minimuse import scenes

STAGES = ("text", "scorer", "tokenizer", "superres_tokenizer", "base", "superres", "superres_decoder",
          "autoregressive", "diffusion")  # fmt: skip


def drawn(found: dict) -> None:
    muse = minimuse.Muse.from_pretrained("tiny")
    prompts = [scenes.example("val", i) for i in range(24)]
    captions = [caption for _, caption in prompts]

    def keep(name, result):
        for key, value in result._asdict().items():
            parts = value._asdict() if hasattr(value, "_asdict") else {"": value}
            found.update({f"{name}/{key}/{part}": np.asarray(v) for part, v in parts.items() if v is not None})

    keep("cascade", muse.generate(captions, seed=1, trace=True))
    found["cascade/plain"] = muse.generate(captions, seed=1)
    base = dict(seed=2, superres=False, trace=True)
    keep("guidance 0", muse.generate(captions, guidance=0.0, **base))
    keep("negative", muse.generate(captions, guidance=2.0, negative="a dog on a red background", **base))
    keep("fixed guidance", muse.generate(captions, guidance=2.0, ramp=False, **base))
    for order in ("halton", "random"):
        keep(order, muse.generate(captions, order=order, temperature=0.0, **base))
    keep("top k", muse.generate(captions, top_k=3, token_temperature=1.0, **base))
    keep("law", muse.generate(captions, law="square", steps=5, **base))
    found["pairs"] = muse.generate(captions[:4], 2, 3, steps=(6, 4), guidance=(1.0, 0.5), temperature=(None, 1.0))
    found["plain tokens"] = muse.generate(captions[:2], 2, 3, finetuned=False)

    pictures = scenes.render_batch([scene for scene, _ in prompts[:3]], 128)
    mask = np.zeros((128, 128), bool)
    mask[20:90, 30:100] = True
    for i, picture in enumerate(pictures):
        keep(f"inpaint {i}", muse.inpaint(picture, mask, captions[i], 2, i, trace=True))
        keep(f"inpaint base {i}", muse.inpaint(picture, mask, captions[i], 2, i, superres=False, trace=True))
        keep(f"outpaint {i}", muse.outpaint(picture, captions[i], 1, i, right=64, top=16, trace=True))
        keep(f"edit {i}", muse.edit(picture, captions[i + 5], 2, i, iterations=20, trace=True))
        keep(f"vary {i}", muse.vary(picture, captions[i], 2, i, trace=True))
    found["interpolate"] = muse.interpolate(captions[0], captions[1], 3, 0)
    for name in ("autoregressive", "diffusion"):
        twin = Twin.from_pretrained(name, "tiny", muse)
        found[f"{name}/tokens"] = np.asarray(twin.tokens(captions, seed=4))
        found[f"{name}/guided"] = np.asarray(twin.tokens(captions[:8], seed=4, guidance=1.5))
        found[f"{name}/pixels"] = twin.generate(captions[:8], seed=4)
        found[f"{name}/plain"] = np.asarray(twin.tokens(captions[:8], seed=4, guidance=0.0))


def trained(found: dict, out: Path) -> None:
    try:  # each step's metrics, with all their digits
        from minimuse.train import loop as log_module
        from minimuse.train import stages
    except ImportError:
        from minimuse import stages
        from minimuse import training as log_module
    log_module.LOG_EVERY = 1  # where it is not a setting of the run yet
    log_module.mean_metrics = lambda rows: {k: float(v) for k, v in rows[0].items() if not np.isnan(float(v))}
    micro = minimuse.get_preset("micro")
    train = {name: dataclasses.replace(value, steps=20) for name, value in micro.train.items()}
    preset = dataclasses.replace(micro, train=train)
    if hasattr(micro.run, "log_every"):
        preset = dataclasses.replace(preset, run=dataclasses.replace(micro.run, log_every=1))
    for stage in STAGES:
        stages.TRAIN[stage](preset, out)
    try:
        from minimuse.files import read_log
    except ImportError:
        from minimuse.training import read_log
    for path in sorted(out.rglob("log.jsonl")):
        log = read_log(path)
        found.update({f"log {path.parent.name}/{k}": v for k, v in log.items() if k != "seconds"})
    for path in sorted(out.rglob("*.safetensors")):
        name = str(path.relative_to(out))
        name = "tokens" if name.startswith("tokens-") else name  # named by a fingerprint
        if name != "tokens":
            found.update({f"weights {name}/{len(v)}/{k}": v for k, v in load_file(path).items()})


def gradients(found: dict) -> None:
    preset = minimuse.get_preset("tiny")
    rng = np.random.default_rng(0)
    batch = dict(
        tokens=rng.integers(0, 1024, (8, 64)).astype(np.int32),
        text=rng.normal(size=(8, 12, 192)).astype(np.float16),
        text_mask=np.arange(12) < rng.integers(3, 12, (8, 1)),
    )
    muse, key = minimuse.Muse.from_pretrained("tiny", superres=False), jax.random.key(7)
    config, train = preset.base, preset.train["base"]
    if hasattr(muse, "models"):
        from minimuse.train.losses import transformer_loss

        loss = lambda model: transformer_loss(config, train, model, key, batch)[0]
        value, grads = jax.jit(jax.value_and_grad(loss))(muse.models["base"])
        flat = jax.tree_util.tree_flatten_with_path(grads)[0]
        flat = {re.sub(r"^\.|\.value$", "", jax.tree_util.keystr(path)): leaf for path, leaf in flat}
    else:
        from flax import traverse_util

        try:
            from minimuse.train.losses import transformer_loss
        except ImportError:
            from minimuse.transformer import transformer_loss
        graphdef = muse.graphdefs["base"]
        loss = lambda params: transformer_loss(graphdef, config, train, params, key, batch)[0]
        value, grads = jax.jit(jax.value_and_grad(loss))(muse.params["base"])
        flat = {".".join(map(str, path)): leaf for path, leaf in traverse_util.flatten_dict(grads).items()}
    found["gradients/loss"] = np.asarray(value)
    found.update({f"gradients/{name}": np.asarray(leaf) for name, leaf in flat.items()})


def measure() -> dict:
    found, begun = {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(open(os.devnull, "w")):
        parts = dict(drawn=drawn, gradients=gradients, trained=lambda found: trained(found, Path(folder)))
        for name in sys.argv[3:] or parts:
            parts[name](found)
            print(f"{len(found)} arrays after {time.monotonic() - begun:.0f} s", flush=True)
    return found


def compare(before: dict, now: dict) -> int:
    groups = {}
    for name in sorted(before.keys() | now.keys()):
        group = name.split("/")[0]
        equal, near, most = groups.setdefault(group, [0, 0, 0.0])
        if name not in now and sys.argv[3:]:
            continue
        if name not in before or name not in now or before[name].shape != now[name].shape:
            print(f"only on one side, or of another shape: {name}")
            groups[group][2] = np.inf
        elif np.array_equal(before[name], now[name], equal_nan=before[name].dtype.kind == "f"):
            groups[group][0] = equal + 1
        else:
            a, b = before[name].astype(float), now[name].astype(float)
            far = float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max())))
            groups[group][1:] = near + 1, max(most, far)
    for group, (equal, near, most) in groups.items():
        print(f"{group:40} {equal:5d} bit-equal" + (f", {near} differ, by {most:.2g} at most" if near or most else ""))
    return int(any(most > 1e-6 for _, _, most in groups.values()))


if __name__ == "__main__":
    minimuse.enable_compilation_cache()
    now = measure()
    if sys.argv[1] == "store":
        np.savez_compressed(sys.argv[2], **{name.replace("/", "|"): value for name, value in now.items()})
    else:
        with np.load(sys.argv[2]) as stored:
            before = {re.sub(r"(/|^)hidden\.kernel$", r"\1head_proj.kernel", n.replace("|", "/")): stored[n] for n in stored.files}
        sys.exit(compare(before, now))
