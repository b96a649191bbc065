"""`python -m minimuse evaluate`: generation | autoregressive | diffusion | editing | tokenizer | scorer | all.

Each prints one JSON object; tools/results.py stores what they print. tyro makes options of their arguments, see cli.py.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from tyro.conf import arg

from minimuse.config import SampleOptions, data_dir

if TYPE_CHECKING:
    from minimuse.muse import Muse

FLAT = arg(name="")  # --steps, not --sampling.steps
NOTHING: Any = {}  # no option is given
Checkpoint = Annotated[
    str, arg(help="Name of a shipped checkpoint, a checkpoint folder, or user/name on the Hugging Face Hub.")
]
Resolution = Annotated[Literal["base", "superres"], arg(help="The stage whose pictures or tokenizer are measured.")]
Split = Annotated[
    Literal["train", "val", "unseen_pairs", "unseen_words", "everyday", "typed"],
    arg(help="The split that the captions come from; typed has 60."),
]
MOST_SEED = 429_495  # times ten thousand is still a seed of `Muse.generate`
N = Annotated[int, arg(help="How many captions, edits or scenes.")]
Seed = Annotated[int, arg(help="Seed of sampling.")]
Finetuned = Annotated[bool, arg(help="Use the fine-tuned decoder of the stage superres, if there is one.")]
Json = Annotated[bool, arg(name="json", help="Print the JSON object on one line.")]


class AutoregressiveOptions(TypedDict, total=False):
    """How the autoregressive baseline samples; what is left out is its own."""

    guidance: float
    """Guidance scale t."""
    token_temperature: float
    """Temperature of the tokens; a lower one prefers the more likely ones."""
    top_k: int
    """Sample from the k most likely codes (0 = all)."""


class DiffusionOptions(TypedDict, total=False):
    """How the diffusion baseline samples; what is left out is its own."""

    guidance: float
    """Guidance scale t."""
    steps: int
    """Denoising steps."""


def _check_n(n: int, seed: int = 0) -> None:
    if n < 1:
        raise ValueError(f"--n must be 1 or more; it was {n}.")
    if not 0 <= seed <= MOST_SEED:  # each batch or edit draws with one of its own
        raise ValueError(f"--seed must be from 0 to {MOST_SEED}; it was {seed}.")


def _print(result: dict[str, Any], one_line: bool) -> None:
    print(json.dumps(result, indent=None if one_line else 2))


def check_pairs(options: SampleOptions, muse: "Muse") -> None:
    """ValueError for a second value of a sampling option, which no stage of this Muse would read."""
    for name, value in options.items():
        if isinstance(value, tuple) and value[1] is not None and "superres" not in muse.configs:
            raise ValueError(
                f"--{name.replace('_', '-')} takes one value where there is no super-resolution; it was "
                f"{value[0]} {value[1]}."
            )


def _weights(preset: str, *stages: str, text: bool = True, scorer: bool = True) -> dict[str, dict[str, str]]:
    """The fingerprint of the weights that were used, as `weights`."""
    from minimuse.evaluate.stored import weights_of

    return dict(weights=weights_of(*stages, checkpoint=preset, text=text, scorer=scorer))


def _drawing(options: dict[str, Any]) -> list[str]:
    """The stages that draw pictures with these options of `Muse.generate`."""
    cascade = ["superres_tokenizer", "superres"] if options.get("superres") else []
    critic = options.get("critic") in (True, (True, None), (True, False))
    return ["tokenizer", "base"] + ["critic"] * critic + cascade + ["superres_decoder"] * bool(options.get("finetuned"))


def _superres(muse: "Muse", stage: str, finetuned: bool) -> dict[str, Any]:
    """The options of `Muse.generate` for pictures of this stage."""
    return dict(superres=True, finetuned=finetuned and "superres_decoder" in muse.configs) if stage != "base" else {}


def evaluate_generation(
    *,
    preset: Checkpoint = "tiny",
    stage: Resolution = "base",
    split: Split = "val",
    n: N = 256,
    seed: Seed = 0,
    finetuned: Finetuned = True,
    captions: Annotated[Path | None, arg(metavar="FILE")] = None,
    data: Annotated[str, arg(metavar="SOURCE")] = "",
    out: Annotated[Path | None, arg(metavar="PATH")] = None,
    judges: tuple[Literal["inception", "clip"], ...] = (),
    clip: Annotated[str, arg(metavar="MODEL")] = "",
    sampling: Annotated[SampleOptions, FLAT] = NOTHING,
    json_only: Json = False,
) -> None:
    """Measure the share of captions whose every requested fact holds in the picture, as the scorer reads it.

    The scorer reads emoji scenes only. With --captions or --data, captions of your own are drawn; measured are the loss
    on pictures that were held out of training (--train.base.held-out), and what --judges measure.

    Args:
        captions: Draw these captions: a .txt file, one in a line, or a .csv or .jsonl file with a column caption or
            text.
        data: Draw the captions of these pictures, named as for train --data. Of those that the checkpoint was trained
            on, only the ones that were held out are used, if there are any.
        out: File to write the first 64 pictures to (.png, .jpg or .webp), each to the right of the true picture if
            there is one.
        judges: Also measure what the paper does: inception adds FID (for thousands of pictures), clip adds the CLIP
            score. They need PyTorch, and download their networks.
        clip: The model of --judges clip, a Hub name or a folder; openai/clip-vit-base-patch32 if it is not given.
    """
    _check_n(n, seed)
    if clip and "clip" not in judges:
        raise ValueError("--clip names the model of --judges clip; give both.")
    if captions and data:
        raise ValueError("--captions and --data both say what to draw; give only one of the two.")
    if captions and "inception" in judges:
        raise ValueError("--judges inception compares with true pictures; give them as --data, instead of --captions.")
    if split != "val" and (captions or data):
        raise ValueError(
            f"--split names captions of emoji scenes; leave it out with --{'data' if data else 'captions'}."
        )
    from minimuse.evaluate import fidelity, own
    from minimuse.muse import Muse

    if not captions and not data:
        own.check_scenes(preset)
    panel: list[Any] = [own.Sheet(out)] if out else []
    about: dict[str, Any] = dict(judges=judges) if judges else {}
    if judges:  # before the work, so that a missing one is known at once
        from minimuse.evaluate.fid_clip import CLIP, Clip, Inception

        panel += [Inception() if name == "inception" else Clip.from_pretrained(clip or CLIP) for name in judges]
        about |= dict(clip=clip or CLIP) if "clip" in judges else {}
    asked = own.from_file(captions) if captions else None
    muse = Muse.from_pretrained(preset, superres=stage == "superres")
    check_pairs(sampling, muse)
    options: dict[str, Any] = dict(sampling) | _superres(muse, stage, finetuned)
    if data:
        with contextlib.redirect_stdout(sys.stderr):  # stdout has the JSON object only
            asked = own.from_data(preset, data, ("base", "superres") if stage == "superres" else ("base",))
    if asked:
        result = own.evaluate_own(muse, asked.first(n), seed=seed, judges=panel, **options)
    else:
        result = fidelity.evaluate_generation(muse, split=split, n=n, seed=seed, judges=panel, **options)
    settings = dict(settings=dict(preset=preset) | result["settings"] | about)
    _print(result | settings | _weights(preset, *_drawing(result["settings"]), scorer=not asked), json_only)


def _evaluate_twin(name: str, preset: str, split: Split, n: int, seed: int, options: dict, json_only: bool) -> None:
    _check_n(n, seed)
    from minimuse.evaluate import baselines, fidelity, own
    from minimuse.muse import Muse

    own.check_scenes(preset)
    twin = baselines.Twin.from_pretrained(name, preset, Muse.from_pretrained(preset, superres=False))
    result = fidelity.evaluate_generation(twin, split=split, n=n, seed=seed, **options)
    settings = dict(settings=dict(preset=preset) | result["settings"])
    _print(result | settings | _weights(preset, "tokenizer", name), json_only)


def evaluate_autoregressive(
    *,
    preset: Checkpoint = "tiny",
    split: Split = "val",
    n: N = 256,
    seed: Seed = 0,
    sampling: Annotated[AutoregressiveOptions, FLAT] = NOTHING,
    json_only: Json = False,
) -> None:
    """Measure the autoregressive baseline as `generation` measures Muse."""
    _evaluate_twin("autoregressive", preset, split, n, seed, dict(sampling), json_only)


def evaluate_diffusion(
    *,
    preset: Checkpoint = "tiny",
    split: Split = "val",
    n: N = 256,
    seed: Seed = 0,
    sampling: Annotated[DiffusionOptions, FLAT] = NOTHING,
    json_only: Json = False,
) -> None:
    """Measure the diffusion baseline as `generation` measures Muse."""
    _evaluate_twin("diffusion", preset, split, n, seed, dict(sampling), json_only)


def evaluate_editing(
    *,
    preset: Checkpoint = "tiny",
    stage: Resolution = "base",
    n: N = 200,
    seed: Seed = 0,
    finetuned: Finetuned = True,
    json_only: Json = False,
) -> None:
    """Measure edits made by rule, inpainted and without a mask: which requested facts hold, and which facts still do.

    Without a mask in both ways of Muse.edit: mask_free is the paper's, at the base stage after every fifth iteration,
    and mask_read reads the mask from the caption, at the stage asked for. With --stage superres there is also
    resampled, the paper's way at that stage. It also measures the seam in outpainted pictures, a quarter as many.
    """
    _check_n(n, seed)
    from minimuse.evaluate import edits, own
    from minimuse.muse import Muse

    own.check_scenes(preset)
    muse = Muse.from_pretrained(preset, superres=stage == "superres")
    options = _superres(muse, stage, finetuned)
    result = dict(
        inpainting=edits.evaluate_inpainting(muse, n, seed, **options),
        mask_free=edits.evaluate_mask_free(muse, n, seed),
        mask_read=edits.evaluate_edit(muse, n, seed, way="read", **options),
        **(dict(resampled=edits.evaluate_edit(muse, n, seed, way="resample", **options)) if options else {}),
        outpainting=edits.evaluate_outpainting(muse, max(1, n // 4), seed, **options),
        settings=dict(preset=preset, stage=stage, n=n, seed=seed) | options,
    )
    _print(result | _weights(preset, *_drawing(options)), json_only)


def evaluate_tokenizer(
    *,
    preset: Checkpoint = "tiny",
    stage: Resolution = "base",
    n: N = 256,
    finetuned: Finetuned = True,
    artwork: Literal["seen", "unseen"] = "seen",
    json_only: Json = False,
) -> None:
    """Measure how well a tokenizer reconstructs held-out scenes.

    Args:
        artwork: unseen: measure the same scenes with drawings of another artist, too, which no training saw.
    """
    _check_n(n)
    from minimuse.evaluate import fidelity, unseen
    from minimuse.muse import TOKENIZERS, Muse

    muse = Muse.from_pretrained(preset)
    grown = finetuned and stage == "superres" and "superres_decoder" in muse.configs
    evaluate = unseen.evaluate_unseen if artwork == "unseen" else fidelity.evaluate_tokenizer
    decoder = ("superres_decoder",) if grown else ()
    result = evaluate(muse, stage, n=n, finetuned=grown)
    _print(result | _weights(preset, TOKENIZERS[stage], *decoder, text=False), json_only)


def evaluate_scorer(*, n: N = 256, json_only: Json = False) -> None:
    """Measure how well the scorer reads true pictures of scenes."""
    _check_n(n)
    from minimuse.evaluate import fidelity, scorer

    result = fidelity.evaluate_scorer(scorer.shipped_scorer(), n=n)
    _print(result | _weights("scorer", text=False), json_only)


def evaluate_all(
    *,
    measure: Annotated[
        tuple[str, ...], arg(metavar="NAME", help="Only these results, and --experiments if given.")
    ] = (),
    experiments: Annotated[tuple[str, ...], arg(metavar="NAME", help="Only these, and --measure if given.")] = (),
    again: Annotated[bool, arg(help="Also measure what is current.")] = False,
    plan: Annotated[bool, arg(help="Only print what would be measured, and how long that takes.")] = False,
) -> None:
    """Measure every number that README.md and the notebooks print, into data/ of a clone of the repository.

    What is stored for the same command, settings and weights is skipped, so a stopped command continues. Some
    experiments train models, which takes many hours on two cores.
    """
    tool = data_dir().parent / "tools" / "results.py"
    if not tool.is_file():
        raise ValueError(f"evaluate all needs a clone of the repository; there is no {tool}.")
    both = not (measure or experiments)
    options = ["--measure", *measure] if measure or both else []
    options += ["--experiments", *experiments] if experiments or both else []
    options += ["--again"] * again + ["--plan"] * plan
    sys.exit(subprocess.call([sys.executable, str(tool), *options]))


COMMANDS: dict[str, Callable[..., None]] = dict(
    generation=evaluate_generation,
    autoregressive=evaluate_autoregressive,
    diffusion=evaluate_diffusion,
    editing=evaluate_editing,
    tokenizer=evaluate_tokenizer,
    scorer=evaluate_scorer,
    all=evaluate_all,
)
