"""The sentences that the text encoder is pretrained on."""

import collections
import random
import re

import pytest

from minimuse.data import corpus, scenes
from minimuse.data.scenes import BACKGROUNDS, pluralise, sprites


def test_same_seed_same_sentences():
    assert corpus.sentences(50, 3) == corpus.sentences(50, 3)
    assert corpus.sentences(50, 3) != corpus.sentences(50, 4)


def test_held_out_sentences_are_never_trained_on():
    train = {s for seed in range(4) for s in corpus.sentences(5000, seed)}
    assert train.isdisjoint(corpus.sentences(500, 0, "val"))


def test_unknown_split():
    with pytest.raises(ValueError, match=r"\btest\b.*\btrain\b"):
        corpus.sentences(1, split="test")


def test_every_kind_of_thing_is_described():
    assert set(corpus.FACTS) == {sprite.word for sprite in sprites().values()}
    described = [fact for facts in corpus.FACTS.values() for fact in facts]
    assert len(set(described)) == len(described)  # else two things could not be distinguished


def test_every_word_of_a_caption_occurs():
    text = " ".join(corpus.sentences(20_000))
    for sprite in sprites().values():
        for word in (sprite.name, sprite.plural, *sprite.synonyms, *map(pluralise, sprite.synonyms)):
            assert word in text, word
    for colour in BACKGROUNDS:
        assert f"{colour} background" in text
    for phrase in ("left of", "right of", "to the left of", "above", "placed below", "that is red", "in red", "four"):
        assert phrase in text


def test_synonyms_are_as_likely_as_names():
    rng = random.Random(0)
    counts = collections.Counter()
    while counts.total() < 3000:
        noun = corpus.Noun(rng, shapes=False)
        if noun.sprite.name == "cat":
            counts[noun.bare()] += 1
    assert counts.keys() == {"cat", "kitty", "feline"}
    assert max(counts.values()) < 1.15 * min(counts.values())


def test_what_is_read_out_of_a_caption_is_true():
    """In "a cat left of a dog. on the right is a hound" the words behind the stop are true of those before it."""
    forms = {}
    for sprite in sprites().values():
        for word in (sprite.name, *sprite.synonyms):
            for form in {word, word.removeprefix(f"{sprite.colour} ")}:
                forms.setdefault(form, set()).add(sprite.name)
    meant = lambda text: {n for f in forms if text.endswith(f" {f}") for n in forms[f]}
    sides, readings = collections.Counter(), re.compile(rf"(\. |: ).*\b({'|'.join(corpus.SIDES.values())})\b")
    for sentence in filter(readings.search, corpus.sentences(7000)):
        sentence = sentence.replace("to the ", "").replace("placed ", "")
        scene, statement = re.split(r"\. |: ", sentence)
        relation = next(r for r in corpus.SIDES if f" {r} " in scene)
        first, second = (f" {part}" for part in scene.split(f" {relation} "))
        side = next(side for side in corpus.SIDES.values() if side in statement)
        sides[side] += 1
        at_side = first if corpus.SIDES[relation] == side else second
        assert corpus.SIDES[relation] == side or corpus.SIDES[scenes.INVERSE[relation]] == side
        noun = statement.removesuffix(f" is {side}").replace(f"{side} is", "").replace(f"what is {side}?", "")
        assert meant(f" {noun}") & meant(at_side), (scene, statement)
    assert sides.keys() == set(corpus.SIDES.values()) and min(sides.values()) > 400


def test_lower_case_and_short():
    for sentence in corpus.sentences(2000):
        assert sentence == sentence.lower().strip()
        assert len(sentence.split()) < 25
