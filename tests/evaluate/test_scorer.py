"""The scene scorer: what it is trained on, and the reading of a picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse.data import scenes
from minimuse.data.scenes import Item, Scene
from minimuse.evaluate import scorer
from minimuse.evaluate.metrics import blur
from minimuse.train.scorer import scorer_loss, training_batch, training_picture


def test_training_targets_lie_where_the_objects_are():
    batch = training_batch(0, 64)
    names = tuple(scenes.sprites())
    for index in range(64):
        _, background, items = training_picture(index)
        found = np.argwhere(batch["classes"][index] < len(names))
        assert len(found) == len(items)
        for item in items:
            x, y = item.centre
            cell = int(y) // scenes.CELL, int(x) // scenes.CELL
            assert names[batch["classes"][index][cell]] == item.name
            assert tuple((np.array(cell[::-1]) + batch["centres"][index][cell]) * scenes.CELL) == (x, y)
        assert (batch["background"][index] == -1) == (background is None)


def test_blur_keeps_the_mean_of_a_plain_picture_and_spreads_a_dot():
    plain = jnp.full((2, 16, 16, 3), 0.25)
    assert np.allclose(blur(plain, jnp.array([0.0, 2.0])), 0.25, atol=1e-5)
    dot = jnp.zeros((1, 17, 17, 1)).at[0, 8, 8, 0].set(1.0)
    blurred = np.asarray(blur(dot, jnp.array([1.0])))[0, :, :, 0]
    assert blurred[8, 9] / blurred[8, 8] == pytest.approx(np.exp(-0.5), abs=1e-4)
    assert np.allclose(blur(dot, jnp.array([0.0])), dot, atol=1e-5)


def test_any_square_size_is_read_and_no_batch_compiles_again(caplog):
    shipped = scorer.shipped_scorer()
    scene = Scene("one", "blue", (Item("cat", 16, 16, 32),))
    for size in (64, 128):
        (seen,) = shipped.read(scenes.render(scene, size)[None])
        assert seen.background == "blue" and [thing.name for thing in seen.objects] == ["cat"]
        assert abs(seen.objects[0].x - 32) < 3 and abs(seen.objects[0].y - 32) < 3
    compiled = []
    for count in (1, 5, scorer.CHUNK + 1):
        caplog.clear()
        with jax.log_compiles():
            assert len(shipped.read(np.zeros((count, 40, 40, 3), np.uint8))) == count
        compiled.append("Compiling" in caplog.text)
    assert compiled == [True, False, False]


@pytest.mark.parametrize("images", [np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 32, 3), np.uint8)])
def test_images_of_a_different_type_or_shape_are_refused(images):
    with pytest.raises(ValueError, match=rf"{images.dtype}.*\{list(images.shape)}"):
        scorer.shipped_scorer().read(images)


def test_features_are_one_vector_per_picture():
    features = scorer.shipped_scorer().features(np.zeros((3, 64, 64, 3), np.uint8))
    assert features.shape == (3, scorer.ScorerConfig().channels[-1]) and np.isfinite(features).all()


def test_the_loss_is_least_where_the_answers_are_right():
    """A network of fixed answers: the truth costs less than a different sprite, position or background."""
    batch = training_batch(0, 8)
    classes = len(scenes.sprites()) + 1

    def loss(shift=0, move=0.0, ground=0):
        answers = (
            9.0 * jax.nn.one_hot((batch["classes"] + shift) % classes, classes),
            batch["centres"] + move,
            9.0 * jax.nn.one_hot((batch["background"] + ground) % 8, 8),
        )
        return float(scorer_loss(lambda pixels: answers, jax.random.key(0), batch)[0])

    right = loss()
    assert min(loss(shift=1), loss(move=0.5), loss(ground=1)) > right + 0.01
