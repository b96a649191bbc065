"""Pictures as squares on disk: decoded once, resumed, skipped where they are bad, upright, in every mode."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageCms

from minimuse.config import PicturesConfig
from minimuse.data import pixels, prepare, sources
from minimuse.data.arrays import map_arrays
from minimuse.data.captioned import to_square


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of one grey each, three in a file of squares."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = []
    for i in range(10):
        Image.new("RGB", (12, 12), (20 * i,) * 3).save(folder / f"{i}.png")
        lines.append(json.dumps(dict(file_name=f"{i}.png", text=f"grey {i}")))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """How many pictures are decoded, in files of three; `decoded.stop` is the number after which it stops."""

    class Decoded(list):
        stop = None

    found = Decoded()

    def counted(stored, sizes, crop):
        if found.stop is not None and len(found) >= found.stop:
            raise KeyboardInterrupt
        found.append(None)
        return pixels.decode(stored, sizes, crop)

    monkeypatch.setattr(prepare, "ROWS", 3)
    monkeypatch.setattr(prepare, "cores", lambda: 1)
    monkeypatch.setattr(prepare, "decode", counted)
    return found


def opened(folder, sizes=(8, 4), **options):
    options = dict(cache=str(folder.parent / "cache")) | options
    return sources.Pictures(folder, PicturesConfig(**options), sizes)


def greys(source, size=8) -> list[int]:
    return (source.prepare(size).pixels(range(source.count(None)), size)[:, 0, 0, 0] // 20).tolist()


def test_both_sizes_are_made_at_once_and_only_once(folder, decoded):
    source = opened(folder)
    assert greys(source, 8) == greys(source, 4) == list(range(10)) and len(decoded) == 10
    assert greys(opened(folder), 4) == list(range(10)) and len(decoded) == 10
    assert source.prepare(16).pixels([7], 16).shape == (1, 16, 16, 3) and len(decoded) == 20  # an unforeseen size


def test_a_second_try_begins_where_the_first_stopped(folder, decoded):
    decoded.stop = 7
    with pytest.raises(KeyboardInterrupt):
        opened(folder).prepare()
    assert len(decoded) == 7
    decoded.stop = None
    assert greys(opened(folder)) == list(range(10)) and len(decoded) == 7 + 4  # two files of three were there


def test_only_files_whose_pictures_changed_are_made_again(folder, decoded):
    before = opened(folder).about
    Image.new("RGB", (12, 12), (100,) * 3).save(folder / "4.png")
    os.utime(folder / "4.png", ns=(1, 1))
    after = opened(folder).about
    assert len(decoded) == 13 and after["captions"] == before["captions"] and after["pictures"] != before["pictures"]
    moved = folder.rename(folder.with_name("moved"))
    assert opened(moved).about == after and len(decoded) == 13


def test_a_damaged_file_of_squares_is_made_again(folder, decoded):
    opened(folder).prepare()
    path = next((folder.parent / "cache" / "pictures").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=path.name):
        map_arrays(path)
    assert greys(opened(folder)) == list(range(10)) and 10 < len(decoded) < 14


@pytest.fixture
def with_bad(folder):
    (folder / "2.png").write_bytes(b"")
    (folder / "5.png").write_bytes(b"<html>")
    return folder


def test_bad_pictures_are_skipped_counted_and_listed(with_bad, decoded, capsys):
    source = opened(with_bad, bad_share=0.2)
    assert greys(source) == [0, 1, 3, 4, 6, 7, 8, 9] and source.count(None) == 8
    assert [source.captions(i) for i in (1, 2, 7)] == [("grey 1",), ("grey 3",), ("grey 9",)]
    assert source.example(2, (4, 8), None)[1] == ("grey 3",)
    out = capsys.readouterr().out
    (listing,) = (with_bad.parent / "cache" / "pictures").glob("*.txt")
    assert "2 of 10" in out and str(listing) in out
    assert [line.partition(": ")[0][-6:] for line in listing.read_text().splitlines()] == ["2.png)", "5.png)"]


def test_more_bad_pictures_than_allowed_are_an_error_and_lose_no_work(with_bad, decoded):
    with pytest.raises(ValueError, match=r"(?=.*--bad-share)(?=.*2 of 10).*2\.png"):
        opened(with_bad, bad_share=0.1).prepare()
    assert len(decoded) == 10
    Image.new("RGB", (12, 12), (40,) * 3).save(with_bad / "2.png")
    assert opened(with_bad, bad_share=0.1).count(None) == 9 and len(decoded) == 13


@pytest.mark.parametrize("options", [dict(crop="middle"), dict(bad_share=1.5), dict(bad_share=-1.0)])
def test_settings_that_mean_nothing_are_refused(folder, options):
    with pytest.raises(ValueError, match=r"--(crop|bad-share).*(middle|1\.5|-1)"):
        opened(folder, **options)


# --- orientation, aspect, flips ---------------------------------------------------------------------------------------


def stored(image: Image.Image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0], image[:, width // 2 :, 2] = 255, 255
    return Image.fromarray(image)


@pytest.mark.parametrize("kind, options", [("JPEG", dict(quality=98, subsampling=0)), ("PNG", {}), ("WEBP", {})])
@pytest.mark.parametrize("crop", pixels.CROPS)
def test_a_photo_of_a_phone_is_upright(kind, options, crop):
    exif, upright = Image.Exif(), two_halves(96, 64)
    exif[0x0112] = 6
    turned = stored(upright.rotate(90, expand=True), kind, exif=exif, **options)
    for square in (pixels.decode(turned, [32], crop)[0], to_square(Image.open(io.BytesIO(turned)), 32, crop)):
        left, right = square[16, 4].astype(int), square[16, -5].astype(int)
        assert left[0] > 200 > 60 > left[2] and right[2] > 200 > 60 > right[0]
    assert pixels.open_picture(turned).size == (96, 64)


def test_damaged_exif_does_not_cost_the_picture():
    data = bytearray(stored(two_halves(8, 8), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\xff\xff\0\0\0\1"))
    assert pixels.decode(bytes(data), [8])[0].shape == (8, 8, 3)


def test_padding_keeps_the_whole_picture():
    for size in ((60, 20), (20, 60), (3, 999)):
        square = pixels.decode(stored(Image.new("RGB", size)), [30], "pad")[0]
        wide = square if size[0] > size[1] else square.transpose(1, 0, 2)
        assert (square == square[::-1, ::-1]).all() or size[0] == 3
        assert (wide[0] == 255).all() and (wide[14] == 0).any()
    assert (pixels.decode(stored(Image.new("RGB", (60, 20))), [30], "pad")[0][10:20] == 0).all()


@pytest.fixture
def sided(tmp_path):
    folder = tmp_path / "sided"
    folder.mkdir()
    captions = ["a red half", "red Left of blue", "the right-hand side is blue", ["two", "leftmost"], ["x", "bright"]]
    for i in range(5):
        two_halves(8, 8).save(folder / f"{i}.png")
    rows = [dict(file_name=f"{i}.png", text=caption) for i, caption in enumerate(captions)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_only_pictures_without_sides_in_their_captions_are_flipped(sided):
    plain, source = opened(sided), opened(sided, flip=True)
    assert [source.may_flip(i) for i in range(5)] == [True, False, False, False, True]
    turned = source.pictures(range(400), 8, 0)[:, 0, 0, 2] == 255
    which = [int(sources.batch_indices(n, 1, 5, 0)[0]) for n in range(400)]
    assert {i for i, is_turned in zip(which, turned) if is_turned} == {0, 4} and 0.1 < turned.mean() < 0.3
    assert (plain.pictures(range(50), 8, 0)[:, 0, 0, 2] == 0).all() and plain.about != source.about
    again = source.pictures(range(30, 40), 8, 0)[:, 0, 0, 2] == 255
    assert (again == turned[30:40]).all()


# --- modes and scale --------------------------------------------------------------------------------------------------

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
MODES = {
    "L": Image.fromarray(RAMP),
    "I;16": Image.fromarray(RAMP.astype(np.uint16) * 257),
    "I of 8 bits": Image.fromarray(RAMP.astype(np.int32)),
    "I of 16 bits": Image.fromarray(RAMP.astype(np.int32) * 257),
    "I of any range": Image.fromarray((RAMP.astype(np.int32) - 126) * 100_000),
    "F from 0 to 1": Image.fromarray((RAMP / 255).astype(np.float32)),
    "F from 0 to 255": Image.fromarray(RAMP.astype(np.float32)),
    "RGBX": Image.fromarray(RAMP).convert("RGB").convert("RGBX"),
    "CMYK": Image.fromarray(RAMP).convert("RGB").convert("CMYK"),
    "YCbCr": Image.fromarray(RAMP).convert("RGB").convert("YCbCr"),
    "HSV": Image.fromarray(RAMP).convert("RGB").convert("HSV"),
    "RGBa": Image.fromarray(RAMP).convert("RGBA").convert("RGBa"),
    "La": Image.fromarray(RAMP).convert("LA").convert("La"),
    "P": Image.fromarray(RAMP).convert("P"),
    "LAB": ImageCms.applyTransform(
        Image.fromarray(RAMP).convert("RGB"),
        ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_comes_in_with_its_values(mode):
    error = np.abs(to_square(MODES[mode], 8).astype(int) - RAMP[..., None]).max()
    assert error <= {"LAB": 6, "I of any range": 4}.get(mode, 2)


def test_files_of_unusual_modes_are_read():
    for image, kind in ((MODES["I of 16 bits"], "TIFF"), (MODES["F from 0 to 1"], "TIFF"), (MODES["CMYK"], "TIFF")):
        assert np.abs(pixels.decode(stored(image, kind), [8])[0].astype(int) - RAMP[..., None]).max() <= 2
    frames = [Image.new("P", (8, 8), i) for i in range(3)]
    assert pixels.decode(stored(frames[0], "GIF", save_all=True, append_images=frames[1:]), [8])[0].shape == (8, 8, 3)
    with pytest.raises(ValueError, match="finite"):
        to_square(Image.new("F", (4, 4), float("nan")), 4)


def test_transparent_parts_are_white():
    clear = Image.new("P", (8, 8), 0)
    clear.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    assert (pixels.decode(stored(clear, transparency=0), [8])[0] == 255).all()
    assert (pixels.decode(stored(Image.new("LA", (8, 8), (0, 0))), [8])[0] == 255).all()


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    data = stored(rough.resize((1600, 1200), Image.Resampling.BICUBIC), "JPEG", quality=95)
    loaded = []
    monkeypatch.setattr(pixels, "upright", lambda image: loaded.append(image.size) or image)
    for crop in pixels.CROPS:
        small, large = pixels.decode(data, [32, 64], crop)
        for square, size in ((small, 32), (large, 64)):
            whole = pixels._square(Image.open(io.BytesIO(data)).convert("RGB"), size, crop)
            assert np.abs(square.astype(int) - whole).mean() < 1.5
    assert loaded == [(200, 150), (200, 150)]


@pytest.mark.parametrize("size, most", [(200, 100 * 200), (100, 99)])
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch, size, most):
    monkeypatch.setattr(pixels, "LARGEST", most)
    with pytest.raises(ValueError, match=rf"{size} x {size}"):
        pixels.decode(stored(Image.new("1", (size, size))), [8])
    assert pixels.decode(stored(Image.new("1", (9, 9))), [8])[0].shape == (8, 8, 3)


def test_the_pictures_of_a_copy_elsewhere_have_the_same_fingerprint(folder, tmp_path):
    shutil.copytree(folder, other := tmp_path / "elsewhere")
    os.utime(other / "3.png", ns=(1, 1))
    assert opened(other, sizes=(16,)).about == opened(folder).about
