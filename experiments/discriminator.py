"""What the discriminator adds (chapter 03): `python -m experiments.discriminator`.

The shipped super-resolution tokenizer after its first phase, after its second, and, as a control, after a second phase
that differs in one thing: nobody listens to the discriminator. What that one gains comes from the perceptual loss and
from further training.
"""

import dataclasses

from experiments.small import RUNS, experiment
from minimuse.evaluate.fidelity import evaluate_tokenizer
from minimuse.muse import Muse
from minimuse.presets import get_preset
from minimuse.train import stages
from minimuse.weights import abstract, find_checkpoint, load_weights

STAGE = "superres_tokenizer"
ARMS = ("first phase", "control", "adversarial")
PICTURES = 512
PRESET = get_preset("tiny")
SECOND = PRESET.train[f"{STAGE}_adversarial"]


def run(arm: str, seed: int) -> dict:
    muse = Muse.from_pretrained("tiny")
    if arm != "adversarial":  # that one is shipped
        earlier = find_checkpoint("tiny") / f"{STAGE}_reconstruction.safetensors"
        params = load_weights(earlier, abstract(STAGE, muse.configs[STAGE])[1])
        if arm == "control":
            control = dataclasses.replace(SECOND, adversarial=0.0, seed=seed)
            folder = RUNS / "discriminator" / f"control-{seed}"
            config, first = getattr(PRESET, STAGE), PRESET.train[STAGE]
            begun = first.steps * first.batch
            params = stages.adversarial_phase(PRESET, config, control, begun, params, {}, folder)
        muse = Muse(muse.text, muse.configs, muse.params | {STAGE: params}, muse.sampling, muse.text_name)
    return evaluate_tokenizer(muse, "superres", n=PICTURES)


if __name__ == "__main__":
    settings = dict(train=dataclasses.asdict(SECOND), pictures=PICTURES)
    experiment("discriminator", list(ARMS), run, settings, seeds=(SECOND.seed,))
