"""Perceptual loss: pictures compared by the features of a trained network, not by pixels (used in section 2.2).

Any function from pixels to a list of feature maps will do: `Scorer.maps`, which is shipped, or a VGG network's.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.evaluate.fid_clip import VGG_MEAN, VGG_STD
from minimuse.vqgan import unit

VGG_LAYERS = (3, 8, 15, 22)  # the last activation of each of the first four resolutions of VGG16


def perceptual_loss(maps: Callable[[jax.Array], list[jax.Array]], x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared distance of the feature vectors of x and y [B, H, W, 3], every vector scaled to length 1.

    maps   pixels in [-1, 1] [B, H, W, 3] -> list of features [B, h, w, C], of any resolutions; each counts equally
    """
    distances = [jnp.mean(jnp.sum((unit(a) - unit(b)) ** 2, -1)) for a, b in zip(maps(x), maps(y))]
    return sum(distances, jnp.zeros(())) / len(distances)


def vgg_maps(
    weights: Mapping[str, np.ndarray], layers: tuple[int, ...] = VGG_LAYERS
) -> Callable[[jax.Array], list[jax.Array]]:
    """The feature function of a torchvision VGG: pixels [B, H, W, 3] in [-1, 1] -> list of maps [B, h, w, C].

    weights  name -> array, of the convolutions `features.N.weight` [out, in, 3, 3] and `.bias` [out]. Where torchvision
             and its weights are at hand (minimuse never downloads them):
             `{k: v.numpy() for k, v in torchvision.models.vgg16(weights="DEFAULT").state_dict().items()}`
    layers   indices into torchvision's `features`, whose outputs are compared

    In torchvision every convolution has a ReLU after it, and the indices that are left out between them are poolings.
    """
    numbers = sorted(int(name.split(".")[1]) for name in weights if name.startswith("features.") and "weight" in name)
    if not numbers:
        raise ValueError(f"No weights named features.N.weight among {', '.join(list(weights)[:5]) or 'none at all'}.")
    if missing := [layer for layer in layers if layer - 1 not in numbers]:
        raise ValueError(f"Layers {missing} are not activations of this network; those are {[n + 1 for n in numbers]}.")
    kernels = {n: jnp.asarray(weights[f"features.{n}.weight"]).transpose(2, 3, 1, 0) for n in numbers}
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
        return found

    return maps
