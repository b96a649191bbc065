"""What the discriminator adds (chapter 03): `python -m experiments.discriminator`.

The shipped super-resolution tokenizer after its first phase, after its second phase, and, as a control, after a second
phase without the discriminator's loss. What the control gains comes from the perceptual loss and from more training.
"""

import dataclasses

from experiments.small import RUNS, experiment
from minimuse.data.sources import open_source
from minimuse.evaluate.fidelity import evaluate_tokenizer
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse, build
from minimuse.presets import get_preset
from minimuse.train import adversarial
from minimuse.train.loop import fit
from minimuse.train.stages import adversarial_job
from minimuse.vqgan import VQGAN
from minimuse.weights import find_checkpoint, load_weights

STAGE = "superres_tokenizer"
ARMS = ("first phase", "control", "adversarial")
PICTURES = 512
PRESET = get_preset("tiny")
SECOND = PRESET.train[f"{STAGE}_adversarial"]


def run(arm: str, seed: int) -> dict:
    muse = Muse.from_pretrained("tiny")
    if arm != "adversarial":  # that one is shipped
        earlier = find_checkpoint("tiny") / f"{STAGE}_reconstruction.safetensors"
        tokenizer = load_weights(earlier, build(STAGE, muse.configs[STAGE]))
        assert isinstance(tokenizer, VQGAN)
        if arm == "control":
            control = dataclasses.replace(SECOND, adversarial=0.0, seed=seed)
            folder = RUNS / "discriminator" / f"control-{seed}"
            config, first = getattr(PRESET, STAGE), PRESET.train[STAGE]
            source, seen = open_source(PRESET.data), first.steps * first.batch
            state = fit(adversarial_job(config, control, tokenizer, source, seen), control, PRESET.run, folder)
            tokenizer = adversarial.tokenizer_of(config, state)
        muse = Muse(muse.text, muse.configs, muse.models | {STAGE: tokenizer}, muse.sampling, muse.text_name)
    return evaluate_tokenizer(muse, "superres", n=PICTURES)


if __name__ == "__main__":
    settings = dict(train=dataclasses.asdict(SECOND), pictures=PICTURES)
    weights = weights_of(STAGE, f"{STAGE}_reconstruction", text=False)
    experiment("discriminator", list(ARMS), run, settings, seeds=(SECOND.seed,), weights=weights)
