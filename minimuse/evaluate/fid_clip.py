"""The paper's judges (section 3.2): FID and CLIP score, by networks in PyTorch, which is imported only for them."""

import contextlib
import importlib
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from minimuse.evaluate.metrics import frechet

CLIP = "openai/clip-vit-base-patch32"
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # in [0, 1]
BATCH = 32  # pictures at a time: JAX, too, wants its share of the GPU


def _need(name: str):
    """The package `name`, or a sentence that says how to get it."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was made for another torch
        why = f"This judge needs {name}, which cannot be imported here ({str(error).splitlines()[0]})."
        raise ImportError(f"{why} Colab has it; elsewhere: pip install torch torchvision") from error


def _pixels(images: np.ndarray, side: int, way: Image.Resampling, mean, std) -> np.ndarray:
    """The middle square of uint8 images [B, H, W, 3], scaled to `side` and normalised: float32 [B, 3, side, side]."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"Images must be uint8 [B, H, W, 3]; these are {images.dtype} {list(images.shape)}.")
    scaled = np.stack([np.asarray(ImageOps.fit(Image.fromarray(image), (side, side), way)) for image in images])
    return ((scaled / np.float32(255) - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)


class _Judge:
    """A torch module that only judges, on the GPU if torch has one."""

    def __init__(self, model):
        self.torch = _need("torch")
        self.device = "cuda" if self.torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)

    def _apply(self, function, images: np.ndarray, *how) -> np.ndarray:
        """`function(pixels, slice)` on batches of what `_pixels` makes of the images; its results as float32."""
        batches = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
        with self.torch.no_grad():
            found = [function(self.torch.tensor(_pixels(images[b], *how)).to(self.device), b) for b in batches]
        return np.concatenate([part.float().cpu().numpy() for part in found])


class Inception(_Judge):
    """FID: the Fréchet distance of two sets of pictures, on the features of an Inception v3 trained on ImageNet.

    model   pixels [B, 3, 299, 299] -> [B, F], a torch module; by default torchvision's (a download of 104 MB), F = 2048

    Neither weights nor scaling are those of the usual FID, so the numbers compare only among themselves, and only for
    one number of pictures: the fewer, the larger. Take well above 2,048, or the covariance has not full rank.
    """

    def __init__(self, model=None):
        if model is None:
            torch, models = _need("torch"), _need("torchvision").models
            model = models.inception_v3(weights=None, init_weights=False, transform_input=True)
            file = models.Inception_V3_Weights.IMAGENET1K_V1
            model.load_state_dict(file.get_state_dict(check_hash=True, weights_only=True))  # unpickles nothing else
            model.fc = torch.nn.Identity()  # the features are what the classifier would read
        super().__init__(model)

    def features(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3], of which the middle square is seen -> float32 [B, F]."""
        return self._apply(lambda pixels, _: self.model(pixels), images, 299, Image.BILINEAR, VGG_MEAN, VGG_STD)

    def measure(self, images: np.ndarray, captions: list[str], true: np.ndarray) -> dict:
        """fid: from images to true pictures, uint8 [B, H, W, 3] both. The captions do not matter."""
        if (n := min(len(images), len(true))) < 2:
            raise ValueError(f"FID needs 2 pictures or more, and thousands to mean something; there were {n}.")
        x, y = self.features(images), self.features(true)
        if n <= x.shape[1]:
            warnings.warn(f"FID of {n:,} pictures on {x.shape[1]:,} features is too large; give more.", stacklevel=2)
        return dict(fid=round(frechet(x, y), 4))


class Clip(_Judge):
    """CLIP score: the cosine of the vectors that transformers' CLIPModel gives a picture, normalised by mean and std,
    and its caption. The paper's 0.32 is the mean of it. Scores of different models do not compare."""

    def __init__(self, model, tokenizer, mean=CLIP_MEAN, std=CLIP_STD):
        super().__init__(model)
        self.tokenizer, self.mean, self.std = tokenizer, mean, std

    @classmethod
    def from_pretrained(cls, name: str | Path = CLIP) -> "Clip":
        """Read a local folder or a Hub name: weights in safetensors only, and no code but transformers' own."""
        _need("torch")
        from transformers import AutoTokenizer, CLIPModel
        from transformers.utils import cached_file

        name, about = str(name), {}
        try:
            model, report = CLIPModel.from_pretrained(name, use_safetensors=True, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(name)
        except OSError as error:  # no such name, offline, no safetensors; transformers says so in several lines
            raise FileNotFoundError(f"No CLIP model {name!r}: {str(error).splitlines()[0]}") from error
        if report["missing_keys"]:  # transformers would go on with random weights
            raise ValueError(f"{name} is no CLIP model: it has no {min(report['missing_keys'])}.")
        with contextlib.suppress(OSError):  # not every model has this file
            about = json.loads(Path(cached_file(name, "preprocessor_config.json")).read_text(encoding="utf-8"))
        return cls(model, tokenizer, about.get("image_mean", CLIP_MEAN), about.get("image_std", CLIP_STD))

    def score(self, images: np.ndarray, captions: list[str]) -> np.ndarray:
        """Cosine of each picture of uint8 [B, H, W, 3], its middle square, and its caption: float32 [B]."""
        if len(images) != len(captions) or not len(images):
            raise ValueError(f"{len(images)} images and {len(captions)} captions; give one each, at least one.")
        config, longest = self.model.config, self.model.config.text_config.max_position_embeddings
        text = self.tokenizer(list(captions), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        text = text.to(self.device)

        def cosines(pixels, part):
            found = self.model(text.input_ids[part], pixels, text.attention_mask[part])
            return (found.image_embeds * found.text_embeds).sum(-1)  # their length is 1

        return self._apply(cosines, images, config.vision_config.image_size, Image.BICUBIC, self.mean, self.std)

    def measure(self, images: np.ndarray, captions: list[str], true: np.ndarray) -> dict:
        """clip: mean score of the images. The true pictures do not matter."""
        return dict(clip=round(float(self.score(images, captions).mean()), 4))


VGG_MEAN, VGG_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]
