"""Drawings of icon packages in Iconify's JSON form, for the scripts that build artwork; nothing else uses it.

A package comes from the npm registry as one archive, `npm pack NAME@VERSION`; its SHA-256 is checked. Drawings are SVG;
resvg renders them (`pip install resvg_py==0.5.0`; other versions may round a few pixels differently).
"""

import base64
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SIDE = 128  # pixels per side, as the sprites
TONES = re.compile(r"(light|medium|dark)(-light|-dark)?-skin-tone|-skin-tone|1f3f[b-f]")


@dataclass(frozen=True)
class Package:
    """An archive of the npm registry, and who drew what is in it."""

    name: str
    version: str
    sha256: str
    artist: str
    licence: str

    @property
    def archive(self) -> str:
        """The file name that `npm pack` gives it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def files(self, folder: Path) -> dict[str, dict]:
        """The JSON files of the archive in `folder`, by name; stops with a message where it is missing or another."""
        path = folder / self.archive
        if not path.is_file():
            raise SystemExit(f"There is no {path}. Get it: cd {folder} && npm pack {self.name}@{self.version}")
        if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != self.sha256:
            raise SystemExit(
                f"{path} has the SHA-256 {found}, expected {self.sha256}. Get version {self.version} again."
            )
        with tarfile.open(path) as archive:
            members = {Path(member.name).name: member for member in archive if member.name.endswith(".json")}
            return {
                name: json.load(archive.extractfile(member) or io.BytesIO(b"{}")) for name, member in members.items()
            }


@dataclass(frozen=True)
class Drawing:
    """One icon of a package."""

    name: str
    category: str
    code_point: str  # "U+1F431", "U+1F441 U+200D U+1F5E8"; "" where the package does not say
    svg: str


def drawings(package: Package, folder: Path) -> Iterator[Drawing]:
    """Every icon of a package that has a category and is not a variant of another by its skin tone, in the order of
    the file; the same drawing under two names counts once."""
    files = package.files(folder)
    icons, seen = files["icons.json"], set()
    points = {name: code for code, name in files["chars.json"].items()}
    category = {name: kind for kind, names in files["metadata.json"]["categories"].items() for name in names}
    for name, icon in icons["icons"].items():
        if name not in category or icon.get("hidden") or icon["body"] in seen or TONES.search(name):
            continue
        seen.add(icon["body"])
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        left, top = (icon.get(side, icons.get(side, 0)) for side in ("left", "top"))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )
        code = " ".join(f"U+{part.upper()}" for part in points.get(name, "").split("-") if part)
        yield Drawing(name, category[name], code, svg)


def draw(svg: str, side: int = SIDE) -> Image.Image | None:
    """RGBA of side x side pixels, cropped to what is drawn and centred, as the sprites are; None if nothing is."""
    import resvg_py

    rendered = resvg_py.svg_to_bytes(svg_string=svg, width=2 * side, height=2 * side)
    png = base64.b64decode(rendered) if isinstance(rendered, str) else bytes(rendered)
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    box = image.getchannel("A").getbbox()
    if box is None:
        return None
    glyph = image.crop(box)
    longer = max(glyph.size)
    square = Image.new("RGBA", (longer, longer), (0, 0, 0, 0))
    square.paste(glyph, ((longer - glyph.width) // 2, (longer - glyph.height) // 2))
    return square.resize((side, side), Image.Resampling.LANCZOS)


def write(rows: list[dict], path: Path) -> None:
    """A Parquet file of rows with an `image`, in the form of data/sprites.parquet."""
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    dataset.to_parquet(path)
    print(f"{len(dataset)} drawings, {path.stat().st_size / 2**20:.2f} MiB -> {path}")
