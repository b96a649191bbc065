"""What to give `on_step`: a progress bar for a terminal, and one with a live preview for a notebook."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse.stepwise import Step

if TYPE_CHECKING:
    from minimuse.muse import Muse

NAMES = dict(base="drawing", superres="super-resolution")


class Bar:
    """A progress bar by steps, on stderr or in a notebook: `muse.generate(caption, on_step=Bar())`. As a context it is
    closed at the end, also after an error."""

    def __init__(self, **options: Any):
        self.options, self.bar, self.now = options, None, ("", 0)

    def __call__(self, step: Step) -> None:
        from tqdm.auto import tqdm

        if (step.stage, step.images.start) != self.now or step.step == 1:
            self.close()
            self.now, of = (step.stage, step.images.start), ""
            if len(step.images) < step.batch:
                of = f" {step.images.start + 1}-{step.images.stop} of {step.batch}"
            name = f"{NAMES.get(step.stage, step.stage)}{of}"
            self.bar = tqdm(total=step.steps, desc=name, unit="step", leave=False, **self.options)
        assert self.bar is not None
        self.bar.update(step.step - self.bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def preview(muse: "Muse", step: Step, most: int = 4) -> np.ndarray:
    """The first pictures after a step, uint8 [n, H, W, 3]: hidden tokens are shown as they would be by now, half faded
    to white.

    most    how many pictures at most
    """
    finetuned = step.stage == "superres" and "superres_decoder" in muse.configs
    images = np.asarray(muse.detokenize(step.tokens[:most], step.stage, finetuned=finetuned))
    times = images.shape[1] // step.hidden.shape[1]
    hidden = step.hidden[:most].repeat(times, 1).repeat(times, 2)[..., None]
    return np.where(hidden, (images.astype(int) + 255) // 2, images).astype(np.uint8)


class Preview(Bar):
    """The bar, and below it what is drawn so far, in a notebook: `muse.generate(caption, on_step=Preview(muse))`.

    every    steps from one preview to the next; the last of a stage is always shown
    side     height in pixels that pictures are shown at
    """

    def __init__(self, muse: "Muse", every: int = 1, side: int = 192, **options: Any):
        super().__init__(**options)
        self.muse, self.every, self.side, self.shown = muse, every, side, None

    def __call__(self, step: Step) -> None:
        super().__call__(step)
        if step.step % self.every == 0 or step.step == step.steps:
            self.show(step)

    def show(self, step: Step) -> None:
        """Replace the picture below the bar."""
        from IPython.display import display
        from PIL import Image

        from minimuse.teach.display import Picture

        row = np.concatenate([*preview(self.muse, step)], 1)
        times = max(1, self.side // row.shape[0])
        buffer = io.BytesIO()
        Image.fromarray(row.repeat(times, 0).repeat(times, 1)).save(buffer, "png")
        hidden = int(step.hidden[0].sum())
        words = (
            f"After step {step.step} of {step.steps} ({step.stage}), {hidden} tokens of the first picture are hidden."
        )
        picture = Picture(buffer.getvalue(), "image/png", words)
        if self.shown is None:
            self.shown = display(picture, display_id=True)
        else:
            self.shown.update(picture)
