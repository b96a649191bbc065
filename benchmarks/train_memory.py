"""What training takes of a device's memory, as XLA plans it: `python -m benchmarks.train_memory --preset colab`.

Programs are compiled from shapes; nothing is trained, so a small machine can plan for a large one. Prints one JSON
object, in GiB: each stage's training step (`kept` is the state and the batch), and the tokens of 256 pictures, read at
once and in pieces. `--pieces 1 2 4` also plans the transformers with their batches in that many pieces (`accumulate`).
"""

import argparse
import dataclasses
import json

import jax

import minimuse
from minimuse import vqgan
from minimuse.config import TRANSFORMERS, AdversarialConfig
from minimuse.muse import TOKENIZERS, build
from minimuse.presets import get_preset
from minimuse.train.loop import machine
from minimuse.train.memory import Plan, planned, step_of

PICTURES = 256  # in a chunk of the token cache
UNPLANNED = ("text", "scorer", "critic", "style", "style_superres")  # stages whose memory `planned` does not know


def gib(plan: Plan) -> dict[str, float]:
    sizes = dict(kept=plan.kept, working=plan.working, total=plan.total)
    return {name: round(size / 2**30, 2) for name, size in sizes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="colab")
    parser.add_argument("--stages", nargs="*", help=f"default: all but {', '.join(UNPLANNED)}")
    parser.add_argument("--perceptual", default="", help="weights of VGG16, of random numbers even, for second phases")
    parser.add_argument("--pieces", nargs="*", type=int, default=[], help="of the transformers' batches")
    options = parser.parse_args()
    minimuse.enable_compilation_cache()
    preset, result = get_preset(options.preset), {}
    second = {name: train for name, train in preset.train.items() if isinstance(train, AdversarialConfig)}
    if options.perceptual:
        second = {name: dataclasses.replace(x, perceptual_network=options.perceptual) for name, x in second.items()}
    preset = dataclasses.replace(preset, train=preset.train | second)
    for stage in options.stages or [name for name in preset.train if name not in UNPLANNED]:
        own = preset.train[stage].accumulate
        for pieces in dict.fromkeys((own, *(options.pieces if stage in TRANSFORMERS else ()))):
            train = dataclasses.replace(preset.train[stage], accumulate=pieces)
            one = dataclasses.replace(preset, train=preset.train | {stage: train})
            plan = gib(planned(*step_of(one, stage))) | dict(accumulate=pieces)
            result[stage if pieces == own else f"{stage}, accumulate {pieces}"] = plan
    for name in TOKENIZERS.values():
        config = getattr(preset, name)
        model, side = build(name, config), config.image_size
        most = min(PICTURES, vqgan.pictures_at_once(model, side, side))
        for count in dict.fromkeys((PICTURES, most)):
            images = jax.ShapeDtypeStruct((count, side, side, 3), "uint8")
            result[f"{name}, {count} pictures"] = gib(planned(vqgan._read, model, images))
    print(json.dumps(result | dict(machine=machine()), indent=2))


if __name__ == "__main__":
    main()
