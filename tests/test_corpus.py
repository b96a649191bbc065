import collections
import random

import pytest

from minimuse import corpus
from minimuse.scenes import BACKGROUNDS, pluralise, sprites


def test_same_seed_same_sentences():
    assert corpus.sentences(50, 3) == corpus.sentences(50, 3)
    assert corpus.sentences(50, 3) != corpus.sentences(50, 4)


def test_held_out_sentences_are_never_trained_on():
    train = {s for seed in range(4) for s in corpus.sentences(5000, seed)}
    assert train.isdisjoint(corpus.sentences(500, 0, "val"))


def test_unknown_split():
    with pytest.raises(ValueError, match="train, val"):
        corpus.sentences(1, split="test")


def test_every_kind_of_thing_is_described():
    assert set(corpus.FACTS) == {sprite.word for sprite in sprites().values()}
    described = [fact for facts in corpus.FACTS.values() for fact in facts]
    assert len(set(described)) == len(described)  # else two things could not be told apart


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


def test_lower_case_and_short():
    for sentence in corpus.sentences(2000):
        assert sentence == sentence.lower().strip()
        assert len(sentence.split()) < 25
