"""The perceptual loss, and the feature functions it takes."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from minimuse.config import AdversarialConfig
from minimuse.evaluate.scorer import shipped_scorer
from minimuse.train.perceptual import VGG16, VGG_LAYERS, network_of, perceptual_loss, read_vgg16, vgg_maps

IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
WIDTHS = [VGG16[layer - 1] // 32 for layer in VGG_LAYERS]  # of the five maps of `random_vgg16`


def test_by_hand():
    x = jnp.zeros((1, 1, 2, 2)).at[0, 0, 0].set(jnp.array([3.0, 0])).at[0, 0, 1].set(jnp.array([1.0, 0]))
    y = jnp.zeros((1, 1, 2, 2)).at[0, 0, 0].set(jnp.array([0.0, 5])).at[0, 0, 1].set(jnp.array([7.0, 0]))
    # The first place: (1, 0) against (0, 1), squared distance 2. The second: the same direction, 0. Mean 1.
    assert perceptual_loss(lambda p: [p], x, y) == pytest.approx(1.0, abs=1e-5)
    # A second map with equal values everywhere halves it, however many places it has.
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
    weights |= {"classifier.0.weight": np.zeros((2, 2))}  # only convolutions are read

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


# --- VGG16 and LPIPS from files -------------------------------------------------------------------------------------


def random_vgg16(divisor=32):
    """Weights in the form of VGG16's file, with random numbers and a part of its channels."""
    rng, width, weights = np.random.default_rng(0), 3, {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for number, channels in VGG16.items():
        shape = (channels // divisor, width, 3, 3)
        weights[f"features.{number}.weight"] = rng.normal(0, (2 / 9 / width) ** 0.5, shape).astype(np.float32)
        width = shape[0]
        weights[f"features.{number}.bias"] = rng.normal(0, 0.1, width).astype(np.float32)
    return weights


def random_lpips(widths=WIDTHS):
    rng = np.random.default_rng(1)
    shapes = {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(widths)}
    return {name: rng.uniform(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def files(tmp_path):
    """A folder with VGG16's weights, and a file with LPIPS's."""
    (tmp_path / "vgg16").mkdir()
    save_file(random_vgg16(), tmp_path / "vgg16" / "model.safetensors")
    save_file(random_lpips(), tmp_path / "lpips.safetensors")
    return str(tmp_path / "vgg16"), str(tmp_path / "lpips.safetensors")


def settings(network="", lpips="", **more):
    return AdversarialConfig(steps=1, batch=1, perceptual_network=network, lpips=lpips, **more)


def convolved(x, kernel, bias):
    """A 3 x 3 convolution with zeros around: x [H, W, C], torch's kernel [out, C, 3, 3] -> [H, W, out]."""
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    parts = [padded[i : i + h, j : j + w] @ kernel[:, :, i, j].T for i in range(3) for j in range(3)]
    return sum(parts) + bias


def vgg16_by_hand(weights, pixels):
    """The five maps of one picture [H, W, 3] in [-1, 1]: blocks of 2, 2, 3, 3, 3 convolutions, poolings between."""
    x, numbers, found = ((pixels + 1) / 2 - IMAGENET[0]) / IMAGENET[1], iter(VGG16), []
    for block, count in enumerate((2, 2, 3, 3, 3)):
        if block:
            h, w, c = x.shape
            x = x.reshape(h // 2, 2, w // 2, 2, c).max((1, 3))
        for _ in range(count):
            n = next(numbers)
            x = np.maximum(convolved(x, weights[f"features.{n}.weight"], weights[f"features.{n}.bias"]), 0)
        found.append(x)
    return found


def pictures(seed=0, side=32):
    """Random pictures with edges, [2, side, side, 3]."""
    small = np.random.default_rng(seed).uniform(-1, 1, (2, side // 4, side // 4, 3))
    return small.repeat(4, 1).repeat(4, 2).astype(np.float32)


def blurred(x, times):
    for _ in range(times):
        x = sum(np.roll(x, shift, (1, 2)) for shift in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))) / 5
    return x


def test_vgg16_from_a_file_has_the_five_maps_of_a_plain_computation(files):
    maps, channels = network_of(settings(files[0]))
    x = pictures()
    ours, theirs = maps(jnp.asarray(x)), vgg16_by_hand(random_vgg16(), x[1].astype(np.float64))
    assert channels is None and [m.shape for m in ours] == [(2, 32 >> i, 32 >> i, w) for i, w in enumerate(WIDTHS)]
    for a, b in zip(ours, theirs):
        assert b.std() > 0.01
        np.testing.assert_allclose(a[1], b, atol=1e-4)


def test_lpips_weighs_channels_and_adds_up_the_maps(files):
    maps, channels = network_of(settings(*files))
    x, y = pictures(0), pictures(1)
    expected = 0.0
    for i, (a, b) in enumerate(zip(maps(jnp.asarray(x)), maps(jnp.asarray(y)))):
        a, b = (m / (np.linalg.norm(m, axis=-1, keepdims=True) + 1e-10) for m in (np.asarray(a), np.asarray(b)))
        expected += np.mean(np.sum(random_lpips()[f"lin{i}.model.1.weight"][0, :, 0, 0] * (a - b) ** 2, -1))
    assert perceptual_loss(maps, x, y, channels) == pytest.approx(float(expected), rel=1e-4)
    # With weights of 1 it is the unweighted loss, which is a mean over the five maps.
    ones = [jnp.ones(width) for width in WIDTHS]
    assert perceptual_loss(maps, x, y, ones) == pytest.approx(5 * float(perceptual_loss(maps, x, y)), rel=1e-5)


@pytest.mark.parametrize("lpips", [False, True])
def test_the_loss_of_a_network_is_zero_for_equal_pictures_and_grows_with_blur(files, lpips):
    maps, channels = network_of(settings(files[0], files[1] if lpips else ""))
    loss = jax.jit(lambda x, y: perceptual_loss(maps, x, y, channels))
    x = pictures()
    values = [float(loss(blurred(x, times), x)) for times in (0, 1, 3, 9)]
    assert values[0] < 1e-9 < 1e-4 < values[1] and values == sorted(set(values))
    slope = jax.grad(loss)(jnp.asarray(blurred(x, 1)), x)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0
    assert np.isfinite(jax.grad(loss)(jnp.asarray(x), x)).all()


def test_a_file_of_half_precision_and_a_file_by_its_own_name_are_read(files, tmp_path):
    save_file({name: x.astype(np.float16) for name, x in random_vgg16().items()}, path := tmp_path / "half.safetensors")
    found = read_vgg16(str(path))
    assert found.keys() == random_vgg16().keys() - {"classifier.0.weight"}
    assert {x.dtype for x in found.values()} == {np.dtype(np.float32)}


def test_pictures_too_small_for_the_network_are_refused(files):
    maps, _ = network_of(settings(files[0]))
    with pytest.raises(ValueError, match="8 x 24"):
        maps(jnp.zeros((1, 8, 24, 3)))


def change(name, value):
    """The weights with another array of that name; None: without it."""
    weights = {key: x for key, x in random_vgg16().items() if key != name}
    return weights if value is None else weights | {name: value}


@pytest.mark.parametrize(
    "weights, words",
    [
        ({"conv1_1.weight": np.zeros((2, 3, 3, 3), np.float32)}, "nothing"),
        (change("features.28.weight", None), "26"),
        (change("features.30.weight", np.zeros((2, 2, 3, 3), np.float32)), "30"),
        (change("features.0.bias", None), "features.0.bias"),
        (
            change("features.5.weight", np.zeros((4, 3, 3, 3), np.float32)),
            r"features\.5\.weight.*\[4, 3, 3, 3\].*\b2\b",
        ),
        (change("features.5.bias", np.zeros(3, np.float32)), r"features\.5\.bias.*\[3\].*\[4\]"),
        (change("features.2.bias", np.full(2, np.nan, np.float32)), "features.2.bias"),
    ],
)
def test_other_networks_are_refused_in_one_sentence(files, weights, words):
    path = f"{files[0]}/model.safetensors"
    save_file(weights, path)
    with pytest.raises(ValueError, match=words) as error:
        network_of(settings(files[0]))
    assert path in str(error.value) and "\n" not in str(error.value)


def test_wrong_lpips_weights_are_refused_in_one_sentence(files, tmp_path):
    network, path = files
    for weights, words in (
        (random_lpips(WIDTHS[:4]), "lin4"),
        (random_lpips([3, *WIDTHS[1:]]), r"lin0.*\b3\b.*\b2\b"),
        ({name: -x for name, x in random_lpips().items()}, "lin0"),
    ):
        save_file(weights, path)
        with pytest.raises(ValueError, match=words):
            network_of(settings(network, path))
    with pytest.raises(ValueError, match="perceptual_network"):
        network_of(settings("", path))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        network_of(settings(network, str(tmp_path / "nowhere")))


def test_missing_and_damaged_files_are_reported(files, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing here"):
        network_of(settings("nothing here"))
    path = tmp_path / "vgg16" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="vgg16"):
        network_of(settings(files[0]))
    shutil.rmtree(files[0])
    (tmp_path / "vgg16").mkdir()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        network_of(settings(files[0]))


def test_the_scorer_does_not_compare_pictures_of_ones_own(files):
    with pytest.raises(ValueError, match="perceptual_network"):
        network_of(settings(), own=True)
    assert len(network_of(settings(files[0]), own=True)[0](jnp.zeros((1, 16, 16, 3)))) == 5
    assert network_of(settings(perceptual=0.0), own=True) and network_of(settings())[0] == shipped_scorer().maps
