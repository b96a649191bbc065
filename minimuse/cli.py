"""The command line: `python -m minimuse COMMAND`, functions.

tyro turns the arguments and docstrings of these functions into options and help; those that draw are in
studio/commands.py, train and evaluate in train/command.py and evaluate/commands.py. An error that the user can fix is
reported in one sentence, with exit code 2.
"""

import functools
import io
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from minimuse.evaluate import commands as evaluations
from minimuse.files import atomic_path, check_writable, read_json, sentence
from minimuse.presets import get_preset
from minimuse.processes import check_jax
from minimuse.studio.app import app
from minimuse.studio.commands import edit, generate, interpolate, vary
from minimuse.train.command import nested_settings, train

Positional = tyro.conf.Positional

# --- commands without a file of their own --------------------------------------------------------------------------


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
    vary=vary,
    interpolate=interpolate,
    app=app,
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


FIRST = """minimuse draws pictures of captions, and is a course that builds the model which draws them. First try:

  python -m minimuse generate "a cat left of a dog on a blue background" --n 4 --scale 2   # -> minimuse.png
  python -m minimuse app       # a page to draw and edit on, in your browser
  python -m minimuse doctor    # checks this machine, and says how to fix what is wrong

The course begins with notebooks/00_first_pictures.ipynb; in a clone of the repository, `make lab` opens it.
All commands: python -m minimuse --help. Options of one: python -m minimuse generate --help."""


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
        _run(arguments) if arguments else print(FIRST)
    except BrokenPipeError:  # of what is printed; __main__.py ends without a word
        raise
    except KeyboardInterrupt:
        print("minimuse: stopped.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (words := sentence(error)) is not None:
            _refuse(words)
        try:
            check_jax()
        except (ValueError, RuntimeError) as reason:
            _refuse(reason)
        raise


def _refuse(reason: object) -> NoReturn:
    print(f"minimuse: {reason}", file=sys.stderr)
    sys.exit(2)
