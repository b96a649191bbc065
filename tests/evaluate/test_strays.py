"""What lies beside the objects of a picture: by hand, and in true pictures."""

import numpy as np
import pytest

from minimuse.data import scenes
from minimuse.data.scenes import Item, Scene
from minimuse.evaluate.scorer import Reading, Seen
from minimuse.evaluate.strays import MOST, TOLERANCE, nothing_else, strays

CAT = Scene("one", "blue", (Item("cat", 8, 16, 24),))
READ = Reading("blue", [Seen("cat", 20, 28, side=24)])


@pytest.mark.parametrize("size", [64, 128])
def test_strays_by_hand(size):
    image, scale = scenes.render(CAT, size).copy(), size // 64
    assert strays(image, READ) == 0 and nothing_else(image, READ)
    blot = (slice(50 * scale, 54 * scale), slice(50 * scale, 56 * scale))
    image[blot] = np.add(scenes.BACKGROUNDS["blue"], (TOLERANCE, 0, 0))
    assert strays(image, READ) == 0  # as far as a tokenizer may err
    image[blot] = (0, 0, 0)
    assert strays(image, READ) == 4 * 6 / 64**2 and not nothing_else(image, READ)
    image[blot] = scenes.BACKGROUNDS["blue"]
    image[0, :2] = 0
    assert 0 < strays(image, READ) <= MOST and nothing_else(image, READ)


def test_an_object_that_was_not_read_or_another_background_is_seen():
    image = scenes.render(CAT)
    assert not nothing_else(image, Reading("blue", []))
    assert strays(image, Reading("white", READ.objects)) > 0.5


@pytest.mark.parametrize("side", scenes.SIZES)
def test_a_box_has_the_size_of_its_object(side):
    """A blot beside a small object is not taken for a part of a large one."""
    scene = Scene("one", "white", (Item("pizza", 16, 16, side),))
    image, seen = scenes.render(scene).copy(), Seen("pizza", 16 + side / 2, 16 + side / 2, side=side)
    assert nothing_else(image, Reading("white", [seen]))
    image[16 : 16 + side, 16 + side + 3 : 16 + side + 5] = 0
    assert strays(image, Reading("white", [seen])) == 2 * side / 64**2


def test_true_pictures_have_none():
    for lattice in (True, False):
        for i in range(60):
            scene, _ = scenes.example("val", i, lattice=lattice)
            seen = [Seen(item.name, *item.centre, side=item.size) for item in scene.items]
            assert nothing_else(scenes.render(scene), Reading(scene.background, seen)), i
