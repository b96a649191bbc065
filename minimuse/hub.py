"""Folders of models from the Hugging Face Hub and to it, by huggingface_hub; what goes wrong there is one sentence."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from minimuse.files import in_short

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
FILES = (".json", ".jsonl", ".safetensors", ".csv", ".parquet", ".zip", ".tar", ".png", ".jpg", ".txt", ".md", ".py")
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def is_name(name: object) -> bool:
    """Whether this may be a model of the Hub, "user/name": neither a path of another form nor a file."""
    return bool(NAME.fullmatch(str(name))) and not str(name).lower().endswith(FILES)


def check_name(name: str) -> None:
    """ValueError if no model of the Hub can have this name."""
    if not is_name(name):
        raise ValueError(f"A model of the Hugging Face Hub is called user/name; this was {str(name)!r}.")


def download(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """The local folder of a model of the Hub, with those of the files that it has; nothing else is downloaded.

    files       names, or patterns with *
    revision    a branch, a tag or a commit; None: the branch main

    What was downloaded before is used where the Hub cannot be reached. FileNotFoundError if the Hub lacks the model or
    the revision, or must not be asked; PermissionError without access; ConnectionError if it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _explained(name, revision, f"There is no folder {name}, and "):
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))


def upload(
    folder: Path, name: str, *, private: bool | None, token: str | None, revision: str | None, message: str
) -> str:
    """Add the files of a folder to a model of the Hub, in one commit; returns the model's address.

    A model and a branch that do not exist are made. `private` is for a model that does not exist yet: ValueError if
    it is True and the model is public. Other errors are those of `download`.
    """
    from huggingface_hub import HfApi

    check_name(name)
    api = HfApi(token=token)
    with _explained(name, revision, "Nothing was uploaded: "):
        address = str(api.create_repo(name, private=private, exist_ok=True))
        public = private and not api.model_info(name).private
        if revision is not None and not public:
            api.create_branch(name, branch=revision, exist_ok=True)
        if not public:
            api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message=message)
    if public:
        raise ValueError(
            f"Nothing was uploaded: {name} exists and is public; make it private at {address}/settings, or choose "
            "another name."
        )
    return address


@contextlib.contextmanager
def _explained(name: str, revision: str | None, start: str) -> Iterator[None]:
    """Within it, whatever huggingface_hub raises becomes one sentence that begins with `start`."""
    try:
        yield
    except Exception as error:
        explained = _explain(error, name, revision, f"{start}the Hugging Face Hub")
        if explained is error:
            raise
        raise explained from None


def _explain(error: Exception, name: str, revision: str | None, start: str) -> Exception:
    """The error to raise in the place of one of huggingface_hub's; the same if it is of this machine, such as a full
    disk, or of a name that the Hub does not take."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the Hub was not asked; the rest is that nothing was downloaded before
    if isinstance(error, errors.GatedRepoError):
        terms = f"accept them at https://huggingface.co/{name}, and {LOGIN}."
        return PermissionError(f"{start} gives {name} only to those who accepted its terms; {terms}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(f"{start} has no model {name}, or a private one; check the name, or {LOGIN}.")
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{start} has no revision {revision!r} of {name}; name a branch, a tag or a commit.")
    if isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        return FileNotFoundError(f"{start} may not be asked for {name}, since HF_HUB_OFFLINE is set.")
    if isinstance(error, errors.HfHubHTTPError):
        if error.response is not None and error.response.status_code in (401, 403):
            return PermissionError(f"{start} gives no access to {name} ({in_short(error)}); {LOGIN}.")
        return ConnectionError(f"{start} refused ({in_short(error)}); try again later.")
    if isinstance(error, (OSError, ValueError)):
        return error
    return ConnectionError(f"{start} cannot be reached ({in_short(error)}).")  # an error of its HTTP client
