"""Three ways to say what should not be seen (chapter 08): `python -m experiments.negatives`.

Captions of one object that leave the background open, and an unwanted background. How often does that background occur
when it is not mentioned, when the caption rules it out in words, and when a negative caption names it? Is the object
still drawn, and exactly once, with nothing else on the canvas?
"""

import random

import numpy as np

from experiments.small import experiment
from minimuse.data import scenes
from minimuse.evaluate.fidelity import facts_true, faults
from minimuse.evaluate.scorer import shipped_scorer
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse

PICTURES = 128
WORDS = {  # the caption, and the negative caption
    "not mentioned": ("{object}", None),
    "asked for": ("{object} on {thing}", None),
    "ruled out in words": ("{object} but not on {thing}", None),
    "negative: the thing": ("{object}", "{thing}"),
    "negative: the caption with it": ("{object}", "{object} on {thing}"),
}
ARMS = {f"{words}, constant, t 2": (words, 2.0, False) for words in list(WORDS)[:2]} | {
    f"{words}, {'ramp' if ramp else 'constant'}, t {scale:g}": (words, scale, ramp)
    for words in list(WORDS)[2:]
    for scale in (0.5, 2.0, 4.0)
    for ramp in (True, False)
}


def prompts() -> list[tuple[scenes.Scene, str, str]]:
    """Scene, object and unwanted background of every picture: random objects, and each background in turn."""
    rng, colours, found = random.Random(0), tuple(scenes.BACKGROUNDS), []
    for i in range(PICTURES):
        scene = scenes.random_scene(rng, "one", "val")
        noun = scenes.a(scenes.sprites()[scene.items[0].name].name)
        found.append((scene, noun, f"{scenes.a(colours[i % len(colours)])} background"))
    return found


def run(arm: str, seed: int) -> dict:
    (words, scale, ramp), muse, given = ARMS[arm], Muse.from_pretrained("tiny", superres=False), prompts()
    caption, negative = WORDS[words]
    images, options = [], dict(guidance=scale, ramp=ramp, token_temperature=0.25, temperature=4.5, steps=12)
    options |= dict(revise=0)
    for start in range(0, PICTURES, 64):
        nouns = [dict(object=noun, thing=thing) for _, noun, thing in given[start : start + 64]]
        captions = [caption.format(**one) for one in nouns]
        negatives = None if negative is None else [negative.format(**one) for one in nouns]
        images.append(muse.generate(captions, seed=seed * 10_000 + start, negative=negatives, **options))
    pictures = np.concatenate(images)
    readings = shipped_scorer().read(pictures)
    seen = [reading.background in thing.split() for (_, _, thing), reading in zip(given, readings)]
    true = [all(facts_true(scene, noun, reading)["object"]) for (scene, noun, _), reading in zip(given, readings)]
    exact = [
        not any(faults(scene, noun, reading, image))
        for (scene, noun, _), reading, image in zip(given, readings, pictures)
    ]
    shares = {
        name: round(float(np.mean(values)), 4) for name, values in dict(unwanted=seen, object=true, exact=exact).items()
    }
    return dict(options=options | dict(caption=caption, negative=negative)) | shares


if __name__ == "__main__":
    experiment(
        "negatives", list(ARMS), run, dict(pictures=PICTURES), seeds=(0,), weights=weights_of("tokenizer", "base")
    )
