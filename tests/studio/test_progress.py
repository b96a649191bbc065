"""The progress bar and the live preview."""

import io

import numpy as np

from minimuse.stepwise import Step
from minimuse.studio.progress import Bar, Preview, preview


def steps(batch=1, stage="base"):
    """What on_step is given over three steps of two groups, if there are four images."""
    for first in range(0, batch, 2):
        images = range(first, min(first + 2, batch))
        for step in (1, 2, 3):
            tokens = np.full((len(images), 8, 8), 5)
            hidden = np.zeros(tokens.shape, bool)
            hidden[:, : 8 - 4 * (step - 1)] = step < 3
            yield Step(stage, step, 3, images, batch, tokens, hidden)


def test_the_bar_counts_steps_and_names_the_images():
    out = io.StringIO()
    with Bar(file=out, mininterval=0, miniters=1) as bar:
        for step in steps(4):
            bar(step)
    shown = out.getvalue()
    assert "3/3" in shown and "1-2 of 4" in shown and "3-4 of 4" in shown and bar.bar is None


def test_a_preview_fades_what_is_hidden(micro):
    _, second, last = steps(2)
    drawn = np.asarray(micro.detokenize(last.tokens))
    np.testing.assert_array_equal(preview(micro, last), drawn)
    shown = preview(micro, second, most=1)
    np.testing.assert_array_equal(shown[0, 32:], drawn[0, 32:])
    np.testing.assert_array_equal(shown[0, :32], (drawn[0, :32].astype(int) + 255) // 2)


def test_a_notebook_shows_one_picture_that_changes(micro, monkeypatch):
    import IPython.display

    shown = []

    class Handle:
        def update(self, picture):
            shown.append(picture)

    monkeypatch.setattr(IPython.display, "display", lambda picture, display_id: shown.append(picture) or Handle())
    watch = Preview(micro, every=2, file=io.StringIO())
    for step in steps(1):
        watch(step)
    assert len(shown) == 2 and shown[0].data != shown[1].data  # after step 2, and the last
    assert "step 2 of 3" in shown[0].alt and "0 tokens" in shown[1].alt
