"""A checkpoint on the Hugging Face Hub: its upload, and the model card that says what it is."""

import dataclasses
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse import hub
from minimuse.config import CriticConfig, SampleOptions, VQGANConfig
from minimuse.files import as_given
from minimuse.weights import fingerprint_of, named_arrays

if TYPE_CHECKING:
    from minimuse.muse import Muse

MEANINGS = dict(  # of what `evaluate generation` prints
    overall="share of captions whose every requested fact holds in the picture, as the scene scorer reads it",
    exact="the same, with no object too many, and nothing else on the canvas",
    frechet="Fréchet distance on the scene scorer's features (not FID); lower is better",
    frechet_random="the same on features of fixed random kernels, which were in no loss",
    floor="what true pictures of other captions score",
    fid="FID on Inception's features; lower is better",
    clip="CLIP score; higher is better",
)
BESIDE = ("settings", "weights", "seconds")  # what an evaluation prints beside its numbers
SCENES = (
    "Scenes of emoji on plain backgrounds, drawn by program from [Noto Color Emoji](https://github.com/googlefonts/"
    "noto-emoji) (Apache-2.0), with English captions made by rules (`minimuse.data.scenes`)."
)
FLAGS = dict(flip="also mirrored", crop="crop")  # settings of one's own pictures that a reader may want to know


def push_to_hub(
    muse: "Muse",
    repo_id: str,
    *,
    scores: dict[str, Any] | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = "Upload a minimuse checkpoint",
    license: str | None = None,
) -> str:
    """Upload the checkpoint to the Hugging Face Hub as "user/name", with a model card; returns its address.

    scores      what `python -m minimuse evaluate generation --json` printed for these weights, for the card
    private     True: only for you; for a model that does not exist yet
    token       of the Hub, with permission to write; None: the one of `hf auth login`, or HF_TOKEN
    revision    the branch to upload to, made if it does not exist; None: main
    license     of the weights, for the card: an identifier of the Hub, such as "cc-by-4.0". None: apache-2.0 for a
                model trained on the course's scenes, unknown for one trained on your own pictures

    Folders of this machine in config.json, such as that of your pictures, are cut to their last part.
    ValueError for a name, scores, or a license of another form, or scores of other weights; of the Hub, the errors of
    `Muse.from_pretrained`.
    """
    hub.check_name(repo_id)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        about = without_folders(muse.about)
        muse.save(folder, **about)
        files = sorted(folder.rglob("*.safetensors"))
        prints = {file.relative_to(folder).as_posix(): _print_of(file) for file in files}
        if scores is not None:
            check_scores(muse, scores, prints)
        card = model_card(muse, repo_id, scores, prints=prints, license=license)
        (folder / "README.md").write_text(card, encoding="utf-8")
        return hub.upload(folder, repo_id, private=private, token=token, revision=revision, message=commit_message)


def check_scores(muse: "Muse", scores: dict[str, Any], prints: dict[str, str]) -> None:
    """ValueError unless these are an evaluation's numbers. If it names its weights, they must be files with these
    fingerprints, or those that the Muse was read from."""
    if not isinstance(scores, dict) or not list(_numbers(_result(scores))):
        raise ValueError(
            f"scores are what `evaluate generation --json` prints, a JSON object; this was {scores!r:.100}."
        )
    for name, digits in _weights(scores).items():
        file = Path(name).name
        known = [prints[file]] if file in prints else []
        if known and muse.folder is not None and (muse.folder / file).is_file():
            known.append(_print_of(muse.folder / file))  # the same numbers, perhaps in a file of an earlier format
        if known and digits not in known:
            raise ValueError(
                f"These scores are of other weights: of {name} {digits}, and this checkpoint's {file} is {known[0]}. "
                "Evaluate this checkpoint."
            )


def model_card(
    muse: "Muse",
    repo_id: str,
    scores: dict[str, Any] | None = None,
    *,
    prints: dict[str, str] | None = None,
    license: str | None = None,
) -> str:
    """The README.md of a checkpoint on the Hub: what it is, how to load it, what it was trained on, how it scores.

    scores     what `evaluate generation --json` prints
    prints     the fingerprints of its files, by name (`weights.fingerprint_of`)
    license    see `push_to_hub`
    """
    own = bool(muse.about.get("data"))
    license = license or ("unknown" if own else "apache-2.0")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise ValueError(f"A license is an identifier of the Hub, such as cc-by-4.0; it was {as_given(license)}.")
    superres = "superres" in muse.configs
    side = muse.tokenizer_config("superres" if superres else "base").image_size
    caption = "a caption like those it was trained on" if own else "a cat left of a dog on a blue background"
    header = ["---", f"license: {license}", "library_name: minimuse", "pipeline_tag: text-to-image"]
    header += [] if own else ["language: en"]
    header += ["tags:", *(f"- {tag}" for tag in ("minimuse", "muse", "text-to-image", "masked-transformer", "jax"))]
    parts = [
        "\n".join([*header, "---"]),
        f"# {repo_id.partition('/')[2]}",
        f"A [Muse](https://arxiv.org/abs/2301.00704) that draws pictures of {side} x {side} pixels from captions, made "
        "with minimuse, an open implementation in JAX. It predicts the masked tokens of a picture, given the caption's "
        "vectors from a frozen T5, many at a time.",
        "```python\nimport minimuse as mm\n\n"
        f'muse = mm.Muse.from_pretrained("{repo_id}")\n'
        f'images = muse.generate("{caption}", n=4, seed=0)  # uint8 [4, {side}, {side}, 3]\n```',
        "## Stages",
        _table(("stage", "what it is", "parameters"), _stages(muse)),
        "## Training",
        *_training(muse),
        "## Sampling",
        "What `generate` uses where nothing else is given" + (", by stage:" if superres else ":"),
        _table(*_sampling(muse)),
        "## Scores",
        *_scores(scores),
        "## Limits",
        _limits(own),
    ]
    if prints:
        rows = [(f"`{name}`", f"`{digits}`") for name, digits in prints.items()]
        parts += ["## Files", "The first 12 digits of each file's SHA-256:", _table(("file", "fingerprint"), rows)]
    return "\n\n".join(parts) + "\n"


def without_folders(value: Any) -> Any:
    """The same values with absolute paths cut to their last part: no other machine has these folders."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(item) for item in value]
    if isinstance(value, str) and re.match(r"[/~\\]|[A-Za-z]:[/\\]", value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


# --- parts of the card ----------------------------------------------------------------------------------------------


def _stages(muse: "Muse") -> Iterator[tuple[str, str, str]]:
    """One row per stage, and one for the text encoder."""
    text = "its own, in `text/`" if Path(muse.text_name).is_absolute() else f"`{muse.text_name}`"
    yield "text encoder", f"frozen T5, {text}, vectors of {muse.text.width} numbers", _count(muse.text.model)
    for stage, config in muse.configs.items():
        if isinstance(config, VQGANConfig):
            tokens = config.image_size // config.factor
            picture = f"{config.image_size} x {config.image_size} px"
            what = f"VQGAN: {picture} as {tokens} x {tokens} tokens of {config.codebook_size} codes"
            if stage == "superres_decoder":
                what = f"fine-tuned decoder: {tokens} x {tokens} tokens to {picture}"
        elif isinstance(config, CriticConfig):
            what = f"token critic on the base's features, width {config.width}: which tokens to sample again"
        else:
            grid = " x ".join(map(str, config.grid))
            what = f"transformer of {config.depth} layers and width {config.width}: {grid} tokens"
        yield stage, what, _count(muse.models[stage])


def _training(muse: "Muse") -> Iterator[str]:
    about = without_folders(muse.about)
    there = lambda records: {k: v for k, v in (records or {}).items() if k.removesuffix("_adversarial") in muse.configs}
    trained, before = there(about.get("trained")), there(about.get("trained_before"))
    if data := about.get("data"):
        settings = about.get("pictures") or {}
        more = [f"{FLAGS[name]}: {settings[name]}" for name in FLAGS if name in settings]
        yield f"Captioned pictures, `{data}`" + (f" ({', '.join(more)})." if more else ".")
    elif trained:
        yield SCENES
    else:
        yield "config.json does not say what this checkpoint was trained on."
    if trained:
        names = ("steps", "batch", "learning_rate", "start")
        runs = [(f"{phase}, before", record) for phase in before for record in before[phase]] + [*trained.items()]
        rows = [(phase, *(str(record.get(name, "")) for name in names)) for phase, record in runs]
        yield _table(("stage", "steps", "batch", "learning rate", "started from"), rows)
        yield "All settings are in config.json, as `trained`."
        if others := [stage for stage in muse.configs if stage not in trained]:
            yield f"Taken from another checkpoint, and not trained with these: {', '.join(others)}."
    for phase, record in trained.items():
        if record.get("artwork"):
            yield f"Half of the pictures of {phase} were collages of the drawings in `{record['artwork']}`."


def _sampling(muse: "Muse") -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of a table of the sampling options, a column per stage."""
    stages = [stage for stage in ("base", "superres") if stage in muse.configs]
    options = [dataclasses.asdict(muse.sampling[stage]) for stage in stages]
    rows = [(f"`{name}`", *(str(each[name]) for each in options)) for name in SampleOptions.__annotations__]
    return ("option", *stages), rows


def _scores(scores: dict[str, Any] | None) -> Iterator[str]:
    if scores is None:
        yield "No scores were given. `python -m minimuse evaluate generation --preset USER/NAME` measures them."
        return
    result = _result(scores)
    settings = result.get("settings") or {}
    measured = ", ".join(f"{name} {settings[name]}" for name in ("split", "n", "seed") if name in settings)
    yield "By `python -m minimuse evaluate generation`" + (f" ({measured})." if measured else ".")
    yield _table(("measure", "value"), [(name, f"{value:.4g}") for name, value in _numbers(result)])
    if known := [f"- {name}: {MEANINGS[name]}." for name in MEANINGS if name in result]:
        yield "\n".join(known)
    options = [name for name in SampleOptions.__annotations__ if name in settings]
    if options:
        yield "Drawn with " + ", ".join(f"{name} {settings[name]}" for name in options) + "."
    if weights := _weights(scores):
        yield "Weights that were measured: " + ", ".join(f"`{name}` {digits}" for name, digits in weights.items()) + "."
    else:
        yield "The measurement does not say which weights it used."


def _limits(own: bool) -> str:
    if own:
        return (
            "It draws what its training pictures show, and follows captions only as far as theirs go. It repeats the "
            "biases of these pictures, may reproduce some of them, and nothing filters what it draws. It was made for "
            "study."
        )
    return (
        "It draws only the emoji, colours, numbers and places of its training scenes, and reads only English captions "
        "like theirs; other words are ignored or misread. Counts and positions are sometimes wrong. It was made for "
        "study."
    )


# --- small parts ----------------------------------------------------------------------------------------------------


def _result(scores: dict[str, Any]) -> dict[str, Any]:
    """What the evaluation printed; a stored file (data/results) holds it beside its command."""
    return scores["result"] if isinstance(scores.get("result"), dict) else scores


def _weights(scores: dict[str, Any]) -> dict[str, str]:
    return scores.get("weights") or _result(scores).get("weights") or {}


def _numbers(result: dict[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of an evaluation by name; those of one group have its name in front."""
    for name, value in result.items():
        if not before and name in BESIDE:
            continue
        if isinstance(value, dict):
            yield from _numbers(value, f"{before}{name}: ")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{before}{name}", value


def _print_of(file: Path) -> str:
    return next(iter(fingerprint_of(file).values()))


def _count(model: Any) -> str:
    """How many numbers a module holds, such as "2.9 M"."""
    return f"{sum(int(np.prod(leaf.shape)) for leaf in named_arrays(model).values()) / 1e6:,.2f} M"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
