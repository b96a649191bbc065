"""How long the first image takes: `python -m benchmarks.first_image`.

Each number is of a fresh process: importing minimuse, then `minimuse generate` of four pictures with an empty and with
a filled compilation cache. Prints one JSON object: seconds and their ratio.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CAPTION = "a cat left of a dog on a blue background"


def seconds(*command: str, **environment: str) -> float:
    """Seconds that Python takes for a command, in a process of its own."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=os.environ | environment)
    return round(time.perf_counter() - begun, 2)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        draw = ["-m", "minimuse", "generate", CAPTION, "--n", "4", "--out", str(Path(folder) / "cats.png")]
        cache = dict(JAX_COMPILATION_CACHE_DIR=str(Path(folder) / "cache"))
        result = {"import": seconds("-c", "import minimuse"), "cold": seconds(*draw, **cache)}
        result["warm"] = min(seconds(*draw, **cache) for _ in range(3))
    result["cold / warm"] = round(result["cold"] / result["warm"], 2)
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
