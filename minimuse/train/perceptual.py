"""Perceptual loss: pictures compared by the features of a trained network, not by pixels (used in section 2.2).

Any function from pixels to a list of feature maps will do. For emoji scenes it is `Scorer.maps`, which is shipped; for
photographs it is VGG16, trained on ImageNet, whose weights you provide. With the channel weights of LPIPS (arXiv
1801.03924) the loss is that measure.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse import hub
from minimuse.config import AdversarialConfig
from minimuse.evaluate.fid_clip import VGG_MEAN, VGG_STD
from minimuse.evaluate.scorer import shipped_scorer
from minimuse.files import open_arrays, reading
from minimuse.vqgan import unit
from minimuse.weights import not_finite

Maps = Callable[[jax.Array], list[jax.Array]]  # pixels [B, H, W, 3] in [-1, 1] -> features [B, h, w, C] each
# Indices into `features` of torchvision's VGG16: its convolutions, with their channels, and the last activation of each
# of its five resolutions (relu1_2, relu2_2, relu3_3, relu4_3, relu5_3), which LPIPS compares.
VGG16 = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
VGG_LAYERS = (3, 8, 15, 22, 29)


def perceptual_loss(maps: Maps, x: jax.Array, y: jax.Array, channels: Sequence[jax.Array] | None = None) -> jax.Array:
    """Mean squared distance of the feature vectors of x and y [B, H, W, 3], every vector scaled to length 1.

    maps       pixels in [-1, 1] [B, H, W, 3] -> list of features [B, h, w, C], of any resolutions; each counts equally
    channels   a weight for each channel, [C] for each map: squares are multiplied by them, and the maps are added up,
               as in LPIPS; None: each channel counts 1, and the result is a mean over the maps
    """
    squares = [(unit(a) - unit(b)) ** 2 for a, b in zip(maps(x), maps(y))]
    if channels is not None:
        return sum((jnp.mean(s @ w) for s, w in zip(squares, channels, strict=True)), jnp.zeros(()))
    return sum((jnp.mean(jnp.sum(s, -1)) for s in squares), jnp.zeros(())) / len(squares)


def vgg_maps(weights: Mapping[str, np.ndarray], layers: tuple[int, ...] = VGG_LAYERS) -> Maps:
    """The feature function of a torchvision VGG: pixels [B, H, W, 3] in [-1, 1] -> list of maps [B, h, w, C].

    weights  name -> array, of the convolutions `features.N.weight` [out, in, 3, 3] and `.bias` [out]. `read_vgg16`
             reads them from a file; where torchvision is at hand, these are the same:
             `{k: v.numpy() for k, v in torchvision.models.vgg16(weights="DEFAULT").state_dict().items()}`
    layers   indices into torchvision's `features`, whose outputs are compared

    In torchvision every convolution has a ReLU after it, and the indices that are left out between them are poolings.
    """
    numbers = sorted(int(name.split(".")[1]) for name in weights if name.startswith("features.") and "weight" in name)
    if not numbers:
        raise ValueError(f"No weights named features.N.weight among {', '.join(list(weights)[:5]) or 'none at all'}.")
    if missing := [layer for layer in layers if layer - 1 not in numbers]:
        raise ValueError(f"Layers {missing} are not activations of this network; those are {[n + 1 for n in numbers]}.")
    kernels = {n: jnp.asarray(weights[f"features.{n}.weight"].transpose(2, 3, 1, 0)) for n in numbers}
    biases = {n: jnp.asarray(weights[f"features.{n}.bias"]) for n in numbers}

    def maps(pixels: jax.Array) -> list[jax.Array]:
        x, found = ((pixels + 1) / 2 - jnp.array(VGG_MEAN)) / jnp.array(VGG_STD), []
        for number in range(max(layers)):
            if number in kernels:
                x = jax.lax.conv_general_dilated(
                    x, kernels[number], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = jax.nn.relu(x + biases[number])
                if number + 1 in layers:
                    found.append(x)
            elif number - 1 not in kernels:  # neither a convolution nor its activation
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        if 0 in x.shape:
            size = f"{pixels.shape[1]} x {pixels.shape[2]}"
            raise ValueError(
                f"Pictures of {size} pixels are too small for this network; choose a larger image or crop."
            )
        return found

    return maps


# --- weights from files ---------------------------------------------------------------------------------------------


def find_vgg16(name: str) -> Path:
    """The safetensors file of a name: a file, a folder with model.safetensors, or a model of the Hugging Face Hub, such
    as timm/vgg16.tv_in1k (550 MB, with its classifier). FileNotFoundError if there is none; of the Hub, also the errors
    of `hub.download`."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "model.safetensors").is_file():
            return path / "model.safetensors"
        raise FileNotFoundError(f"The folder {name} has no model.safetensors with the weights of VGG16.")
    if not hub.is_name(name):
        raise FileNotFoundError(f"There is no file or folder {name!r} with the weights of VGG16.")
    file = hub.download(name, ["model.safetensors"]) / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"The model {name} of the Hugging Face Hub has no model.safetensors.")
    return file


def read_vgg16(name: str) -> dict[str, np.ndarray]:
    """The convolutions of a VGG16 in torchvision's names, for `vgg_maps`: float32, of any numbers of channels.

    name    as `find_vgg16` takes it. timm's files have these names, too; to write one from torchvision:
            `safetensors.torch.save_file(torchvision.models.vgg16(weights="DEFAULT").state_dict(), "model.safetensors")`

    FileNotFoundError if the file does not exist; ValueError if it is damaged, or of another network.
    """
    path, found, width = find_vgg16(name), {}, 3
    stored = open_arrays(path)
    names = set(stored.keys())
    numbers = {int(match[1]) for key in names if (match := re.fullmatch(r"features\.(\d+)\.weight", key))}
    if numbers != set(VGG16):
        there = ", ".join(map(str, sorted(numbers))) or "nothing"
        raise ValueError(
            f"{path} is not a VGG16: that has features.N.weight for N of {', '.join(map(str, VGG16))}, and this file "
            f"has it for {there}."
        )
    for number in VGG16:
        kernel = _read(stored, path, f"features.{number}.weight", (None, width, 3, 3))
        width = len(kernel)
        bias = _read(stored, path, f"features.{number}.bias", (width,))
        found |= {f"features.{number}.weight": kernel, f"features.{number}.bias": bias}
    return found


def read_lpips(path: str, widths: Sequence[int]) -> list[jax.Array]:
    """The channel weights of LPIPS, [C] for each of VGG16's five maps, of these widths.

    path    a safetensors file with lin0.model.1.weight [1, C, 1, 1] to lin4.model.1.weight, as the lpips package has
            them in weights/v0.1/vgg.pth: `safetensors.torch.save_file(torch.load("vgg.pth"), "lpips.safetensors")`

    FileNotFoundError if the file does not exist; ValueError if it is damaged, or holds other weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path!r} with the weights of LPIPS.")
    stored, found = open_arrays(path), []
    for i, width in enumerate(widths):
        weights = _read(stored, Path(path), f"lin{i}.model.1.weight", (1, width, 1, 1))
        if weights.min() < 0:
            raise ValueError(f"{path} holds no LPIPS weights: those are never negative, and lin{i}.model.1.weight is.")
        found.append(jnp.asarray(weights.ravel()))
    return found


def _read(stored: Any, path: Path, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array of an open safetensors file, in float32; a length of None may be any."""
    import ml_dtypes  # noqa: F401  teaches NumPy bfloat16, in which some files are stored

    expected = f"[{', '.join('any' if n is None else str(n) for n in shape)}]"
    if name not in stored.keys():
        raise ValueError(f"{path} has no {name}, which should be of shape {expected}.")
    with reading(path, "safetensors"):
        array = stored.get_tensor(name)
    if len(array.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape)):
        raise ValueError(f"{path}: {name} has shape {list(array.shape)}, and {expected} was expected.")
    array = array.astype(np.float32)
    if not_finite({name: array}):
        raise ValueError(f"{path}: {name} holds NaN or infinite numbers; download it again.")
    return array


# --- what a phase is trained with -----------------------------------------------------------------------------------


def network_of(train: AdversarialConfig, own: bool = False) -> tuple[Maps, list[jax.Array] | None]:
    """The feature function of a phase, and the weights of its channels, for `perceptual_loss`.

    own    whether the pictures are your own, for which a network must be named: ValueError if there is none
    """
    if train.lpips and not train.perceptual_network:
        raise ValueError(f"The weights of LPIPS, {train.lpips}, are for VGG16; name that as perceptual_network, too.")
    if not train.perceptual:  # then they are not used
        return lambda pixels: [], None
    if not train.perceptual_network:
        if own:
            raise ValueError(
                "The scorer's features are of emoji scenes only; for your own pictures set perceptual_network to the "
                "weights of VGG16, or perceptual to 0."
            )
        return shipped_scorer().maps, None
    weights = read_vgg16(train.perceptual_network)
    widths = [len(weights[f"features.{layer - 1}.bias"]) for layer in VGG_LAYERS]
    return vgg_maps(weights), read_lpips(train.lpips, widths) if train.lpips else None
