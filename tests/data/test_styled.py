"""Scenes in another style: what changes, and that it can be taken away again."""

import numpy as np

from minimuse.data import scenes, styled
from minimuse.data.captioned import load_captioned


def test_only_the_background_changes():
    scene, _ = scenes.example("val", 3)
    plain, other = scenes.render(scene), styled.render_at_sunset(scene)
    background = (plain == scenes.BACKGROUNDS[scene.background]).all(-1)
    assert (other[background] == styled.sky(64)[background]).all()
    assert styled.in_sunset(styled.sky(64)[None]) == 1
    assert styled.in_sunset(other[None])[0] > 0.5 > styled.in_sunset(np.zeros((1, 64, 64, 3), np.uint8))[0]
    bands = [tuple(row) for row in styled.sky(128)[:, 0]]
    assert bands[0] == scenes.BACKGROUNDS["purple"] and bands[-1] == scenes.BACKGROUNDS["yellow"]


def test_the_style_can_be_taken_away():
    scene, _ = scenes.example("val", 3)
    back = styled.without_sunset(styled.render_at_sunset(scene)[None])[0]
    white = styled.render_at_sunset(scene) == styled.sky(64)
    assert (back[white.all(-1)] == 255).all() and (back != 255).any()


def test_captions_do_not_name_the_background():
    captions = [styled.styled_example("train", i)[1] for i in range(50)]
    assert not [caption for caption in captions if "background" in caption]
    assert captions == [styled.styled_example("train", i)[1] for i in range(50)]
    assert captions != [styled.styled_example("val", i)[1] for i in range(50)]


def test_the_pictures_are_read_as_own_pictures(tmp_path):
    styled.save_sunset(tmp_path, n=3, size=64, words=" at sunset")
    found = load_captioned(tmp_path)
    assert len(found) == 3 and all(caption.endswith(" at sunset") for caption in found["caption"])
    assert (np.asarray(found[1]["image"]) == styled.render_at_sunset(styled.styled_example("train", 1)[0])).all()
