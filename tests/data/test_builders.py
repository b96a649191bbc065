"""The scripts that build artwork and captioned pictures from packages: what they take, and that they take no other
package."""

import hashlib
import importlib
import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from minimuse.config import data_dir
from minimuse.data.captioned import load_captioned

CATEGORIES = {"Food": ["pear", "plum", "kiwi", "pear-light-skin-tone", "same"], "Flags": ["flag"]}
CHARS = {"1f350": "pear", "1f351": "plum", "1f95d-200d-1f7e9": "kiwi", "1f3f4": "flag"}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "data"))
    return importlib.import_module


@pytest.fixture
def package(script, tmp_path):
    """A package of a few icons, in tmp_path."""
    names = [*CATEGORIES["Food"], "flag", "unlisted"]
    bodies = {name: f'<path d="{i}"/>' for i, name in enumerate(names)}
    bodies["same"] = bodies["pear"]  # a second name of one drawing
    icons = dict(height=32, icons={name: dict(body=body, width=64) for name, body in bodies.items()})
    files = {"icons.json": icons, "chars.json": CHARS, "metadata.json": dict(categories=CATEGORIES)}
    path = tmp_path / "some-icons-1.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            text = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return script("iconify").Package("@some/icons", "1.0", digest, "nobody", "MIT")


def test_variants_and_second_names_are_left_out(script, package, tmp_path):
    found = list(script("iconify").drawings(package, tmp_path))
    assert [(drawing.name, drawing.code_point) for drawing in found] == [
        ("pear", "U+1F350"),
        ("plum", "U+1F351"),
        ("kiwi", "U+1F95D U+200D U+1F7E9"),
        ("flag", "U+1F3F4"),
    ]
    assert 'viewBox="0 0 64 32"' in found[0].svg and '<path d="0"/>' in found[0].svg


def test_unseen_artwork_is_chosen_by_rule(script, package, tmp_path):
    """By the checksum of its name, of each category but the flags, and only what has one code point."""
    build = script("build_unseen_artwork")
    chosen = build.chosen(list(script("iconify").drawings(package, tmp_path)))
    assert [drawing.name for drawing in chosen] == sorted(["pear", "plum"], key=lambda name: zlib.crc32(name.encode()))
    rows = pyarrow.parquet.read_table(data_dir() / "unseen_artwork.parquet", columns=["name", "category"]).to_pylist()
    rank = [(row["category"], zlib.crc32(row["name"].encode())) for row in rows]
    assert rank == sorted(rank) and len(rows) == 8 * build.PER_CATEGORY


def test_another_package_is_refused(script, package, tmp_path):
    with pytest.raises(SystemExit, match=r"npm pack @some/icons@1\.0"):
        package.files(tmp_path / "nowhere")
    with open(tmp_path / package.archive, "ab") as archive:
        archive.write(b"more")
    with pytest.raises(SystemExit, match=package.sha256):
        package.files(tmp_path)


def test_no_artist_is_in_both(script):
    training, unseen = script("build_training_artwork").PACKAGES, script("build_unseen_artwork").FLUENT
    assert unseen.artist not in {package.artist for package in training}
    assert {package.licence for package in training} == {"Apache-2.0"}


NAMES = (
    *("owl", "folded-hands", "man-walking-facing-right", "man-red-hair", "bread"),
    *("ok-button", "one-oclock", "police-car-light"),
    *(f"pilot{tone}" for tone in ("", "-light", "-medium-light", "-medium", "-medium-dark", "-dark")),
)


@pytest.fixture
def emoji(script):
    """The builder of captioned pictures, and drawings of these names."""
    build = script("build_emoji_pictures")
    group = {"ok-button": "Symbols", "owl": "Animals & Nature"}
    found = [build.Drawing(name, group.get(name, "People & Body"), "", f"<svg>{name}</svg>") for name in NAMES]
    return build, found


def test_captions_are_made_of_names_tones_and_groups(emoji):
    build, found = emoji
    captions = {d.name: build.captions(d, plain) for part in build.split(found) for d, plain in part}
    assert captions["owl"] == ["an owl", "owl", "owl, animals and nature"]
    assert captions["pilot-medium-light"][0] == "a pilot, medium light skin tone"
    assert captions["pilot"][2] == "pilot, people and body"
    assert captions["folded-hands"][0] == "folded hands" and captions["bread"][0] == "bread"
    assert captions["man-walking-facing-right"][0] == "a man walking facing right"
    assert captions["man-red-hair"][0] == "a man with red hair"
    assert captions["police-car-light"][0] == "a police car light"


def test_some_skin_tones_are_unseen_and_signs_are_left_out(emoji):
    build, found = emoji
    learned, unseen = ([d.name for d, _ in part] for part in build.split(found))
    tones = sorted((name for name in NAMES if name.startswith("pilot-")), key=lambda name: zlib.crc32(name.encode()))
    assert set(unseen) == set(tones[build.TONES :]) and set(tones[: build.TONES]) < set(learned)
    assert {*NAMES} - {*learned, *unseen} == {"ok-button", "one-oclock"}


def test_captioned_pictures_are_what_data_reads(script, emoji, tmp_path, monkeypatch):
    build, found = emoji
    glyph = Image.new("RGBA", (112, 112), (0, 0, 255, 255))
    monkeypatch.setattr(build, "draw", lambda svg, side: None if "owl" in svg else glyph.resize((side, side)))
    script("iconify").write(build.rows(build.split(found)[0]), tmp_path / "emoji.parquet")
    pictures = load_captioned(tmp_path / "emoji.parquet")
    assert not pictures.notes and len(pictures) == len(build.split(found)[0]) - 1  # one has nothing in it
    assert pictures.captions[0] == ("folded hands", "folded hands, people and body")
    image = np.asarray(pictures[0]["image"])
    assert image.shape == (128, 128, 3) and (image[8:120, 8:120] == (0, 0, 255)).all()
    assert (image[:8] == 255).all() and (image[:, 120:] == 255).all()


def test_a_package_becomes_two_files(script, package, tmp_path, monkeypatch):
    build = script("build_emoji_pictures")
    monkeypatch.setattr(build, "FLUENT", package)
    monkeypatch.setattr(build, "draw", lambda svg, side: Image.new("RGBA", (side, side)))
    options = ["--packages", str(tmp_path), "--out", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["build_emoji_pictures.py", *options])
    build.main()
    assert load_captioned(tmp_path / "runs" / "emoji.parquet").captions[0] == ("a pear", "pear", "pear, food")
