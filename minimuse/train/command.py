"""`python -m minimuse train`: one stage of a preset, or all, with any of the preset's settings changed.

tyro makes options of the arguments, see cli.py.
"""

import dataclasses
import math
import shutil
import statistics
import sys
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import tyro

from minimuse.config import TRANSFORMERS, AdversarialConfig, PicturesConfig, Preset
from minimuse.evaluate.commands import FLAT, NOTHING
from minimuse.files import to_path
from minimuse.presets import get_preset

MuseStage = Literal["text", "tokenizer", "superres_tokenizer", "base", "superres", "superres_decoder"]
Stage = Literal[MuseStage, "critic", "style", "scorer", "autoregressive", "diffusion", "all"]
NETWORK = dict(perceptual="perceptual_network", lpips="lpips")  # options, and the settings that they set
SMOKE = dict(steps=4, batch=2, warmup=1, accumulate=1)


PICTURES = tuple(field.name for field in dataclasses.fields(PicturesConfig))


class TrainOptions(TypedDict, total=False):
    """Short spellings of often-used settings; what is left out is the preset's."""

    steps: int
    """Training steps of this stage, or of every stage and second phase of all. A run can be lengthened."""
    batch: int
    """Examples per step of this stage, or of every stage and second phase of all."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """What transformers compute in: bfloat16 is for TPUs and newer GPUs, float16 for older ones such as the T4, with a
    scaled loss. Weights stay float32."""
    accumulate: int
    """Compute a stage's batch in this many pieces, one after another, if the whole does not fit in memory. Gradients
    and metrics are those of the whole batch, with the same masks. Not for training against a discriminator. With all,
    it is for the transformers only."""
    data: str
    """Your own captioned pictures: a folder with metadata.jsonl or .csv (file_name, text), with a .txt file beside each
    picture, or with a folder for each kind; a .zip, .tar or Parquet file, or a folder of them; a saved data set, or one
    of the Hugging Face Hub. The presets train on emoji scenes."""
    image_column: str
    """Of your pictures: the column of pictures, or of their files' names, if it has an unusual name."""
    caption_column: str
    """Of your pictures: the column of captions, if it has an unusual name. A list holds several captions of a picture;
    one is drawn each time."""
    crop: Literal["center", "pad"]
    """Of your pictures: center takes the middle square, pad the whole picture, with white beside it."""
    flip: bool
    """Also learn from mirror images of your pictures, where no caption says left or right."""
    bad_share: float
    """Share of your pictures that may be unreadable; these are skipped and listed. With more, nothing is trained."""
    cache: str
    """Folder for your prepared pictures and their tokens, such as one on a mounted drive. Without it, pictures are kept
    in ~/.cache/minimuse and tokens in the run folder. A picture takes 3 bytes per pixel: 0.25 MB at 128 and 256 px."""
    artwork: str
    """For superres_decoder: a Parquet file of drawings, as data/build_training_artwork.py builds it; half of the
    pictures are then collages of them."""
    perceptual: Annotated[str, tyro.conf.arg(metavar="FILE|FOLDER|HUB-NAME")]
    """For tokenizers and superres_decoder, on photographs: the weights of VGG16, whose features the perceptual loss
    compares: a safetensors file, a folder with model.safetensors, or a Hub name such as timm/vgg16.tv_in1k (550 MB).
    Without it your own pictures are compared by pixels and by a discriminator."""
    lpips: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """With --perceptual: a safetensors file with the weights that LPIPS gives VGG16's channels."""
    start: Annotated[str, tyro.conf.arg(name="from", metavar="CHECKPOINT")]
    """A checkpoint whose weights the stage begins with, or each stage of all that it has. What the stage is trained on
    (tokenizers, text encoder) is copied from it where the run has none."""
    text: str
    """Frozen text encoder: a folder, or a Hub name such as google/flan-t5-base."""
    mesh: tuple[int, int]
    """Devices along data (each has a part of the batch) and along fsdp (each also has a part of the weights); 0 = all
    that are left. A run may be resumed on a different mesh."""
    save_seconds: float
    """Seconds between checkpoints; more where saving is slow, as on a mounted drive."""
    report: Literal["tensorboard", "wandb", "trackio"]
    """Where the log also goes, if its package is installed: TensorBoard (event files in each stage's folder), Weights &
    Biases, or Trackio."""
    processes: str
    """For several hosts, with the same command on each: auto on TPU pods and under Slurm, else ADDRESS:PORT,COUNT,INDEX
    with the address of process 0. All of them must see the folder --out."""


def nested_settings(preset: Preset) -> dict[str, Any]:
    """The fields of a preset that `train` offers as nested options, such as --train.base.learning-rate."""
    names = [field.name for field in dataclasses.fields(preset) if field.name not in ("name", "text", "data")]
    return {name: getattr(preset, name) for name in names}


def configured(preset: Preset, stage: Stage, given: TrainOptions) -> tuple[Preset, tuple[str, ...]]:
    """The preset with the options that were given, and the names of the stages to train."""
    names, needed = (stage,), (stage,)
    if stage == "all":
        # A T5 trained here knows only the words of the scenes; for other pictures use the preset's.
        without = ("text",) if given.keys() & {"data", "text", "start"} else ()
        names = tuple(name for name in typing.get_args(MuseStage) if name in preset.train and name not in without)
        needed = ("tokenizer", "base")
    if missing := [name for name in needed if name not in preset.train]:
        there = ", ".join(preset.train)
        raise ValueError(f"Preset {preset.name} has no training settings for {missing[0]}; it has them for {there}.")
    if stage in ("text", "scorer") and given.keys() & {"data", "text"}:
        raise ValueError(f"--data and --text are for other stages; {stage} learns from the course's own scenes.")
    if stage == "text" and "start" in given:
        raise ValueError("--from is for other stages; text is trained from fresh weights.")
    if stage == "style" and "text" in given:
        raise ValueError("--text is for other stages; a style keeps the text encoder of the checkpoint it starts from.")
    groups = ("steps", "batch", "artwork"), ("dtype",), ("accumulate",), ("mesh", "save_seconds", "report"), PICTURES
    of_stage, dtype, pieces, run, pictures = (
        {name: value for name, value in given.items() if name in group} for group in groups
    )
    if pictures and not given.get("data", preset.data):
        name = next(iter(pictures)).replace("_", "-")
        raise ValueError(f"--{name} is for your own pictures; give them as --data.")
    if "artwork" in of_stage and stage != "superres_decoder":
        raise ValueError(f"--artwork is for superres_decoder; it was given for {stage}.")
    if dtype and not set(names) & set(TRANSFORMERS):
        raise ValueError(f"--dtype is for transformers ({', '.join(TRANSFORMERS)}), not {stage}.")
    if stage == "diffusion" and given.get("dtype", "float32") != "float32":
        raise ValueError(f"--dtype {given.get('dtype')} is not for diffusion, which is trained in float32.")
    second = [phase for phase in preset.phases(names) if isinstance(preset.train[phase], AdversarialConfig)]
    network = {NETWORK[name]: _whole_path(str(value)) for name, value in given.items() if name in NETWORK}
    if network and not second:
        option = next(name for name in given if name in NETWORK)
        raise ValueError(
            f"--{option} is for superres_decoder and for tokenizers with an adversarial phase, which {stage} of preset "
            f"{preset.name} does not have."
        )
    train = dict(preset.train)
    train |= {phase: dataclasses.replace(train[phase], **network) for phase in second}
    for name in names:
        changes: dict[str, Any] = dict(of_stage)
        if name in TRANSFORMERS:
            changes |= dtype
        if name in TRANSFORMERS or stage != "all":
            changes |= pieces
        train[name] = dataclasses.replace(train[name], **changes)
        if stage == "all" and (second := f"{name}_adversarial") in train:
            train[second] = dataclasses.replace(train[second], **of_stage)
        for phase in preset.phases([name]):
            for field in ("steps", "batch", "accumulate"):
                if (value := getattr(train[phase], field)) < 1:
                    option = field if field in given and phase == name else f"train.{phase}.{field}"
                    raise ValueError(f"--{option} must be 1 or more; it was {value}.")
    for name, own in train.items():
        start = Path(own.start) / "config.json"
        paths = dict(start=str(start.parent.resolve())) if own.start and start.is_file() else {}
        if isinstance(own, AdversarialConfig):
            paths |= {field: _whole_path(getattr(own, field)) for field in ("artwork", "perceptual_network", "lpips")}
        train[name] = dataclasses.replace(own, **paths)
    changes = dict(run=dataclasses.replace(preset.run, **run), data=_whole_path(given.get("data", preset.data)))
    changes |= dict(pictures=dataclasses.replace(preset.pictures, **pictures))
    return dataclasses.replace(preset, train=train, **changes), names


def _whole_path(name: str) -> str:
    """A file or folder by its whole path, so that the run also works from another directory; other names stay."""
    return str(Path(name).resolve()) if name and Path(name).exists() else name


def without_scorer(preset: Preset, names: tuple[str, ...]) -> Preset:
    """For your own pictures: the preset without a perceptual loss where these stages name no network for it. It would
    be the scorer's, which has seen nothing but emoji scenes."""
    from minimuse.processes import is_first

    phases = preset.phases(names)
    blind = {}
    for phase in phases if preset.data else ():
        own = preset.train[phase]
        if isinstance(own, AdversarialConfig) and own.perceptual and not own.perceptual_network:
            blind[phase] = dataclasses.replace(own, perceptual=0.0)
    if blind and is_first():
        print(
            f"No network was given to compare your pictures with (--perceptual), so {', '.join(blind)} is trained "
            "without a perceptual loss."
        )
    return dataclasses.replace(preset, train=preset.train | blind)


def for_smoke(preset: Preset, names: tuple[str, ...]) -> Preset:
    """The preset with a few steps of small batches for these stages; the models keep their sizes."""
    import jax

    few: dict[str, Any] = dict(SMOKE, batch=max(SMOKE["batch"], jax.device_count()))
    train = dict(preset.train)
    for phase in preset.phases(names):
        own = dict(discriminator_start=1) if isinstance(train[phase], AdversarialConfig) else dict(quantize_start=1)
        own |= dict(scenes=8 * few["batch"]) if train[phase].scenes else {}
        train[phase] = dataclasses.replace(train[phase], **few, **own, examples=8 * few["batch"])
    return dataclasses.replace(preset, train=train, run=dataclasses.replace(preset.run, log_every=1))


def _print_times(preset: Preset, names: tuple[str, ...], smoke: Path) -> None:
    """How long the stages of a preset would take at the speed of a smoke run."""
    from minimuse.files import read_log

    print("At the speed of these small batches (large ones are faster on a GPU or TPU) the whole run would take:")
    for phase in preset.phases(names):
        train, log = preset.train[phase], smoke / phase / "log.jsonl"
        if not log.is_file():
            continue
        speeds = read_log(log)["examples_per_second"]
        speed = statistics.median(speeds[1:] if len(speeds) > 1 else speeds)  # the first row's step was compiled
        hours = train.steps * train.batch / speed / 3600
        print(f"  {phase}: {hours:.1f} h for {train.steps} steps of {train.batch}, {speed:.3g} examples per second")


def _print_plan(preset: Preset, names: tuple[str, ...], out: Path) -> None:
    """What will be trained, and how long it takes if a smoke run of it has measured that."""
    phases = preset.phases(names)
    print(
        "To train: " + ", ".join(f"{name} ({preset.train[name].steps} x {preset.train[name].batch})" for name in phases)
    )
    if any((out / "smoke" / phase / "log.jsonl").is_file() for phase in phases):
        _print_times(preset, names, out / "smoke")
    else:
        print(
            "After a few steps the bar of a stage shows the time left; --smoke first estimates all stages, in minutes."
        )


def _smoke_folder(preset: Preset, names: tuple[str, ...], out: Path) -> Path:
    """The folder smoke of a run, emptied, with the run's tokenizers for stages that need them."""
    from minimuse.processes import first_alone, is_first
    from minimuse.train import stages

    folder = out / "smoke"
    with first_alone():
        if is_first():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
    if (out / "config.json").is_file():
        stages.begin(preset, names, folder, str(out))
    return folder


def _check_sizes(preset: Preset, names: tuple[str, ...]) -> None:
    """ValueError now for sizes that no module can have, or with which the stages could not be used together later."""
    from minimuse.decoding import check_sampling
    from minimuse.muse import STAGES, TOKENIZERS, build, check_agreement

    configs = {stage: getattr(preset, stage) for stage in STAGES if hasattr(preset, stage)}
    check_agreement(configs)
    for stage, tokenizer in TOKENIZERS.items():
        grid, config = configs[stage].grid, configs[tokenizer]
        if config.factor < 1:
            raise ValueError(f"--{tokenizer}.factor must be 1 or more; it was {config.factor}.")
        check_sampling(preset.sampling[stage], math.prod(grid), configs[stage].codebook_size)
        if grid != (side := config.image_size // config.factor, side):
            raise ValueError(f"{tokenizer} makes {side} x {side} tokens, but {stage}'s grid is {grid[0]} x {grid[1]}.")
    for stage in configs.keys() & {*names, *(TOKENIZERS[name] for name in names if name in TOKENIZERS)}:
        build(stage, configs[stage])


def train(
    stage: tyro.conf.Positional[Stage],
    /,
    *,
    preset: str = "tiny",
    out: Path = Path("runs/tiny"),
    smoke: bool = False,
    given: Annotated[TrainOptions, FLAT] = NOTHING,
    settings: Annotated[dict[str, Any], FLAT] = NOTHING,
) -> None:
    """Train one stage, or all in order. The same command resumes a run that was stopped or killed.

    The run folder becomes a checkpoint folder: `generate "a cat" --checkpoint runs/tiny` draws with it.

    Every setting of the preset is an option, too: `train base --train.base.learning-rate 3e-4 --base.depth 8
    --run.mesh 0 1`. `train --help-all` lists them. Give the same sizes to each stage of a run.

    Args:
        stage: text: T5 by span corruption; scorer: reads pictures back into scenes; tokenizer and
            superres_tokenizer: VQGAN; base and superres: the masked transformers; superres_decoder: a larger decoder
            for the same tokens; critic: finds the base's badly sampled tokens, for --critic True; style: small
            adapters of --from's transformers, from a dozen pictures of --data, to draw in their style (settings:
            --train.style for the base, --train.style-superres for super-resolution); autoregressive and diffusion:
            baselines to compare Muse with; all: every stage of Muse that the preset trains, without critic, style,
            scorer and baselines.
        preset: Name of the preset with sizes and training settings.
        out: Run folder; log.jsonl in each stage's folder holds the curves.
        smoke: First try it: the same command with a few steps of small batches, in minutes, into the folder smoke of
            the run folder. What is there from an earlier try is deleted.
    """
    from minimuse.processes import check_jax, is_first, start, wait_for_all

    out = to_path(out, "A run folder")
    run, names = configured(dataclasses.replace(get_preset(preset), **settings), stage, given)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out names a folder, such as runs/tiny.")
    if "processes" in given:
        start(given["processes"])
    check_jax()
    from minimuse.train import stages
    from minimuse.train.loop import Stopped
    from minimuse.train.starting import start_all, text_of

    if "start" in given:
        run = start_all(run, names, given["start"])
        text = given.get("text") or text_of(given["start"])
        run = stages.with_text(run, text) if text and set(names) & set(TRANSFORMERS) else run
    elif "text" in given:
        run = stages.with_text(run, given["text"])
    run = without_scorer(run, names)
    _check_sizes(run, names)
    stages.check(run, names, out)
    whole = run
    if smoke:
        run = for_smoke(run, names)
        out = _smoke_folder(run, names, out)
    elif is_first():
        _print_plan(run, names, out)
    out.mkdir(parents=True, exist_ok=True)
    if "start" in given:
        stages.begin(run, names, out, given["start"])
    name, changed = stage, [key for key, value in settings.items() if value != getattr(get_preset(preset), key)]
    try:
        for name in names:
            stages.TRAIN[name](run, out)
            wait_for_all()  # the next stage reads what the first process has written
    except Stopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)
    except (TypeError, ArithmeticError, LookupError) as error:
        if not changed:
            raise
        message = f"Stage {name} cannot be trained with these settings of {', '.join(changed)}: {error}"
        raise ValueError(message) from error
    if smoke:
        _print_times(whole, names, out)
    print(f"Stage {stage} of preset {preset} -> {out}")
