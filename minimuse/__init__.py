"""minimuse: Muse (arXiv 2301.00704) in JAX, small enough to read and to train on two cores.

    import minimuse as mm
    muse = mm.Muse.from_pretrained("tiny")
    images = muse.generate("a cat left of a dog on a blue background", n=4, seed=0)   # uint8 [4, 128, 128, 3]

Names are imported when they are first used, so that `import minimuse` itself is quick.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minimuse.data.scenes import Item, Scene
    from minimuse.muse import Generation, Muse
    from minimuse.presets import PRESETS, get_preset
    from minimuse.t5 import TextEncoder

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "Generation",
    "Item",
    "Muse",
    "Scene",
    "TextEncoder",
    "enable_compilation_cache",
    "get_preset",
]

_ROOMS = {
    "Muse": "muse",
    "Generation": "muse",
    "PRESETS": "presets",
    "get_preset": "presets",
    "Scene": "data.scenes",
    "Item": "data.scenes",
    "TextEncoder": "t5",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(importlib.import_module(f"minimuse.{_ROOMS[name]}"), name)
    raise AttributeError(f"minimuse has no {name!r}; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted(__all__)


def enable_compilation_cache(folder: str | os.PathLike | None = None) -> str:
    """Keep compiled programs on disk, so that a second start is fast; returns the folder.

    The folder is the argument, or else $JAX_COMPILATION_CACHE_DIR, else ~/.cache/minimuse/jax; a user without a home
    folder has none, and "" is returned. Its files hold programs: use one that only you can write to. A damaged one is
    replaced when it is found.
    """
    import jax

    from minimuse.processes import repair_cache

    default = os.environ.get("JAX_COMPILATION_CACHE_DIR") or "~/.cache/minimuse/jax"
    folder = os.path.expanduser(os.fspath(folder or default))
    if folder.startswith("~"):  # this system does not know the user
        return ""
    repair_cache(folder)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # even small ones: there are dozens
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
