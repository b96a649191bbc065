"""docs/from_diffusers.md: minimuse's side of its examples runs, and what it states about settings is true."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minimuse as mm
from minimuse import decoding, muse
from minimuse.config import SampleOptions

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "from_diffusers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# (\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(micro_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load = mm.Muse.from_pretrained
    monkeypatch.setattr(muse.Muse, "from_pretrained", lambda name: load(micro_folder))
    names = {}
    ours = [code for side, code in BLOCKS if side == "minimuse"]
    assert len(ours) == 2 == len(BLOCKS) - len(ours)
    for code in ours:
        exec(code, names)
    images, image, mask = names["images"], names["image"], names["mask"]
    assert images.shape == (4, 64, 64, 3) and (np.asarray(Image.open("cat.png")) == images[0]).all()
    assert (image[~mask] == images[0][~mask]).all() and (image[mask] != images[0][mask]).any()


@pytest.mark.parametrize("scale", [1.0, 1.5, 7.5])
def test_guidance_scale_is_one_plus_t(scale):
    conditional, unconditional = np.array([0.5, -2.0, 3.0]), np.array([1.0, 0.25, -1.0])
    theirs = unconditional + scale * (conditional - unconditional)
    np.testing.assert_allclose(decoding.guide(conditional, unconditional, scale - 1), theirs)


def test_the_names_exist():
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    ours = " ".join(cells[2] for cells in rows)
    for name in re.findall(r"Muse\.(\w+)|muse\.(\w+)", ours):
        assert hasattr(mm.Muse, "".join(name)) or "".join(name) in ("text", "models")
    options = {*inspect.signature(mm.Muse.generate).parameters, *SampleOptions.__annotations__}
    named = {"captions", "negative", "n", "guidance", "steps", "seed", "index", "temperature", "on_step", "trace"}
    assert named <= options and all(f"`{name}" in ours for name in named)
