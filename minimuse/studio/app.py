"""`python -m minimuse app`: starts the page of page.py on this machine only."""

import importlib.util
import os
import tempfile
import time
from typing import Annotated, Literal

import tyro

from minimuse.files import in_short

HOST = "127.0.0.1"  # only this machine can reach it
INSTALL = "pip install 'minimuse[app]' (in a clone: .venv/bin/pip install -e '.[app]')"


def app(
    *,
    checkpoint: str = "tiny",
    style: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "",
    style_strength: float = 1.0,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    port: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    browser: bool = True,
) -> None:
    """Open a page to draw and edit on, in your browser. It runs on this machine, and needs no network.

    Args:
        checkpoint: Name of a shipped checkpoint, a checkpoint folder, or user/name on the Hugging Face Hub.
        style: Draw in a style of the checkpoint, which `train style` wrote to this folder.
        style_strength: Of --style: 0 is the checkpoint without it, 1 the style as trained.
        dtype: What transformers compute in, see `generate --help`.
        port: Port of the page; if not given, the first free one from 7860 on.
        browser: Open it in the browser.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"--port must be from 1 to 65535; it was {port}.")
    if importlib.util.find_spec("gradio") is None:
        raise ImportError(f"The app needs gradio, which is not installed; install it with {INSTALL}.")
    with tempfile.TemporaryDirectory(prefix="minimuse-") as folder:  # deleted at the end, also by Ctrl-C
        be_private(folder)
        from minimuse.muse import Muse
        from minimuse.studio.desk import Desk

        desk = Desk(Muse.from_pretrained(checkpoint, dtype=dtype), folder, checkpoint, dtype, style, style_strength)
        from minimuse.studio.page import build, launch

        page = build(desk)
        try:
            address = launch(page, port, browser)
            print(f"minimuse draws at {address} (only on this machine; Ctrl-C stops it)", flush=True)
            while True:
                time.sleep(3600)
        except OSError as error:
            where = "at a port from 7860 on" if port is None else f"at port {port}, which may be in use"
            raise ValueError(f"The page cannot start {where}; choose another --port ({in_short(error)}).") from None
        finally:
            page.close(verbose=False)


def be_private(folder: str) -> None:
    """Before gradio is imported: no statistics, no check for new versions, no proxy before this machine, and its copies
    of pictures in this folder."""
    os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder, "page")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for name in ("NO_PROXY", "no_proxy"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*known, HOST, "localhost"]))
