"""The command line: `python -m minimuse generate | edit | train | evaluate | grade | doctor`, each a function below.

tyro turns the functions' arguments and docstrings into options and help. What the user got wrong is said in one
sentence, with exit code 2; Ctrl-C in training saves first.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from minimuse.config import TRANSFORMERS, Preset, data_dir
from minimuse.presets import get_preset

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How pictures are drawn; what is not given is the checkpoint's own."""

    steps: int | None = None
    """Decoding steps."""
    guidance: float | None = None
    """Guidance scale t."""
    ramp: bool | None = None
    """Whether t rises linearly from step to step (True), or is the same at all (False)."""
    temperature: float | None = None
    """Of the noise on the confidence; more gives more variety."""
    token_temperature: float | None = None
    """Of the tokens; less prefers the likelier ones."""
    top_k: int | None = None
    """Draw tokens from so many likeliest codes; 0: from all."""
    law: str | None = None
    """Of the decode schedule: cosine, linear, square and so on."""
    order: Literal["confidence", "halton", "random"] | None = None
    """In which places are revealed."""
    superres_steps: int | None = None
    """Decoding steps of the super-resolution stage."""
    superres_guidance: float | None = None
    """Its guidance scale t."""
    superres_temperature: float | None = None
    """Of the noise on its confidence."""
    superres_token_temperature: float | None = None
    """Of its tokens."""

    def options(self, defaults: dict) -> dict:
        """Those that were given, as `Muse.generate` takes them; `defaults` are the checkpoint's."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        found = {name: value for name, value in given.items() if not name.startswith("superres_")}
        for name in (name.removeprefix("superres_") for name in given.keys() - found.keys()):
            if not isinstance(defaults.get(name), tuple):
                raise ValueError(f"--superres-{name.replace('_', '-')} is for a checkpoint with super-resolution.")
            found[name] = (found.get(name), given[f"superres_{name}"])
        return found


Options = Annotated[Sampling, tyro.conf.arg(name="")]  # --steps rather than --sampling.steps


def _writable(out: Path) -> Path:
    """`out`, once it is certain that a file can be written there."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent}; make it, or choose another --out.")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"Nothing can be written to {out.parent}; choose another --out.")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out names a file, such as {out / 'picture.png'}.")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"--out {out} must end in .png, .jpg or .webp.")
    return out


def _picture(path: Path):
    """The whole picture of a file, as a PIL image."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except OSError:  # says it in a sentence: no such file, no picture, cut short
        raise
    except Exception as error:  # a picture too large, and what Pillow's decoders trip over in damaged files
        raise ValueError(f"{path} is no whole picture: {error}") from None
    return image


def save_picture(images, out: Path, columns: int, scale: int = 1) -> None:
    """uint8 [B, H, W, 3] as one picture, `columns` side by side, each pixel `scale` wide; whole or not at all."""
    import numpy as np
    from PIL import Image

    from minimuse.files import whole

    b, h, w, _ = images.shape
    rows = -(-b // columns)
    sheet = np.full((rows * columns, h, w, 3), 255, np.uint8)
    sheet[:b] = images
    sheet = sheet.reshape(rows, columns, h, w, 3).swapaxes(1, 2).reshape(rows * h, columns * w, 3)
    sheet = sheet.repeat(scale, 0).repeat(scale, 1)
    with whole(out) as partial:
        Image.fromarray(sheet).save(partial)
    print(f"{b} picture{'s' * (b != 1)} of {w} x {h} pixels -> {out}")


def generate(
    captions: Positional[tuple[str, ...]],
    /,
    *,
    n: int = 1,
    seed: int = 0,
    out: Path = Path("minimuse.png"),
    checkpoint: str = "tiny",
    negative: str | None = None,
    superres: bool = True,
    finetuned: bool = True,
    scale: int = 1,
    sampling: Options = Sampling(),
) -> None:
    """Draw pictures of captions and save them as one picture: a row for every caption, n to a row.

    Args:
        captions: What to draw, each caption in quotes.
        n: Pictures of every caption.
        seed: The same seed gives the same pictures.
        out: The file to write (.png, .jpg or .webp).
        checkpoint: A shipped preset's name, or a checkpoint folder.
        negative: A caption of what should not be seen.
        superres: Raise the resolution, if the checkpoint can.
        finetuned: Use the fine-tuned decoder, if the checkpoint has one.
        scale: Make every pixel this many pixels wide.
        sampling: How they are drawn.
    """
    if not captions:
        raise ValueError('Give at least one caption in quotes, such as "a cat left of a dog on a blue background".')
    if scale < 1:
        raise ValueError(f"--scale must be 1 or more; it was {scale}.")
    _writable(out)
    from minimuse.muse import Muse

    muse = Muse.from_pretrained(checkpoint, superres=superres)
    options = sampling.options(muse.defaults) | ({} if finetuned else dict(finetuned=False))
    images = muse.generate(list(captions), n, seed, negative=negative, **options)
    save_picture(images, out, n, scale)


def edit(
    image: Positional[Path],
    caption: Positional[str],
    /,
    *,
    mask: Path | None = None,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    iterations: int | None = None,
    n: int = 1,
    seed: int = 0,
    out: Path = Path("edited.png"),
    checkpoint: str = "tiny",
    negative: str | None = None,
    superres: bool = True,
    finetuned: bool = True,
    scale: int = 1,
    sampling: Options = Sampling(),
) -> None:
    """Change a picture by a caption: under a mask, past its borders, or, without either, wherever the caption asks.

    Args:
        image: The picture, a file of any kind that Pillow reads. A square is resized to what the checkpoint draws;
            under a mask and past the borders it may be larger, with sides that are multiples of 16 pixels (8 without
            super-resolution).
        caption: The whole picture as it shall be, in quotes.
        mask: A picture of the same size, white where it may change.
        left: Pixels to add on the left.
        right: Pixels to add on the right.
        top: Pixels to add at the top.
        bottom: Pixels to add at the bottom.
        iterations: Of editing without a mask, 100 if it is not given; fewer keep more of the picture.
        n: How many different results.
        seed: The same seed gives the same pictures.
        out: The file to write (.png, .jpg or .webp).
        checkpoint: A shipped preset's name, or a checkpoint folder.
        negative: A caption of what should not be seen.
        superres: Work at the higher resolution, if the checkpoint can.
        finetuned: Use the fine-tuned decoder, if the checkpoint has one.
        scale: Make every pixel this many pixels wide.
        sampling: How tokens are drawn.
    """
    if scale < 1:
        raise ValueError(f"--scale must be 1 or more; it was {scale}.")
    past = dict(left=left, right=right, top=top, bottom=bottom)
    if mask and any(past.values()):
        raise ValueError(
            "--mask changes what is there and --left, --right, --top, --bottom add to it; give one of both."
        )
    _writable(out)
    free = not mask and not any(past.values())  # mask-free editing
    if not free and iterations is not None:
        raise ValueError("--iterations is for editing without a mask and past no border.")
    picture, masked = _picture(image), mask and _picture(mask)
    from minimuse.muse import Muse

    muse = Muse.from_pretrained(checkpoint, superres=superres)
    options = sampling.options(muse.defaults)
    if unused := sorted(set(options) - {"guidance", "token_temperature", "top_k"}) if free else []:
        raise ValueError(f"Editing without a mask has no --{unused[0].replace('_', '-')}; it has --iterations.")
    if superres and not finetuned:
        options["finetuned"] = False
    options |= dict(n=n, seed=seed, negative=negative)
    if masked:
        images = muse.inpaint(picture, masked, caption, **options)
    elif any(past.values()):
        images = muse.outpaint(picture, caption, **past, **options)
    else:
        options |= {} if iterations is None else dict(iterations=iterations)
        images = muse.edit(picture, caption, **options)
    save_picture(images, out, n, scale)


ALL = ("text", "tokenizer", "superres_tokenizer", "base", "superres", "superres_decoder")
Stage = Literal[
    "text",
    "scorer",
    "tokenizer",
    "superres_tokenizer",
    "base",
    "superres",
    "superres_decoder",
    "autoregressive",
    "diffusion",
    "all",
]


def _to_train(preset: Preset, stage: Stage, given: dict) -> tuple[Preset, tuple[str, ...]]:
    """The preset with the options that were given in the place of its own, and the names of the stages to train."""
    names, needed = (stage,), (stage,)
    if stage == "all":
        # A T5 trained here knows the words of the scenes alone; for other pictures it is the preset's.
        without = ("text",) if given.keys() & {"data", "text"} else ()
        names = tuple(name for name in ALL if name in preset.train and name not in without)
        needed = ("tokenizer", "base")
    if missing := [name for name in needed if name not in preset.train]:
        there = ", ".join(preset.train)
        raise ValueError(f"Preset {preset.name} does not say how to train {missing[0]}; it does so for {there}.")
    if stage in ("text", "scorer") and given.keys() & {"data", "text"}:
        raise ValueError(f"--data and --text are for other stages; {stage} learns from the course's own scenes.")
    if wrong := [name for name in ("steps", "batch", "accumulate") if given.get(name, 1) < 1]:
        raise ValueError(f"--{wrong[0]} must be 1 or more; it was {given[wrong[0]]}.")
    of_stage, computing, run = (
        {name: given[name] for name in group if name in given}
        for group in (("steps", "batch"), ("dtype", "accumulate"), ("mesh", "save_seconds"))
    )
    if of_stage and stage == "all":
        raise ValueError("--steps and --batch are for one stage; every stage of all has its own.")
    if computing and not set(names) & set(TRANSFORMERS):
        raise ValueError(f"--dtype and --accumulate are for transformers ({', '.join(TRANSFORMERS)}), not {stage}.")
    changes = {name: of_stage | (computing if name in TRANSFORMERS else {}) for name in names}
    train = {name: dataclasses.replace(preset.train[name], **values) for name, values in changes.items()}
    run = dataclasses.replace(preset.run, **run)
    data = given.get("data", preset.data)
    return dataclasses.replace(preset, train=preset.train | train, run=run, data=data), names


def train(
    stage: Positional[Stage],
    /,
    *,
    preset: str = "tiny",
    out: Path = Path("runs/tiny"),
    data: str | None = None,
    text: str | None = None,
    steps: int | None = None,
    batch: int | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    accumulate: int | None = None,
    mesh: tuple[int, int] | None = None,
    save_seconds: float | None = None,
    processes: str | None = None,
) -> None:
    """Train one stage, or all in order. The same command resumes what was stopped or killed.

    The run folder becomes a checkpoint folder: `generate --checkpoint runs/tiny` draws with it.

    Args:
        stage: text: T5 by span corruption; scorer: reads pictures back into scenes; tokenizer and
            superres_tokenizer: VQGAN; base and superres: the masked transformers; superres_decoder: a larger decoder
            behind the same tokens; autoregressive and diffusion: what Muse is compared with (baselines.py); all: all
            of Muse that the preset trains, without scorer and baselines.
        preset: Sizes and training settings, by name.
        out: The run folder; log.jsonl in each stage's folder holds the curves.
        data: Your own captioned pictures: a folder with metadata.jsonl (file_name, text), a Parquet file, or a data
            set of the Hugging Face Hub. Default the emoji scenes.
        text: The frozen text encoder, a folder or a Hub name such as google/flan-t5-base; default the preset's.
        steps: Training steps of this stage; default the preset's. Not for all.
        batch: Pictures a step; default the preset's. Not for all. With --steps 6000 --batch 32 the stage base takes
            an hour and a quarter on two cores.
        dtype: What the transformers compute in; default the preset's. bfloat16 is for TPUs and for GPUs that have it
            (not the T4); weights and their averages stay float32.
        accumulate: Parts that a transformer's batch is computed in, one after another, where the whole does not fit in
            memory; default the preset's. The result is that of the whole.
        mesh: Devices along data (each its part of the batch) and along fsdp (each its part of the weights, too); 0: all
            that are left. Default the preset's, for most 0 1. A run may be resumed on another mesh.
        save_seconds: Between checkpoints; default 40. More where saving is slow, as on a mounted drive.
        processes: For several hosts, with the same command on each: auto on TPU pods and under Slurm, else
            ADDRESS:PORT,COUNT,INDEX with the address of process 0. All must see one folder --out.
    """
    from minimuse.processes import start, wait_for_all

    given = dict(steps=steps, batch=batch, dtype=dtype, accumulate=accumulate, mesh=mesh, save_seconds=save_seconds)
    given = {name: value for name, value in dict(given, data=data, text=text).items() if value is not None}
    settings, names = _to_train(get_preset(preset), stage, given)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out names a folder, such as runs/tiny.")
    if processes:
        start(processes)
    from minimuse.train import stages
    from minimuse.train.loop import Stopped

    if text is not None:
        settings = stages.with_text(settings, text)
    stages.check(settings, names, out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        for name in names:
            stages.TRAIN[name](settings, out)
            wait_for_all()  # the next stage reads what the first process has written
    except Stopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)
    print(f"Stage {stage} of preset {preset} -> {out}")


def _panel(names: tuple[str, ...], clip: str | None) -> tuple[list, dict]:
    """The judges of these names, and what to tell of them in the settings."""
    if not names:
        return [], {}
    from minimuse.evaluate.fid_clip import CLIP, Clip, Inception

    clip = clip or CLIP
    panel = [Inception() if name == "inception" else Clip.from_pretrained(clip) for name in names]
    return panel, dict(judges=names) | (dict(clip=clip) if "clip" in names else {})


def _evaluate_all(preset: str) -> None:
    tool = data_dir().parent / "tools" / "results.py"
    if preset != "tiny" or not tool.is_file():
        raise ValueError("evaluate all measures the preset tiny anew, in a clone of the repository; it takes no other.")
    sys.exit(subprocess.call([sys.executable, str(tool), "--measure", "--experiments"]))


def evaluate(
    what: Positional[Literal["generation", "autoregressive", "diffusion", "editing", "tokenizer", "scorer", "all"]],
    /,
    *,
    preset: str = "tiny",
    stage: Literal["base", "superres"] = "base",
    split: Literal["train", "val", "unseen_pairs", "unseen_words"] = "val",
    n: int | None = None,
    seed: int = 0,
    finetuned: bool = True,
    judges: tuple[Literal["inception", "clip"], ...] = (),
    clip: str | None = None,
    sampling: Options = Sampling(),
    json_only: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Measure, and print one JSON object.

    Args:
        what: generation: the share of captions whose every asked fact the scorer sees in the picture; autoregressive
            and diffusion: the same of the baselines; editing: of rule-made edits, inpainted and without a mask, the
            asked facts that are true afterwards, and the others that still are; and the seam of pictures drawn on, of a
            quarter as many; tokenizer: reconstruction of held-out scenes; scorer: how well it reads real renders; all:
            every number that README.md and the notebooks print, into data/results and data/experiments of a clone. That
            trains the experiments' models, too, which takes many hours on two cores. tools/results.py does parts of it.
        preset: A shipped preset's name, or a checkpoint folder.
        stage: Whose pictures are measured, or whose tokenizer.
        split: Where the captions come from.
        n: Captions, scenes (tokenizer, scorer) or edits; if it is not given 256, and 200 edits.
        seed: Of the sampling.
        finetuned: With the fine-tuned decoder of the stage superres, where there is one.
        judges: For generation, what the paper measures: inception adds fid, for thousands of pictures; clip adds the
            CLIP score. They need PyTorch and download their networks; Colab has it.
        clip: The judge's CLIP model: a Hub name or a folder; if it is not given openai/clip-vit-base-patch32.
        sampling: How pictures are drawn.
        json_only: Print the JSON object on one line, without indents.
    """
    if what == "all":
        _evaluate_all(preset)
        return
    n = (200 if what == "editing" else 256) if n is None else n
    if n < 1:
        raise ValueError(f"--n must be 1 or more; it was {n}.")
    if what == "editing" and (split, sampling) != ("val", Sampling()):
        raise ValueError(
            "evaluate editing takes its scenes from val and draws with the defaults; it has no such options."
        )
    if what in ("tokenizer", "scorer") and (split, seed, sampling) != ("val", 0, Sampling()):
        raise ValueError(
            f"evaluate {what} reads scenes of the split val; its options are --preset, --stage, --n, --json."
        )
    if what not in ("tokenizer", "generation", "editing") and stage != "base":
        raise ValueError(f"evaluate {what} has no --stage; evaluate tokenizer, generation and editing do.")
    if judges and what != "generation":
        raise ValueError(f"evaluate {what} has no --judges; evaluate generation does.")
    if clip is not None and "clip" not in judges:
        raise ValueError("--clip names the model of --judges clip; give both.")
    from minimuse.evaluate import baselines, edits, fidelity, scorer
    from minimuse.muse import Muse

    if what == "scorer":
        result = fidelity.evaluate_scorer(scorer.shipped_scorer(), n=n)
    elif what == "tokenizer":
        muse = Muse.from_pretrained(preset)
        grown = finetuned and stage == "superres" and "superres_decoder" in muse.configs
        result = fidelity.evaluate_tokenizer(muse, stage, n=n, finetuned=grown)
    elif what == "editing":
        muse = Muse.from_pretrained(preset, superres=stage == "superres")
        stages = dict(superres=True, finetuned=finetuned and "superres_decoder" in muse.configs)
        stages = stages if stage == "superres" else {}
        result = dict(
            inpainting=edits.evaluate_inpainting(muse, n, seed, **stages),
            mask_free=edits.evaluate_mask_free(muse, n, seed),
            outpainting=edits.evaluate_outpainting(muse, max(1, n // 4), seed, **stages),
            settings=dict(preset=preset, stage=stage, n=n, seed=seed) | stages,
        )
    else:
        superres = stage == "superres"
        panel, about = _panel(judges, clip)  # before the work, so that a missing one is known at once
        muse = Muse.from_pretrained(preset, superres=superres)
        drawer = baselines.Twin.from_pretrained(what, preset, muse) if what in baselines.TWINS else muse
        options = sampling.options(drawer.defaults)
        if superres:
            options |= dict(superres=True, finetuned=finetuned and "superres_decoder" in muse.configs)
        result = fidelity.evaluate_generation(drawer, split=split, n=n, seed=seed, judges=panel, **options)
        result["settings"] = dict(preset=preset) | result["settings"] | about
    print(json.dumps(result, indent=None if json_only else 2))


def doctor() -> None:
    """Look at this machine: versions, devices, memory, data; and say what to do about what is wrong."""
    from minimuse.teach import doctor

    doctor.main()


def grade(
    notebooks: Positional[list[Path]],
    /,
    *,
    csv: Path | None = None,
    hidden: Path | None = None,
    seconds: float = 300.0,
) -> None:
    """Mark notebooks of exercises, without nbgrader. For teachers.

    Args:
        notebooks: What students handed in. Their functions are run: mark strangers' work on a machine that you can
            lose.
        csv: The file to write: a row an exercise.
        hidden: A folder of further checks that students do not have; see exercises/README.md.
        seconds: An answer that takes longer gets no marks.
    """
    from minimuse.teach import checking, grading

    if not notebooks:
        raise ValueError("Name the notebooks to mark, such as submissions/*.ipynb.")
    if csv is not None and (csv.suffix.lower() != ".csv" or csv.is_dir() or not csv.parent.is_dir()):
        raise ValueError(f"--csv names a file in a folder that exists, such as grades.csv; it was {csv}.")
    if hidden is not None:
        if not any(hidden.glob("ex[0-9][0-9].py")):
            raise ValueError(f"{hidden} holds no checks; they are files such as ex06.py.")
        os.environ[checking.HIDDEN] = str(hidden.resolve())
    grading.grade_all(notebooks, csv, seconds)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what the user can mend is said in one sentence, with exit code 2."""
    from minimuse import enable_compilation_cache

    commands = dict(generate=generate, edit=edit, train=train, evaluate=evaluate, grade=grade, doctor=doctor)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] != ["doctor"]:  # the doctor also works where JAX does not
        enable_compilation_cache()
    try:
        tyro.extras.subcommand_cli_from_dict(commands, prog="minimuse", args=arguments)
    # OSError: no such file, no permission, no space. ImportError: no PyTorch, which only judges need.
    except (ValueError, OSError, ImportError) as error:
        print(f"minimuse: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("minimuse: stopped.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):  # NumPy's and JAX's
            raise
        print(f"minimuse: This takes more memory than there is ({str(error).splitlines()[0]}).", file=sys.stderr)
        sys.exit(2)
