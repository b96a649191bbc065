"""`python -m minimuse generate | edit | vary | interpolate`. tyro makes options of the arguments, see cli.py."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from minimuse.config import GUIDING, SampleOptions
from minimuse.data.pixels import read_picture
from minimuse.evaluate import commands as evaluations
from minimuse.files import as_given, check_writable
from minimuse.studio.draw import Drawing, Output, draw_rows, timed
from minimuse.studio.recipes import pixels_of
from minimuse.studio.redraw import redraw
from minimuse.studio.rows import NUMBERS, Row, read_rows, rows_of
from minimuse.studio.sheets import columns_of, sheet_of, write

Positional = tyro.conf.Positional
FLAT, NOTHING = evaluations.FLAT, evaluations.NOTHING
Options = Annotated[SampleOptions, FLAT]
PICTURE = tyro.conf.arg(metavar="PICTURE")
CAPTION = tyro.conf.arg(metavar="CAPTION")
EXAMPLE = "a cat left of a dog on a blue background"


def generate(
    texts: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="CAPTION [CAPTION ...]")]],
    /,
    *,
    out: Path = Path("minimuse.png"),
    captions: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    like: Annotated[Path | None, tyro.conf.arg(metavar="PICTURE.png")] = None,
    index: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    drawing: Annotated[Drawing, FLAT] = Drawing(),
    sampling: Options = NOTHING,
) -> None:
    """Draw pictures of captions, and save them as one picture with one row per caption.

    Options of sampling take one value, or two, for the base and the super-resolution stage: --steps 12 8. In a
    pair, None is the checkpoint's own value: --steps None 8. Write captions before options.

    Args:
        texts: What to draw, each caption in quotes.
        out: File to write (.png, .jpg or .webp).
        captions: Draw the captions of a file: .txt, one on each line; .csv or .jsonl with a column caption and, if
            wanted, negative, seed, index and n.
        like: Draw a picture of minimuse again, or all pictures of a sheet, with everything in its recipe.
        index: Number of the first picture of the seed to draw: --index 3 draws picture 3 without the three before it.
    """
    if given := [name for name, value in dict(captions=captions, like=like).items() if value is not None]:
        if texts or len(given) > 1:
            other = f"--{given[1]}" if len(given) > 1 else f"the caption {as_given(texts[0])}"
            raise ValueError(f"--{given[0]} says what to draw; leave out {other}.")
    elif not texts:
        raise ValueError(f'Give at least one caption in quotes, such as "{EXAMPLE}".')
    if like is not None:
        if sampling:
            name = next(iter(sampling)).replace("_", "-")
            raise ValueError(f"--like takes all settings from {like}; leave out --{name}, or --like.")
        return redraw(like, drawing, out, index)
    _check_n(drawing.n)
    numbers: Any = dict(negative=drawing.negative, seed=drawing.seed, index=index or 0, n=drawing.n)
    rows = rows_of(texts, **numbers) if captions is None else read_rows(captions, **numbers)
    columns = columns_of([row.n for row in rows], captions is not None)
    output = Output(drawing, rows, out, columns, "generate")
    plain, muse = _load(output, sampling)
    options: dict[str, Any] = {k: v for k, v in drawing.options().items() if k == "finetuned"} | dict(sampling)
    output.set_recipe(plain, plain.plan(None, options.get("finetuned"), sampling))
    with drawing.watched() as on_step:
        for images in draw_rows(muse, rows, options, output.seconds, on_step):
            output.add(images)
    output.finish()


def _check_n(n: int, least: int = 1, most: int = NUMBERS["n"][1]) -> None:
    if not least <= n <= most:
        raise ValueError(f"--n is how many pictures there are of a caption, from {least} to {most}; it was {n}.")


def _load(output: Output, sampling: Any, *sizes: tuple) -> tuple[Any, Any]:
    """The checkpoint as it is, and in the style; an error now for pictures of sizes, as `Output.check_size` takes them,
    that no file can hold, and for pairs of options where there is one stage."""
    with timed(output.seconds, "load"):
        plain = output.drawing.load(output.out)
        for size in sizes or [()]:
            output.check_size(plain, *size)
        evaluations.check_pairs(sampling, plain)
        return plain, output.drawing.styled(plain)


def _about(path: Path, picture: Any) -> dict[str, str]:
    """A given picture in a recipe: its file's name and a fingerprint of its pixels."""
    return dict(file=path.name, pixels=pixels_of(np.asarray(picture.convert("RGB"))[None]))


def edit(
    image: Positional[Annotated[Path, PICTURE]],
    caption: Positional[Annotated[str, CAPTION]],
    /,
    *,
    mask: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    way: Literal["resample", "read"] | None = None,
    before: Annotated[str | None, CAPTION] = None,
    iterations: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    found_mask: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    out: Path = Path("edited.png"),
    drawing: Annotated[Drawing, FLAT] = Drawing(),
    sampling: Options = NOTHING,
) -> None:
    """Change a picture to match a caption: inside a mask, beyond its borders, or, without either, wherever needed.

    Editing without a mask has two ways. --way resample is the paper's: it takes --iterations, and of the sampling
    options only --guidance, --token-temperature and --top-k. --way read reads a mask from the caption and redraws what
    is under it; it takes all sampling options.

    Args:
        image: The picture, in any format that Pillow reads. A square picture is resized to the checkpoint's size. With
            a mask, and when adding to the borders, it may be larger, with sides that are multiples of 16 pixels (8
            without super-resolution).
        caption: Describes the whole picture after the edit, in quotes.
        mask: A picture of the same size, white where the picture may change.
        left: Pixels to add on the left.
        right: Pixels to add on the right.
        top: Pixels to add at the top.
        bottom: Pixels to add at the bottom.
        way: How to edit without a mask; if not given, the way that the other options belong to, or read.
        before: A caption of the picture as it is, for --way read.
        iterations: Iterations of --way resample (100 if not given); fewer keep more of the picture.
        found_mask: File to write the mask of --way read to, white where the picture was redrawn.
        out: File to write (.png, .jpg or .webp).
    """
    borders = {name: n for name, n in dict(left=left, right=right, top=top, bottom=bottom).items() if n}
    if mask and borders:
        raise ValueError(f"--mask changes what is there, --{next(iter(borders))} adds to it; give only one of the two.")
    own: dict[str, Any] = dict(way=way, before=before, iterations=iterations, found_mask=found_mask)
    own = {name: value for name, value in own.items() if value is not None}  # options of editing without a mask
    if own and (mask or borders):
        name = next(iter(own)).replace("_", "-")
        raise ValueError(f"--{name} is for editing without a mask and without new borders; leave it out.")
    settings: dict[str, Any] = dict(borders)
    if found_mask is not None:
        del own["found_mask"]
        check_writable(found_mask, "--found-mask")
        if found_mask == out:
            raise ValueError(f"--out and --found-mask are both {out}; give the mask another name.")
        own = dict(way="read") | own | dict(trace=True)
        if way == "resample":
            raise ValueError("--way resample finds no mask; leave out --found-mask, or use --way read.")
    picture, masked = read_picture(image), mask and read_picture(mask)
    command = "inpaint" if masked else "outpaint" if borders else "edit"
    output = _output(command, caption, drawing, out)
    more = (left + right, top + bottom)
    plain, muse = _load(output, sampling, (picture.size, more), (picture.size, more, found_mask))
    options: dict[str, Any] = drawing.options() | dict(sampling)
    given = dict(image=_about(image, picture)) | (dict(mask=_about(mask, masked)) if mask and masked else {})
    used, unused = sampling, ()
    if command == "edit":
        settings, used, unused = _mask_free(own, sampling)
    plan = plain.plan(None, options.get("finetuned"), used)
    output.set_recipe(plain, plan, unused, **given, **settings)
    images: Any
    with timed(output.seconds, "draw"), drawing.watched() as on_step:
        options |= {} if on_step is None else dict(on_step=on_step)
        if masked:
            images = muse.inpaint(picture, masked, caption, **options)
        elif borders:
            images = muse.outpaint(picture, caption, **borders, **options)
        else:
            images = muse.edit(picture, caption, **own, **options)
    if found_mask is not None:
        hidden, images = images.redrawn, images.images
        times = images.shape[1] // hidden.shape[1]
        white = np.where(hidden.repeat(times, 1).repeat(times, 2)[..., None], [255] * 3, 0)
        write(sheet_of(white.astype(np.uint8), [drawing.n], [""], drawing.n, drawing.scale, False), found_mask)
        if not drawing.json:
            print(f"where it was redrawn -> {found_mask}")
    output.add(images)
    output.finish()


def _mask_free(own: dict[str, Any], sampling: Any) -> tuple[dict[str, Any], Any, tuple[str, ...]]:
    """How `edit` draws with these options: for the recipe; its options of sampling; and the stages without any."""
    from minimuse.mask_free import Resampling, settings_of

    iterations = dict(iterations=own["iterations"]) if "iterations" in own else {}
    record, used = settings_of(own.get("way"), own.get("before"), sampling | iterations)
    resampled = isinstance(record, Resampling)
    before = dict(before=own["before"]) if "before" in own else {}
    settings = dict(way="resample" if resampled else "read") | before | dataclasses.asdict(record)
    return settings, used, ("base",) if resampled else ()


def _output(command: str, caption: str, drawing: Drawing, out: Path) -> Output:
    """Where the pictures of one caption go."""
    _check_n(drawing.n)
    return Output(drawing, [Row(caption, drawing.negative, drawing.seed, 0, drawing.n)], out, drawing.n, command)


def vary(
    image: Positional[Annotated[Path, PICTURE]],
    caption: Positional[Annotated[str, CAPTION]],
    /,
    *,
    strength: float = 0.5,
    out: Path = Path("varied.png"),
    drawing: Annotated[Drawing, FLAT] = Drawing(n=4),
    sampling: Options = NOTHING,
) -> None:
    """Draw pictures similar to a square one: a share of its tokens, at random positions, is sampled again.

    Args:
        image: The picture, in any format that Pillow reads; it is resized to the checkpoint's size.
        caption: Describes the picture, in quotes.
        strength: The share, from 0 (the picture as its tokens decode) to 1 (a new picture).
        out: File to write (.png, .jpg or .webp).
    """
    picture, output = read_picture(image), _output("vary", caption, drawing, out)
    plain, muse = _load(output, sampling)
    options: dict[str, Any] = drawing.options() | dict(sampling, strength=strength)
    plan = plain.plan(None, options.get("finetuned"), sampling)
    output.set_recipe(plain, plan, image=_about(image, picture), strength=strength)
    with timed(output.seconds, "draw"), drawing.watched() as on_step:
        images: Any = muse.vary(picture, caption, on_step=on_step, **options)
    output.add(images)
    output.finish()


def interpolate(
    first: Positional[Annotated[str, CAPTION]],
    second: Positional[Annotated[str, CAPTION]],
    /,
    *,
    out: Path = Path("interpolated.png"),
    drawing: Annotated[Drawing, FLAT] = Drawing(n=5),
    sampling: Options = NOTHING,
) -> None:
    """Draw pictures from one caption to another, all from the same noise.

    The two captions are mixed by guidance, so there is no other: --negative, --guidance, --ramp, --guided-from,
    --guided-to and --critic are not for it.

    Args:
        first: The caption of the first picture, in quotes.
        second: The caption of the last one.
        out: File to write (.png, .jpg or .webp).
    """
    mixed = set(GUIDING) & sampling.keys()
    mixed |= {"negative"} if drawing.negative else set()
    if mixed:
        name = min(mixed).replace("_", "-")
        raise ValueError(f"Interpolation mixes two captions by guidance, so it takes no --{name}.")
    _check_n(drawing.n, 2, 10_000)  # as Muse.interpolate takes them
    output = _output("interpolate", f"{first} -> {second}", drawing, out)
    plain, muse = _load(output, sampling)
    options: dict[str, Any] = drawing.options() | dict(sampling)
    del options["negative"]
    plan = plain.plan(None, options.get("finetuned"), sampling)
    output.set_recipe(plain, plan, GUIDING, first=first, second=second)
    with timed(output.seconds, "draw"), drawing.watched() as on_step:
        images: Any = muse.interpolate(first, second, on_step=on_step, **options)
    output.add(images)
    output.finish()
