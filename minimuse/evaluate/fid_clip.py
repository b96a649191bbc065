"""FID and CLIP score (paper section 3.2), by networks in PyTorch, which is imported only when they are used."""

import contextlib
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from minimuse.evaluate.metrics import frechet
from minimuse.files import in_short, read_json

CLIP = "openai/clip-vit-base-patch32"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # in [0, 1]
VGG_MEAN, VGG_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]
BATCH = 32  # pictures at a time: JAX needs memory of the same GPU
FID = (
    "Fréchet distance on features of {network}. Not comparable with published FIDs, which are on another "
    "Inception, with another scaling and number of pictures; compare it only with its own numbers for the same number "
    "of pictures."
)
COSINE = (
    "Mean cosine of a picture's and its caption's vectors by {network}. Not comparable with published CLIP scores, "
    "which are by other CLIPs and of other captions; compare it only with its own numbers for the same captions."
)


def _need(name: str) -> Any:
    """The package `name`; ImportError that says how to get it."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision was built for a different torch
        why = f"This judge needs {name}, which cannot be imported here ({in_short(error)})."
        raise ImportError(f"{why} Colab has it; elsewhere run: pip install torch torchvision") from error


def _pixels(images: np.ndarray, side: int, way: Image.Resampling, mean: Any, std: Any) -> np.ndarray:
    """The middle square of uint8 images [B, H, W, 3], scaled to `side` and normalised: float32 [B, 3, side, side].

    ValueError for images of a different type or shape.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"Images must be uint8 [B, H, W, 3]; these are {images.dtype} {list(images.shape)}.")
    scaled = np.stack([np.asarray(ImageOps.fit(Image.fromarray(image), (side, side), way)) for image in images])
    return ((scaled / np.float32(255) - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)


class _Judge:
    """A torch module for inference, on the GPU if torch has one."""

    def __init__(self, model: Any):
        self.torch = _need("torch")
        self.device = "cuda" if self.torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)

    def _apply(self, function: Callable, images: np.ndarray, *how: Any) -> np.ndarray:
        """The results of function(pixels, slice) on batches of `_pixels(images, *how)`, as float32."""
        batches = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
        with self.torch.no_grad():
            found = [function(self.torch.tensor(_pixels(images[b], *how)).to(self.device), b) for b in batches]
        return np.concatenate([each.float().cpu().numpy() for each in found])


class Inception(_Judge):
    """FID: the Fréchet distance of two sets of pictures on the features of an Inception v3 trained on ImageNet.

    model   torch module, pixels [B, 3, 299, 299] -> [B, F]; None: torchvision's (a download of 104 MB), F = 2048

    Weights and scaling differ from those of the usual FID, so the numbers compare only with one another, and only for
    the same number of pictures: fewer pictures give larger numbers. Use well over 2,048 pictures; with fewer, the
    covariance does not have full rank. ImportError without torch.
    """

    def __init__(self, model: Any = None):
        if model is None:
            torch, models = _need("torch"), _need("torchvision").models
            model = models.inception_v3(weights=None, init_weights=False, transform_input=True)
            file = models.Inception_V3_Weights.IMAGENET1K_V1
            model.load_state_dict(file.get_state_dict(check_hash=True, weights_only=True))  # unpickles only tensors
            model.fc = torch.nn.Identity()  # the features are the classifier's input
            network = "torchvision's Inception v3 (IMAGENET1K_V1)"
        else:
            network = "an Inception that was given"
        super().__init__(model)
        self.meaning = dict(fid=FID.format(network=network))

    def features(self, images: np.ndarray) -> np.ndarray:
        """The middle squares of uint8 [B, H, W, 3] -> float32 [B, F]."""
        how = 299, Image.Resampling.BILINEAR, VGG_MEAN, VGG_STD
        return self._apply(lambda pixels, _: self.model(pixels), images, *how)

    def measure(self, images: np.ndarray, captions: list[str], true: np.ndarray | None) -> dict[str, float]:
        """fid of images and true pictures, uint8 [B, H, W, 3] both; the captions have no effect."""
        if true is None:
            raise ValueError("FID compares drawn pictures with true ones, and there are only captions.")
        if (n := min(len(images), len(true))) < 2:
            raise ValueError(f"FID needs at least 2 pictures, and thousands to be meaningful; there are {n}.")
        x, y = self.features(images), self.features(true)
        if n <= x.shape[1]:
            message = f"FID of {n:,} pictures on {x.shape[1]:,} features is biased upwards; give more pictures."
            warnings.warn(message, stacklevel=2)
        return dict(fid=round(frechet(x, y), 4))


class Clip(_Judge):
    """CLIP score: the cosine of a picture's and its caption's vectors, by transformers' CLIPModel.

    The paper's 0.32 is a mean of such cosines. Scores of different models are not comparable.

    mean, std   per channel, in [0, 1], that pictures are normalised by
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        mean: tuple[float, ...] = CLIP_MEAN,
        std: tuple[float, ...] = CLIP_STD,
        name: str = "a CLIP that was given",
    ):
        super().__init__(model)
        self.tokenizer, self.mean, self.std = tokenizer, mean, std
        self.meaning = dict(clip=COSINE.format(network=name))

    @classmethod
    def from_pretrained(cls, name: str | Path = CLIP) -> "Clip":
        """The model of a local folder or a Hub name, from safetensors and without running any code of the model's.

        FileNotFoundError if the model does not exist; ValueError if weights are missing; ImportError without torch.
        """
        _need("torch")
        from transformers import AutoTokenizer, CLIPModel
        from transformers.utils.hub import cached_file

        name, about = str(name), {}
        load: Any = CLIPModel.from_pretrained  # with output_loading_info it returns a pair
        try:
            model, report = load(name, use_safetensors=True, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(name)
        except OSError as error:  # unknown name, offline, no safetensors; transformers explains it in several lines
            raise FileNotFoundError(f"Cannot load the CLIP model {name!r}: {in_short(error)}.") from error
        if report["missing_keys"]:  # transformers would continue with random weights
            raise ValueError(f"{name} is not a CLIP model: it has no {min(report['missing_keys'])}.")
        with contextlib.suppress(OSError):  # not every model has this file
            if path := cached_file(name, "preprocessor_config.json"):
                about = read_json(path)
        return cls(model, tokenizer, about.get("image_mean", CLIP_MEAN), about.get("image_std", CLIP_STD), name)

    def score(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        """Cosine of the middle square of each picture of uint8 [B, H, W, 3] and its caption: float32 [B].

        ValueError unless there is one caption per picture, and at least one.
        """
        if len(images) != len(captions) or not len(images):
            counts = f"There are {len(images)} images and {len(captions)} captions"
            raise ValueError(f"{counts}; give at least one image, and one caption per image.")
        config, longest = self.model.config, self.model.config.text_config.max_position_embeddings
        text = self.tokenizer(list(captions), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        text = text.to(self.device)

        def cosines(pixels: Any, rows: slice) -> Any:
            found = self.model(text.input_ids[rows], pixels, text.attention_mask[rows])
            return (found.image_embeds * found.text_embeds).sum(-1)  # both have length 1

        how = config.vision_config.image_size, Image.Resampling.BICUBIC, self.mean, self.std
        return self._apply(cosines, images, *how)

    def measure(self, images: np.ndarray, captions: list[str], true: np.ndarray | None) -> dict[str, float]:
        """clip, the mean score of the images; the true pictures have no effect."""
        return dict(clip=round(float(self.score(images, captions).mean()), 4))
