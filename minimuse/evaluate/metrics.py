"""Metrics of pictures: how close they are to their originals, how sharp, how different from one another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.evaluate.scorer import CHUNK, Scorer, shipped_scorer
from minimuse.vqgan import to_float


def perplexity(counts: jax.Array) -> jax.Array:
    """exp of the entropy of the code counts [K]: the number of equally frequent codes with the same entropy."""
    p = counts / jnp.maximum(counts.sum(), 1)
    return jnp.exp(-jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.maximum(p, 1e-12)), 0)))


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], over the whole batch."""
    return decibels(jnp.mean((x - y) ** 2))


def decibels(error: jax.Array) -> jax.Array:
    """PSNR in dB of a mean squared error of images in [-1, 1]."""
    return 10 * jnp.log10(4 / jnp.maximum(error, 1e-12))


@jax.jit  # operation by operation, every size of a picture would compile dozens of programs
def ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """Structural similarity of images [B, H, W, C] in [-1, 1]; 1 for equal images. As in Wang et al. (2004): a Gaussian
    window of 1.5 pixels, k = 0.01 and 0.03, each channel separately."""
    x, y = (x + 1) / 2, (y + 1) / 2  # the ratio of means needs brightness from 0
    k1, k2 = 0.01**2, 0.03**2
    local = functools.partial(blur, sigma=jnp.full(len(x), 1.5))
    mean_x, mean_y = local(x), local(y)
    var_x, var_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    means = (2 * mean_x * mean_y + k1) / (mean_x**2 + mean_y**2 + k1)
    return jnp.mean(means * (2 * covariance + k2) / (var_x + var_y + k2))


def paired_interval(own: np.ndarray, other: np.ndarray, *, confidence: float = 0.95) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean of own - other, float [n] each, of the same n captions: (low, high).
    An interval that has 0 in it shows no difference."""
    far = np.asarray(own, float) - np.asarray(other, float)
    if not far.size or far.shape != np.shape(other):
        raise ValueError(f"Two arrays of one length are compared; these are {np.shape(own)} and {np.shape(other)}.")
    rng, tail = np.random.default_rng(0), 50 * (1 - confidence)
    means = [rng.choice(far, far.size).mean() for _ in range(2000)]
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Fréchet distance of two sets of feature vectors [M, F] as if each were Gaussian (Heusel et al., 2017):
    |mean_x - mean_y|^2 + trace(cov_x + cov_y - 2 (cov_x cov_y)^(1/2)).

    FID is this distance on the features of an Inception network, as in `fid_clip.Inception`. On different features the
    numbers are not FID and compare only with one another. The estimate is too large for few vectors: compare sets of
    the same size, with many more vectors than features.
    """
    cov_x, cov_y = (np.atleast_2d(np.cov(np.asarray(v, np.float64), rowvar=False)) for v in (x, y))
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    # The eigenvalues of cov_x cov_y are those of root cov_y root, which is symmetric.
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_y @ root), 0)).sum()
    means = np.sum((np.mean(x, 0, dtype=np.float64) - np.mean(y, 0, dtype=np.float64)) ** 2)
    return float(means + np.trace(cov_x) + np.trace(cov_y) - 2 * shared)


RANDOM_KERNELS, RANDOM_SCALES = 8, 3


@functools.cache
def _random_kernels() -> np.ndarray:
    """[scales, 3, 3, 3, kernels]: fixed random numbers, each kernel with a sum of 0 and a length of 1, so that plain
    areas give 0."""
    shape = (RANDOM_SCALES, 3, 3, 3, RANDOM_KERNELS)
    kernels = np.random.RandomState(0).standard_normal(shape)  # NumPy keeps this generator's numbers for ever
    kernels -= kernels.mean((1, 2), keepdims=True)
    return (kernels / np.sqrt((kernels**2).sum((1, 2, 3), keepdims=True))).astype(np.float32)


@jax.jit
def _random_features(images: jax.Array) -> jax.Array:
    pixels = to_float(images)
    found = [pixels.mean((1, 2)), pixels.std((1, 2))]
    for scale, kernels in enumerate(_random_kernels()):
        if scale:  # half the size
            b, h, w, c = pixels.shape
            pixels = pixels[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
        order = ("NHWC", "HWIO", "NHWC")
        answers = jax.nn.relu(jax.lax.conv_general_dilated(pixels, kernels, (1, 1), "VALID", dimension_numbers=order))
        # Logarithms, because a blur changes small detail by a factor.
        found += [jnp.log(0.01 + answers.mean((1, 2))), jnp.log(0.01 + answers.std((1, 2)))]
    return jnp.concatenate(found, -1)


def random_features(images: np.ndarray) -> np.ndarray:
    """Features of pictures uint8 [B, H, W, 3], at least 12 pixels a side, that were in no loss: float32 [B, 54].

    Mean and deviation of the colours and of the answers of one layer of fixed random kernels, at three scales. They see
    detail, noise and colour, not what is drawn where. `frechet` on them is `frechet_random` in all results.
    """
    parts = []
    for start in range(0, len(images), CHUNK):
        chunk = np.asarray(images[start : start + CHUNK])
        padded = np.pad(chunk, [(0, CHUNK - len(chunk)), (0, 0), (0, 0), (0, 0)])  # one compilation
        parts.append(np.asarray(_random_features(padded))[: len(chunk)])
    return np.concatenate(parts)


def distances(images: np.ndarray, others: np.ndarray, scorer: Scorer | None = None) -> dict[str, float]:
    """Fréchet distances of two sets of pictures, uint8 [B, H, H, 3] with B > 1, that are not FID:

    frechet          on the scorer's features, a judge that may have been in a loss: superres_decoder learned from it
    frechet_random   on `random_features`, which were in none
    """
    scorer = scorer or shipped_scorer()
    ways = dict(frechet=scorer.features, frechet_random=random_features)
    return {name: frechet(features(images), features(others)) for name, features in ways.items()}


def diversity(features: np.ndarray, each: int) -> float:
    """How different the pictures of one caption are: features [B, F], `each` pictures of a caption next to each other.

    Their mean distance, as a share of the mean distance of pictures of different captions. 0: all pictures of a caption
    are the same; 1: they differ as much as pictures of different captions. ValueError unless there are at least 2
    captions with at least 2 pictures each.
    """
    if each < 2 or len(features) % each or len(features) <= each:
        raise ValueError(
            f"{len(features)} pictures with {each} per caption; give at least 2 captions with at least 2 pictures each."
        )
    squares = np.sum(features**2, -1)
    far = np.sqrt(np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0))
    owner = np.arange(len(features)) // each
    same = owner[:, None] == owner
    return float(far[same & ~np.eye(len(far), dtype=bool)].mean() / far[~same].mean())


def sharpness(images: np.ndarray) -> float:
    """Mean difference of neighbouring pixels of uint8 images [B, H, W, 3]. Blur lowers it, noise raises it."""
    images = images.astype(np.float32)
    return float(sum(np.abs(np.diff(images, axis=axis)).mean() for axis in (1, 2)))


def rebuilt(images: np.ndarray, decoded: np.ndarray, scorer: Scorer | None = None) -> dict:
    """How close decoded pictures are to their originals, uint8 [B, H, W, 3] both.

    -> psnr in dB · ssim · sharpness, as a share of the originals' · the two `distances`, None for one picture
    """
    scorer, chunks = scorer or shipped_scorer(), [slice(i, i + CHUNK) for i in range(0, len(images), CHUNK)]
    similarity = sum(float(ssim(to_float(decoded[i]), to_float(images[i]))) * len(images[i]) for i in chunks)
    far = distances(decoded, images, scorer) if len(images) > 1 else dict(frechet=None, frechet_random=None)
    return dict(
        psnr=round(float(psnr(to_float(decoded), to_float(images))), 3),
        ssim=round(similarity / len(images), 4),
        sharpness=round(sharpness(decoded) / max(sharpness(images), 1e-9), 3),
        **{name: None if value is None else float(f"{value:.3g}") for name, value in far.items()},
    )


def blur(pixels: jax.Array, sigma: jax.Array) -> jax.Array:
    """Gaussian blur of [B, H, H, C] with sigma [B] in pixels; two matrix products, so every image can have its own."""
    x = jnp.arange(pixels.shape[1])
    weights = jnp.exp(-((x[:, None] - x) ** 2) / (2 * jnp.maximum(sigma, 1e-2)[:, None, None] ** 2))
    weights /= weights.sum(-1, keepdims=True)
    return jnp.einsum("bhi,bwj,bijc->bhwc", weights, weights, pixels, optimize=[(0, 2), (0, 1)])
