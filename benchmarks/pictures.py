"""How fast pictures of your own are prepared, and in how much memory: `python -m benchmarks.pictures`.

12-megapixel JPEGs, as phones take them, are made and prepared at the two resolutions of the preset `colab`: whole and
for each resolution (as minimuse 0.1 did), at the scale that is needed by one core, and by all cores, with what reading
and writing cost. `--many 100000` prepares that many small pictures and reads batches of them, which shows that memory
does not grow with the data set. Prints one JSON object.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from minimuse.config import PicturesConfig
from minimuse.data.pixels import decode, open_picture, to_square
from minimuse.data.prepare import cores
from minimuse.data.sources import Pictures
from minimuse.train.loop import machine

SIZES = (128, 256)  # of the preset colab


def photograph(size: tuple[int, int], seed: int) -> Image.Image:
    """A picture with the coarse and fine structure, and so the file size, of a photograph."""
    rng = np.random.default_rng(seed)
    layers = [rng.integers(0, 256, (side * 3 // 4, side, 3), np.uint8) for side in (8, 64, 1000)]
    large = [np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC), np.float32) for layer in layers]
    return Image.fromarray((0.6 * large[0] + 0.25 * large[1] + 0.15 * large[2]).astype(np.uint8))


def make(folder: Path, count: int, size: tuple[int, int], different: int) -> None:
    """A folder of `count` JPEGs, of which `different` are different, with captions."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(different):
        photograph(size, i).save(folder / f"{i}.jpg", quality=90)
    stored = [(folder / f"{i}.jpg").read_bytes() for i in range(different)]
    with open(pictures / "metadata.jsonl", "w") as file:
        for i in range(count):
            (pictures / f"{i}.jpg").write_bytes(stored[i % different])
            file.write(json.dumps(dict(file_name=f"{i}.jpg", text=f"picture number {i}")) + "\n")


def milliseconds(folder: Path, count: int) -> dict[str, float]:
    """Per picture, in each of the three ways."""
    stored = [(folder / "pictures" / f"{i}.jpg").read_bytes() for i in range(count)]

    def timed(run) -> float:
        begun = time.perf_counter()
        run()
        return round(1000 * (time.perf_counter() - begun) / count, 1)

    found = {
        "whole, for each resolution": timed(
            lambda: [to_square(open_picture(each), size) for each in stored for size in SIZES]
        ),
        "at the scale that is needed, both resolutions": timed(lambda: [decode(each, SIZES) for each in stored]),
    }
    source = Pictures(folder / "pictures", PicturesConfig(cache=str(folder / "cache")), SIZES)
    found[f"prepared by {cores()} cores, with reading and writing"] = timed(source.prepare)
    return found


def peak_megabytes(folder: Path, count: int) -> dict[str, float]:
    """The process's largest memory before there were pictures, and after `count` of them were prepared and read."""

    def peak() -> float:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)

    before, begun = peak(), time.perf_counter()
    source = Pictures(folder / "pictures", PicturesConfig(cache=str(folder / "cache")), (64,))
    source.prepare()
    for start in range(0, count, 64):
        source.pictures(range(start, min(start + 64, count)), 64, 0)
    return {"pictures": count, "before": before, "after": peak(), "seconds": round(time.perf_counter() - begun)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=16, help="JPEGs of 12 megapixels")
    parser.add_argument("--many", type=int, default=0, help="small pictures, to measure memory")
    options = parser.parse_args()
    result: dict = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.many:
            make(folder, options.many, (160, 120), 8)
            result["peak memory in MB"] = peak_megabytes(folder, options.many)
        else:
            make(folder, options.count, (4000, 3000), min(4, options.count))
            megabytes = sum(path.stat().st_size for path in (folder / "pictures").glob("*.jpg")) / options.count / 1e6
            result["megabytes per JPEG"] = round(megabytes, 1)
            result["milliseconds per picture"] = milliseconds(folder, options.count)
    print(json.dumps(result | dict(machine=machine()), indent=2))


if __name__ == "__main__":
    main()
