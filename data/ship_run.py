"""Copy what a run has trained to where the course reads it: `python data/ship_run.py runs/tiny`.

    RUN/text                          -> data/t5-scenes          the frozen text encoder
    RUN/config.json, *.safetensors    -> data/checkpoints/NAME   tokenizers and transformers
    RUN/scorer-weights                -> data/checkpoints/scorer the scene scorer
    RUN/STAGE/log.jsonl               -> data/curves/STAGE.json  how its training went, or
                                         data/curves/STAGE_continued.json if it was started from other weights

What the run has not trained stays as it is. Every file is written atomically.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from minimuse.evaluate.baselines import BASELINES
from minimuse.evaluate.curves import curve_of
from minimuse.files import atomic_path, write_text
from minimuse.muse import STAGES

DATA = Path(__file__).resolve().parent
TEXT = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "held_out.json")
COMPARED = ("superres_tokenizer_reconstruction",)  # chapter 03 compares the final weights with it
LARGEST = 16 * 2**20  # bytes per file, since the history of the repository keeps every version


def copy(source: Path, target: Path) -> None:
    """Copy one file, atomically."""
    if source.stat().st_size > LARGEST:
        sys.exit(f"{source} has {source.stat().st_size / 2**20:.1f} MiB; the repository takes at most {LARGEST >> 20}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)


def ship(run: Path, data: Path = DATA) -> list[str]:
    """Copy what is trained in a run folder; returns the names of what was copied."""
    shipped = []
    if (run / "text" / "model.safetensors").is_file():
        for name in TEXT:
            copy(run / "text" / name, data / "t5-scenes" / name)
        shipped.append("t5-scenes")
    if (run / "config.json").is_file():
        config = json.loads((run / "config.json").read_text())
        folder = data / "checkpoints" / config["preset"]
        trained = [stage for stage in (*STAGES, *BASELINES) if stage in config]
        for stage in (*trained, *(name for name in COMPARED if (run / f"{name}.safetensors").is_file())):
            copy(run / f"{stage}.safetensors", folder / f"{stage}.safetensors")
        if config["text"] == "text":  # the run's own text encoder is t5-scenes from now on
            config["text"] = "t5-scenes"
        phases, before = list(config["trained"]), folder / "config.json"
        if before.is_file():
            before = json.loads(before.read_text())
            earlier = before.get("trained_before", {})  # how weights were trained that others were started from
            for phase, record in config["trained"].items():
                if record.get("start") and phase in before["trained"]:
                    earlier[phase] = [*earlier.get(phase, ()), before["trained"][phase]]
            records = dict(trained=before["trained"] | config["trained"])
            config = before | config | records | (dict(trained_before=earlier) if earlier else {})
        write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
        for phase in phases:
            if not (run / phase / "log.jsonl").is_file():
                continue
            (data / "curves").mkdir(exist_ok=True)
            name = f"{phase}_continued" if config["trained"][phase].get("start") else phase
            write_text(data / "curves" / f"{name}.json", json.dumps(curve_of(run / phase)) + "\n")
        shipped.append(f"checkpoints/{config['preset']} ({', '.join(trained)})")
    if (run / "scorer-weights" / "config.json").is_file():
        for name in ("scorer.safetensors", "config.json"):
            copy(run / "scorer-weights" / name, data / "checkpoints" / "scorer" / name)
        shipped.append("checkpoints/scorer")
    return shipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the --out of `python -m minimuse train`")
    run = parser.parse_args().run
    shipped = ship(run)
    print(f"{run} -> {', '.join(shipped)}" if shipped else f"{run} has nothing that is trained.")
    sys.exit(not shipped)


if __name__ == "__main__":
    main()
