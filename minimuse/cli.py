"""The command line: `python -m minimuse generate | edit | train | strip | evaluate | push | grade | doctor`; functions.

tyro turns the arguments and docstrings of these functions into options and help; those of train and evaluate are in
train/command.py and evaluate/commands.py. An error that the user can fix is reported in one sentence, with exit code 2.
"""

import dataclasses
import functools
import io
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import numpy as np
import tyro

from minimuse.config import SampleOptions
from minimuse.data.pixels import read_picture
from minimuse.evaluate import commands as evaluations
from minimuse.files import atomic_path, check_size, check_writable, in_short, read_json, save_picture
from minimuse.presets import get_preset
from minimuse.processes import check_jax
from minimuse.train.command import nested_settings, train

if TYPE_CHECKING:
    from minimuse.muse import Muse

Positional = tyro.conf.Positional
FLAT, NOTHING = evaluations.FLAT, evaluations.NOTHING
Options = Annotated[SampleOptions, FLAT]

# --- generate and edit ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Drawing:
    """The options that `generate` and `edit` share, other than those of sampling."""

    n: int = 1
    """Number of pictures per caption."""
    seed: int = 0
    """The same seed gives the same pictures."""
    checkpoint: str = "tiny"
    """Name of a shipped checkpoint, a checkpoint folder, or user/name on the Hugging Face Hub."""
    negative: Annotated[str, tyro.conf.arg(metavar="CAPTION")] = ""
    """A caption of what should not be in the picture."""
    superres: bool = True
    """Use the super-resolution stage, if the checkpoint has one."""
    finetuned: bool = True
    """Use the fine-tuned decoder, if the checkpoint has one."""
    scale: int = 1
    """Enlarge every pixel this many times."""
    style: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Draw in a style of the checkpoint, which `train style` wrote to this folder."""
    style_strength: float = 1.0
    """Of --style: 0 is the checkpoint without it, 1 the style as trained."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What transformers compute in: bfloat16 is for TPUs and newer GPUs, float16 for older ones such as the T4."""

    def load(self, out: Path) -> "Muse":
        """The checkpoint, once it is certain that the picture can be written."""
        if self.scale < 1:
            raise ValueError(f"--scale must be 1 or more; it was {self.scale}.")
        if self.style_strength != 1 and not self.style:
            raise ValueError(f"--style-strength {self.style_strength:g} is that of a style; name one with --style.")
        check_writable(out)
        from minimuse.muse import Muse

        muse = Muse.from_pretrained(self.checkpoint, superres=self.superres, dtype=self.dtype)
        return muse.with_style(self.style, self.style_strength) if self.style else muse

    def check_size(
        self, out: Path, muse: "Muse", rows: int = 1, size: tuple[int, int] = (1, 1), more: tuple[int, int] = (0, 0)
    ) -> None:
        """ValueError now if `out` cannot hold `rows` rows of n pictures that are made of one of this size (width,
        height) and grow by `more`; squares get the size that the Muse draws."""
        side = muse.tokenizer_config("superres" if "superres" in muse.configs else "base").image_size
        width, height = size if size[0] != size[1] else (side, side)
        check_size(out, self.n * (width + more[0]) * self.scale, rows * (height + more[1]) * self.scale)

    def options(self) -> dict[str, Any]:
        """As `Muse.generate` takes them."""
        finetuned = {} if self.finetuned or not self.superres else dict(finetuned=False)
        return dict(n=self.n, seed=self.seed, negative=self.negative or None) | finetuned


def generate(
    captions: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="CAPTION [CAPTION ...]")]],
    /,
    *,
    out: Path = Path("minimuse.png"),
    drawing: Annotated[Drawing, FLAT] = Drawing(),
    sampling: Options = NOTHING,
) -> None:
    """Draw pictures of captions, and save them as one picture with one row per caption.

    Options of sampling take one value, or two, for the base and the super-resolution stage: --steps 12 8. In a
    pair, None is the checkpoint's own value: --steps None 8. Write captions before options.

    Args:
        captions: What to draw, each caption in quotes.
        out: File to write (.png, .jpg or .webp).
    """
    if not captions:
        raise ValueError('Give at least one caption in quotes, such as "a cat left of a dog on a blue background".')
    muse = drawing.load(out)
    drawing.check_size(out, muse, len(captions))
    evaluations.check_pairs(sampling, muse)
    images: Any = muse.generate(list(captions), **drawing.options(), **sampling)
    save_picture(images, out, drawing.n, drawing.scale)


def edit(
    image: Positional[Annotated[Path, tyro.conf.arg(metavar="PICTURE")]],
    caption: Positional[Annotated[str, tyro.conf.arg(metavar="CAPTION")]],
    /,
    *,
    mask: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    way: Literal["resample", "read"] | None = None,
    before: Annotated[str | None, tyro.conf.arg(metavar="CAPTION")] = None,
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
    if found_mask is not None:
        del own["found_mask"]
        check_writable(found_mask, "--found-mask")
        own = dict(way="read") | own | dict(trace=True)
        if way == "resample":
            raise ValueError("--way resample finds no mask; leave out --found-mask, or use --way read.")
    picture, masked = read_picture(image), mask and read_picture(mask)
    muse = drawing.load(out)
    for file in (out, found_mask or out):
        drawing.check_size(file, muse, 1, picture.size, (left + right, top + bottom))
    evaluations.check_pairs(sampling, muse)
    options: dict[str, Any] = drawing.options() | dict(sampling)
    images: Any
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
        save_picture(white.astype(np.uint8), found_mask, drawing.n, drawing.scale)
    save_picture(images, out, drawing.n, drawing.scale)


# --- the others -----------------------------------------------------------------------------------------------------


def evaluate() -> None:
    """Measure a checkpoint, and print one JSON object; `evaluate --help` lists what can be measured."""
    _run(["evaluate"])


def push(
    checkpoint: Positional[Annotated[str, tyro.conf.arg(metavar="CHECKPOINT")]],
    repo: Positional[Annotated[str, tyro.conf.arg(metavar="USER/NAME")]],
    /,
    *,
    scores: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    private: bool = False,
    revision: Annotated[str | None, tyro.conf.arg(metavar="BRANCH")] = None,
    license: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
) -> None:
    """Upload a checkpoint to the Hugging Face Hub, with a model card that says what it was trained on.

    Log in first with `hf auth login`, or set HF_TOKEN to a token that may write.

    Args:
        checkpoint: Name of a shipped checkpoint, or a checkpoint folder.
        repo: What it will be called on the Hub; made if it does not exist.
        scores: For the card: a file with what `evaluate generation --json` printed for this checkpoint.
        private: Only you can see it. A model that is public already is refused.
        revision: Branch to upload to, made if it does not exist; main if not given.
        license: For the card: the weights' license, as the Hub spells it. If not given, apache-2.0 for a checkpoint
            trained on the course's scenes, and unknown for one trained on your own pictures.
    """
    from minimuse import hub

    hub.check_name(repo)
    given = None if scores is None else read_json(scores, "Store in it what `evaluate generation --json` prints")
    from minimuse.muse import Muse

    muse = Muse.from_pretrained(checkpoint)
    address = muse.push_to_hub(repo, scores=given, private=private or None, revision=revision, license=license)
    print(f"{checkpoint} -> {address}")


def grade(
    notebooks: Positional[Annotated[list[Path], tyro.conf.arg(metavar="NOTEBOOK [NOTEBOOK ...]")]],
    /,
    *,
    csv: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    hidden: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    seconds: float = 300.0,
) -> None:
    """Mark notebooks of exercises, without nbgrader. For teachers.

    Args:
        notebooks: Submitted notebooks. What their answers need is run, on Linux without network, and with files that
            it can only read; see exercises/README.md.
        csv: File to write, one row per exercise.
        hidden: Folder of additional checks that students do not have; see exercises/README.md.
        seconds: Time limit per answer; a slower answer gets no marks.
    """
    from minimuse.teach import checking, grading

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for the names of files that the terminal cannot show
    if not notebooks:
        raise ValueError("Name the notebooks to mark, such as submissions/*.ipynb.")
    if hidden is None and checking.HIDDEN in os.environ:
        hidden = Path(os.environ[checking.HIDDEN])
    grading.grade_all(notebooks, csv, seconds, hidden)


def strip(
    folder: Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]],
    /,
    *,
    out: Path = Path("strip.png"),
    columns: int = 8,
) -> None:
    """Make one picture of the samples that a stage drew while it was trained (train --run.samples-every 500).

    Args:
        folder: The stage's folder in the run folder, such as runs/own/base.
        out: File to write (.png), with a row for each caption and a column for each step.
        columns: How many of the steps to show at most, from the first to the last.
    """
    check_writable(out)
    from minimuse.teach import figures

    figure, words = figures.sample_strip(folder, columns), figures.strip_words(folder, columns)
    with atomic_path(out) as partial:
        about = dict(Description=words) if out.suffix.lower() == ".png" else None
        figure.savefig(partial, dpi=150, metadata=about)
    print(f"{words}\n-> {out}")


def doctor() -> None:
    """Check this machine: versions, devices, memory, data; and say how to fix what is wrong."""
    from minimuse.teach import doctor

    doctor.main()


# --- parsing --------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[..., None]] = dict(
    generate=generate,
    edit=edit,
    train=train,
    strip=strip,
    evaluate=evaluate,
    push=push,
    grade=grade,
    doctor=doctor,
)
MOVED = ("steps", "guidance", "temperature", "token-temperature")  # options that were once spelled --superres-steps
registry = tyro.constructors.ConstructorRegistry()


@registry.primitive_rule
def _one_or_two(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """How tyro reads a field of SampleOptions, X or tuple[X | None, X | None]; for other types None, which is tyro's
    own way."""
    parts: tuple[Any, ...] = typing.get_args(info.type)
    if len(parts) != 2 or typing.get_origin(parts[1]) is not tuple:
        return None
    kind = parts[0]
    convert = {"True": True, "False": False}.__getitem__ if kind is bool else kind
    name = "{True,False}" if kind is bool else kind.__name__.upper()

    def read(words: list[str]) -> Any:
        try:
            values = [None if len(words) == 2 and word == "None" else convert(word) for word in words]
        except (ValueError, KeyError):
            values = []
        if len(values) not in (1, 2):
            raise ValueError(
                f"it takes one {name}, or two, for the base and the super-resolution stage; it was "
                f"{' '.join(words) or 'nothing'}. Captions go before options."
            )
        return tuple(values) if len(values) == 2 else values[0]

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{name} [{name}]",
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
    )


def _train_over_preset(arguments: list[str]) -> tuple[Callable[..., None], list[str]]:
    """`train` with the settings of the preset that the arguments name, as the nested options' defaults; and the
    arguments with which tyro shows the help that is asked for."""
    name = "tiny"
    for word, after in zip(arguments, [*arguments[1:], ""]):
        name = after if word == "--preset" else word.removeprefix("--preset=") if "--preset=" in word[:9] else name
    settings = nested_settings(get_preset(name))
    if "--help-all" in arguments:
        return functools.partial(train, settings=settings), ["train", "--help"]
    if {"-h", "--help"} & set(arguments):  # hundreds of options would hide the others
        settings = {}
    return functools.partial(train, settings=settings), arguments


def _run(arguments: list[str]) -> None:
    commands, prog = COMMANDS, "minimuse"
    for word in arguments:
        name = word.partition("=")[0].replace("_", "-").removeprefix("--superres-")
        if word.startswith("--superres") and name in MOVED:
            raise ValueError(f"--superres-{name} is now the second value of --{name}, such as --{name} None VALUE.")
    if arguments[:1] == ["evaluate"]:
        commands, prog, arguments = evaluations.COMMANDS, "minimuse evaluate", arguments[1:]
    elif arguments[:1] == ["train"]:
        function, arguments = _train_over_preset(arguments)
        commands = COMMANDS | dict(train=function)
    with registry:
        tyro.extras.subcommand_cli_from_dict(commands, prog=prog, args=arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; an error that the user can fix is reported in one sentence, with exit code 2, and Ctrl-C ends it
    with 130."""
    from minimuse import enable_compilation_cache

    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] != ["doctor"]:  # the doctor also works where JAX does not
        enable_compilation_cache()
    try:
        _run(arguments)
    # OSError: a missing file, no permission, no space. ImportError: no PyTorch, which only judges need.
    except (ValueError, OSError, ImportError) as error:
        _refuse(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        print("minimuse: stopped.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):  # NumPy's and JAX's
            _refuse(f"This takes more memory than there is ({in_short(error)}).")
        try:
            check_jax()
        except (ValueError, RuntimeError) as reason:
            _refuse(reason)
        raise


def _refuse(reason: object) -> NoReturn:
    print(f"minimuse: {reason}", file=sys.stderr)
    sys.exit(2)
