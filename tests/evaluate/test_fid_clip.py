"""FID and CLIP score: what a judge is given, and its networks against torch and transformers, at random and small."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from minimuse import cli
from minimuse.data import scenes
from minimuse.evaluate import fid_clip
from minimuse.evaluate.fid_clip import VGG_MEAN, VGG_STD
from minimuse.evaluate.fidelity import evaluate_generation
from minimuse.evaluate.metrics import frechet

CAPTIONS = ["a cat left of a dog", "two cats on a white background", "a red heart", "an owl " * 20]


def pictures(n: int, size: int = 64, first: int = 0) -> np.ndarray:
    return scenes.render_batch([scenes.example("val", first + i)[0] for i in range(n)], size)


class Fake:
    """A judge that keeps what it is given."""

    def measure(self, images, captions, true):
        self.given = images, captions, true
        return dict(verdict=len(captions))


def test_a_judge_gets_every_picture_its_caption_and_the_true_one(micro):
    one, other = Fake(), Fake()
    result = evaluate_generation(micro, n=5, batch=3, first=2, steps=1, judges=[one, other])
    assert result["verdict"] == 5 and {"overall", "frechet", "seconds", "settings"} <= set(result)
    images, captions, true = one.given
    assert images.shape == (5, 64, 64, 3) and images.dtype == np.uint8 and images is other.given[0]
    assert captions == [scenes.example("val", i)[1] for i in range(2, 7)]
    assert (true == pictures(5, first=2)).all()


def test_pixels_by_hand():
    """Of a plain picture, scaling leaves the colour and normalising is arithmetic; of a wide one the middle remains."""
    images = np.full((2, 4, 4, 3), [51, 102, 255], np.uint8)
    got = fid_clip._pixels(images, 6, Image.BICUBIC, (0.5, 0.4, 0.0), (0.1, 0.2, 2.0))
    assert got.shape == (2, 3, 6, 6) and got.dtype == np.float32
    np.testing.assert_allclose(got, np.broadcast_to(np.array([-3, 0, 0.5])[None, :, None, None], got.shape), atol=1e-6)
    for way in (Image.BILINEAR, Image.BICUBIC):
        for wide in (pictures(1)[0][:32], pictures(1)[0][:, :32]):
            scaled = np.asarray(Image.fromarray(wide).resize((3 * wide.shape[1] // 2, 3 * wide.shape[0] // 2), way))
            middle = scaled[:, 24:72] if wide.shape[0] == 32 else scaled[24:72]
            got = fid_clip._pixels(wide[None], 48, way, 0, 1 / 255)[0].transpose(1, 2, 0)
            np.testing.assert_allclose(got, middle, atol=1e-4)
    for wrong in (images.astype(np.float32), images[0], images[..., :1]):
        with pytest.raises(ValueError, match=rf"{wrong.dtype}.*\{list(wrong.shape)}"):
            fid_clip._pixels(wrong, 6, Image.BICUBIC, 0, 1)


def without(monkeypatch, package: str):
    """As if the package were not installed."""
    monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("judge", ["inception", "clip"])
def test_without_torch_the_error_says_what_to_do(judge, monkeypatch, capsys):
    without(monkeypatch, "torch")
    with pytest.raises(ImportError, match=r"(?=.*pip install)(?=.*\btorch\b)"):
        fid_clip.Inception() if judge == "inception" else fid_clip.Clip.from_pretrained()
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", "generation", "--judges", judge])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "torch" in error and error.count("\n") == 1


# --- against torch --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 6, 13, 13), torch.nn.Dropout(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return fid_clip.Inception(torch.nn.Sequential(*layers))


def test_features_by_hand(inception):
    """299 is 23 patches of 13; a mean over all of them is the mean patch times the kernel, whatever the batches."""
    images = pictures(fid_clip.BATCH + 3)
    features = inception.features(images)
    assert features.shape == (fid_clip.BATCH + 3, 6) and features.dtype == np.float32
    for i in (0, fid_clip.BATCH + 2):
        pixels = np.asarray(Image.fromarray(images[i]).resize((299, 299), Image.BILINEAR)) / 255
        patch = ((pixels - VGG_MEAN) / VGG_STD).reshape(23, 13, 23, 13, 3).mean((0, 2))
        kernel, bias = (value.detach().numpy() for value in inception.model[0].parameters())
        np.testing.assert_allclose(features[i], np.einsum("fchw,hwc->f", kernel, patch) + bias, atol=1e-5)


def test_fid_is_the_frechet_distance_of_the_features(inception):
    images, others = pictures(20), pictures(20, first=40)
    assert inception.measure(images, [], images)["fid"] == pytest.approx(0, abs=1e-4)
    fid = inception.measure(images, [], others)["fid"]
    assert fid == pytest.approx(frechet(inception.features(images), inception.features(others)), abs=1e-4) and fid > 0
    assert inception.measure(images, [], 255 - images)["fid"] > fid
    with pytest.warns(UserWarning, match=r"\bFID\b.*\b6\b"):
        inception.measure(images[:6], [], others[:6])
    with pytest.raises(ValueError, match=r"\bFID\b.*\b1\b"):
        inception.measure(images[:1], [], others[:1])


def test_the_default_network_says_when_torchvision_is_missing(monkeypatch):
    pytest.importorskip("torch")
    without(monkeypatch, "torchvision")
    with pytest.raises(ImportError, match="needs torchvision, which cannot be imported here"):
        fid_clip.Inception()


def test_torchvisions_network_has_this_form(monkeypatch):
    """Random weights in place of the download."""
    models = pytest.importorskip("torchvision").models
    weights = models.inception_v3(weights=None, init_weights=False).state_dict()
    asked = []
    monkeypatch.setattr(models.Inception_V3_Weights, "get_state_dict", lambda _, **how: asked.append(how) or weights)
    judge = fid_clip.Inception()
    assert asked == [dict(check_hash=True, weights_only=True)]
    assert judge.model.transform_input and not judge.model.training
    assert judge.features(pictures(2)).shape == (2, 2048)


# --- against transformers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A CLIP of random weights with a tokenizer that knows letters, as transformers saves them."""
    torch = pytest.importorskip("torch")
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    ids = dict(vocab_size=len(words), bos_token_id=len(words) - 2, eos_token_id=len(words) - 1)
    config = CLIPConfig(
        text_config=sizes | ids | dict(max_position_embeddings=24),
        vision_config=sizes | dict(image_size=32, patch_size=8),
        projection_dim=12,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    model = CLIPModel(config)
    for weight in model.parameters():  # otherwise the features of all pictures are equal
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(folder)
    about = dict(image_mean=[0.3, 0.4, 0.5], image_std=[0.2, 0.3, 0.4], size=32, crop_size=32, resample=3)
    (folder / "preprocessor_config.json").write_text(json.dumps(about | dict(do_resize=True, do_center_crop=True)))
    return folder


def test_clip_score_is_the_cosine_of_transformers(clip_folder):
    """Its logits, picture by picture, less their scale; captions as it cuts them, pictures scaled by hand."""
    torch = pytest.importorskip("torch")
    from transformers import CLIPModel, CLIPTokenizer

    judge = fid_clip.Clip.from_pretrained(clip_folder)
    images, captions = pictures(fid_clip.BATCH + 4), CAPTIONS * (fid_clip.BATCH // 4 + 1)
    scores = judge.score(images, captions)
    assert scores.shape == (len(images),) and scores.dtype == np.float32 and np.std(scores) > 0.01
    assert judge.measure(images, captions, images) == dict(clip=round(float(scores.mean()), 4))
    model, tokenizer = CLIPModel.from_pretrained(clip_folder).eval(), CLIPTokenizer.from_pretrained(clip_folder)
    for i in (0, 3, fid_clip.BATCH + 1):
        pixels = np.asarray(Image.fromarray(images[i]).resize((32, 32), Image.BICUBIC)) / 255
        pixels = ((pixels - [0.3, 0.4, 0.5]) / [0.2, 0.3, 0.4]).astype(np.float32).transpose(2, 0, 1)[None]
        text = tokenizer(captions[i], truncation=True, max_length=24, return_tensors="pt")
        with torch.no_grad():
            logits = model(**text, pixel_values=torch.tensor(pixels)).logits_per_image / model.logit_scale.exp()
        assert scores[i] == pytest.approx(float(logits), abs=1e-5)


def test_pictures_are_prepared_as_transformers_does(clip_folder):
    pytest.importorskip("torch")
    processors = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    judge, images = fid_clip.Clip.from_pretrained(clip_folder), pictures(3)
    theirs = processors.CLIPImageProcessorPil.from_pretrained(clip_folder)(list(images), return_tensors="np")
    ours = fid_clip._pixels(images, 32, Image.BICUBIC, judge.mean, judge.std)
    np.testing.assert_allclose(ours, theirs["pixel_values"], atol=1e-5)


def test_a_folder_without_preprocessing_has_that_of_clip(clip_folder, tmp_path):
    for path in clip_folder.iterdir():
        if path.name != "preprocessor_config.json":
            (tmp_path / path.name).symlink_to(path)
    judge = fid_clip.Clip.from_pretrained(tmp_path)
    assert (judge.mean, judge.std) == (fid_clip.CLIP_MEAN, fid_clip.CLIP_STD)


def test_what_is_not_clip_is_refused(clip_folder, tmp_path):
    judge = fid_clip.Clip.from_pretrained(clip_folder)
    for n, captions in ((2, CAPTIONS), (0, [])):
        with pytest.raises(ValueError, match=rf"(?=.*\b{n}\b).*\b{len(captions)}\b"):
            judge.score(pictures(4)[:n], captions)
    with pytest.raises(FileNotFoundError, match="nobody/nothing"):
        fid_clip.Clip.from_pretrained("nobody/nothing")
    pickled, incomplete = tmp_path / "pickled", tmp_path / "incomplete"
    for folder in (pickled, incomplete):
        folder.mkdir()
        for path in clip_folder.glob("*.json"):
            (folder / path.name).symlink_to(path)
    (pickled / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(FileNotFoundError, match="pickled.*safetensors"):
        fid_clip.Clip.from_pretrained(pickled)
    from safetensors.numpy import load_file, save_file

    weights = load_file(clip_folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, incomplete / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"visual_projection\.weight"):
        fid_clip.Clip.from_pretrained(incomplete)


def test_evaluate_uses_the_judges(clip_folder, micro_folder, inception, capsys, monkeypatch):
    monkeypatch.setattr(fid_clip, "Inception", lambda: inception)
    options = ["--preset", str(micro_folder), "--n", "8", "--steps", "1", "--json"]
    cli.main(["evaluate", "generation", *options, "--judges", "inception", "clip", "--clip", str(clip_folder)])
    result = json.loads(capsys.readouterr().out)
    assert result["fid"] > 0 and -1 <= result["clip"] <= 1 and {"overall", "frechet"} <= set(result)
    settings = result["settings"]
    assert settings["judges"] == ["inception", "clip"] and settings["clip"] == str(clip_folder)
