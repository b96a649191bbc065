"""The perceptual loss, and the feature functions it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse.evaluate.scorer import shipped_scorer
from minimuse.train.perceptual import perceptual_loss, vgg_maps


def test_by_hand():
    x = jnp.zeros((1, 1, 2, 2)).at[0, 0, 0].set(jnp.array([3.0, 0])).at[0, 0, 1].set(jnp.array([1.0, 0]))
    y = jnp.zeros((1, 1, 2, 2)).at[0, 0, 0].set(jnp.array([0.0, 5])).at[0, 0, 1].set(jnp.array([7.0, 0]))
    # The first place: (1, 0) against (0, 1), squared distance 2. The second: the same direction, 0. Mean 1.
    assert perceptual_loss(lambda p: [p], x, y) == pytest.approx(1.0, abs=1e-5)
    # A second map in which all is alike halves it, however many places it has.
    assert perceptual_loss(lambda p: [p, jnp.ones((1, 9, 9, 4))], x, y) == pytest.approx(0.5, abs=1e-5)


def test_nothing_between_equal_pictures_and_no_nan_where_features_are_zero():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    value, slope = jax.value_and_grad(lambda p: perceptual_loss(lambda q: [q, 0 * q], p, x))(x)
    assert value == 0 and np.isfinite(slope).all()


@pytest.mark.parametrize("height, width", [(64, 64), (128, 128), (32, 72)])
def test_the_scorer_has_two_resolutions_of_maps(height, width):
    maps = jax.jit(shipped_scorer().maps)(jnp.zeros((2, height, width, 3)))
    assert {m.shape[:3] for m in maps} == {(2, height // 4, width // 4), (2, height // 8, width // 8)}


def test_vgg_agrees_with_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    # The form of torchvision's VGG: convolutions, each with its ReLU, and poolings, in one Sequential `features`.
    sizes, layers, width = (5, 6, "pool", 7, "pool", 8), [], 3
    for size in sizes:
        if size == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(width, size, 3, padding=1), nn.ReLU()]
            width = size
    torch.manual_seed(0)
    network = nn.Sequential(*layers)
    weights = {f"features.{name}": value.numpy() for name, value in network.state_dict().items()}
    weights |= {"classifier.0.weight": np.zeros((2, 2))}  # what is no convolution is left alone

    x = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
    theirs, found = torch.tensor((x + 1) / 2), []
    theirs = ((theirs - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])).permute(0, 3, 1, 2)
    with torch.no_grad():
        for number, layer in enumerate(network):
            theirs = layer(theirs)
            if number in (3, 6, 9):
                found.append(theirs.permute(0, 2, 3, 1).numpy())
    ours = vgg_maps(weights, layers=(3, 6, 9))(jnp.asarray(x))
    assert [m.shape for m in ours] == [m.shape for m in found]
    for a, b in zip(ours, found):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_wrong_weights_are_refused_in_words():
    with pytest.raises(ValueError, match="conv1"):
        vgg_maps({"conv1": np.zeros(3)})
    some = {
        f"features.{n}.{kind}": np.zeros((2, 3, 3, 3)[: 4 if kind == "weight" else 1])
        for n in (0, 2)
        for kind in ("weight", "bias")
    }
    with pytest.raises(ValueError, match=r"(?=.*\[1, 3\]).*\[8\]"):
        vgg_maps(some, layers=(3, 8))
