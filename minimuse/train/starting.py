"""Starting a stage from the weights of a checkpoint instead of fresh ones: `train base --from runs/emoji`."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from minimuse import layers
from minimuse.config import TRANSFORMERS, Preset, from_dict
from minimuse.evaluate.baselines import BASELINES
from minimuse.files import atomic_path
from minimuse.muse import STAGES, TOKENIZERS, build
from minimuse.weights import find_checkpoint, load_weights, named_arrays, read_config

NEEDED = dict(  # stages whose tokens, or features, a stage's weights mean something for
    superres=tuple(TOKENIZERS.values()),
    superres_decoder=("superres_tokenizer",),
    critic=("tokenizer", "base"),
    **dict.fromkeys(("base", *BASELINES), ("tokenizer",)),
)


def starting_weights(checkpoint: str, stage: str, model: Any) -> Any:
    """The weights of a checkpoint's stage, as a module like the fresh `model`.

    ValueError if the checkpoint lacks the stage, or has it in other sizes.
    """
    folder = find_checkpoint(checkpoint)
    values = read_config(folder)
    if stage not in values:
        raise ValueError(f"The checkpoint {folder} has no {stage} to start from; leave out --from, or name another.")
    check_fit(folder, stage, values[stage], model)
    return load_weights(folder / f"{stage}.safetensors", model)


def check_fit(folder: Path, stage: str, theirs: Any, model: Any) -> None:
    """ValueError if the stage of a checkpoint, whose config is `theirs`, has other shapes than `model`."""
    if stage in STAGES:
        other = build(stage, from_dict(STAGES[stage][0], theirs))
    elif stage in BASELINES:
        other = layers.abstract(BASELINES[stage].module, from_dict(BASELINES[stage].config, theirs))
    else:  # the scorer has one size
        return
    shapes = [{name: x.shape for name, x in named_arrays(each).items()} for each in (other, model)]
    if wrong := sorted(
        name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)
    ):
        name = wrong[0]
        raise ValueError(
            f"The {stage} of {folder} does not fit this run's: {name} is {shapes[0].get(name, 'missing')} there and "
            f"{shapes[1].get(name, 'missing')} here ({len(wrong)} weights differ). Choose the preset and the sizes "
            "that it was trained with, or leave out --from."
        )


def start_all(preset: Preset, names: tuple[str, ...], checkpoint: str) -> Preset:
    """The preset with `start` set for those of the stages that the checkpoint has.

    A decoder draws the tokens of one tokenizer; where that tokenizer is trained, too, the decoder begins as its own.
    ValueError if the checkpoint has none of the stages.
    """
    folder = find_checkpoint(checkpoint).resolve()
    there = read_config(folder)
    begun = [name for name in names if name in there or name == "style"]  # which is of all its transformers
    if "superres_tokenizer" in begun:
        begun = [name for name in begun if name != "superres_decoder"]
    if not begun:
        raise ValueError(f"The checkpoint {folder} has no {' or '.join(names)} to start from; it has {_stages(there)}.")
    if fresh := [name for name in names if name not in begun]:
        print(f"{', '.join(begun)} start from {folder}, {', '.join(fresh)} from fresh weights.")
    train = {name: dataclasses.replace(preset.train[name], start=str(folder)) for name in begun}
    return dataclasses.replace(preset, train=preset.train | train)


def _stages(values: dict) -> str:
    return ", ".join(name for name in (*STAGES, *BASELINES, "scorer") if name in values)


def text_of(checkpoint: str) -> str:
    """The text encoder of a checkpoint: a folder of its own, or a name."""
    folder = find_checkpoint(checkpoint).resolve()
    name = read_config(folder).get("text", "")
    return str(folder / name) if name and (folder / name).is_dir() else name


def adopt(preset: Preset, names: tuple[str, ...], out: Path, checkpoint: str) -> dict[str, Any]:
    """Copy into a run folder what the stages are trained on and the run does not have: tokenizers and text encoder of
    the checkpoint, since its weights mean nothing for others. Returns the configs of what was copied, by stage."""
    folder, found = find_checkpoint(checkpoint), {}
    values, have = read_config(folder), read_config(out) if (out / "config.json").is_file() else {}
    needed = {name for stage in names for name in NEEDED.get(stage, ())} - {*names}
    for name in sorted(needed):
        if name in values and name not in have:
            _copy(folder / f"{name}.safetensors", out)
            found[name] = from_dict(STAGES[name][0], values[name])
    text = folder / str(values.get("text", ""))
    own = out / "text"
    if {*names} & {*TRANSFORMERS} and text != folder and text.is_dir() and not (own / "config.json").is_file():
        own.mkdir(exist_ok=True)
        files = [file for file in text.iterdir() if file.suffix in (".json", ".safetensors")]
        for file in sorted(files, key=lambda file: file.name == "config.json"):  # last: with it the encoder is there
            _copy(file, own)
    return found


def _copy(file: Path, folder: Path) -> None:
    with atomic_path(folder / file.name) as partial:
        shutil.copyfile(file, partial)
