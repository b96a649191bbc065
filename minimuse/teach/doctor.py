"""Check this machine and report what is wrong and what to do: `python -m minimuse doctor`.

It needs only the standard library and never raises, because it is used when the rest does not work. JAX runs in a
process of its own, because a JAX with mismatched parts can end the whole process.
"""

import importlib
import importlib.metadata as metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 2**30
ON_COLAB = "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules


@dataclass(frozen=True)
class Finding:
    """One entry of the report: what was checked, the value found, its level, and what to do."""

    name: str
    value: str
    level: str = "ok"  # "ok", "warn" or "fail"
    advice: str = ""


def release(version: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version: "0.10.2rc1" is (0, 10, 2)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def installed(name: str) -> str | None:
    """The version of an installed distribution, or None; nothing is imported."""
    try:
        return metadata.version(name)
    except Exception:  # not installed, or with broken metadata
        return None


def bounds() -> dict[str, str]:
    """The lower bound of each package that minimuse needs, from its metadata, or else from pyproject.toml."""
    try:
        lines = [line for line in metadata.requires("minimuse") or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        lines = []
    pyproject = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if not lines and pyproject.is_file():
        import tomllib  # new in Python 3.11, and the doctor must also report on older versions

        lines = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    found = (re.match(r"([\w.-]+)\s*>=\s*([\d.]+)", line) for line in lines)
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}  # as metadata spell them


def _python() -> Iterable[Finding]:
    version = platform.python_version()
    if release(version) >= (3, 11):
        yield Finding("Python", version)
    else:
        yield Finding("Python", version, "fail", "Use Python 3.11 or newer; `make lab PYTHON=python3.12` chooses one.")


def _packages() -> Iterable[Finding]:
    lowest = bounds()
    install = "Restart the runtime" if ON_COLAB else "Run `make lab` again, or `pip install -e '.[notebooks,test]'`"
    for name in dict.fromkeys(("jax", "jaxlib", *lowest)):
        version, bound = installed(name), lowest.get(name, "0")
        if version is None:
            yield Finding(name, "missing", "fail", f"{install}; it installs {name}.")
        elif release(version) < release(bound):
            advice = f"minimuse needs {name} {bound} or newer. {install}."
            yield Finding(name, version, "fail", advice)
        else:
            yield Finding(name, version)


def _pairs() -> Iterable[Finding]:
    """Packages of JAX that are released together and must have the same version."""
    jax = installed("jax")
    again = (
        "Runtime > Disconnect and delete runtime, and start again without upgrading jax."
        if ON_COLAB
        else "Reinstall all parts together: `make clean`, `make lab`; for a GPU `pip install -e '.[gpu]'`."
    )
    plugins = ["jaxlib"] + [f"jax-cuda{n}-{part}" for n in (12, 13) for part in ("plugin", "pjrt")]
    for name in plugins if jax else []:
        version = installed(name)
        if jax and version and release(version)[:3] != release(jax)[:3]:
            advice = f"{name} and jax must have the same version, or JAX may crash or use only the CPU. {again}"
            yield Finding(f"jax and {name}", f"{jax} and {version}", "fail", advice)


def probe() -> dict[str, Any]:
    """What JAX sees, in another process: {"backend", "devices"}, or {"error"}."""
    code = (
        "import json, jax; print(json.dumps(dict(backend=jax.default_backend(), "
        "devices=[f'{d.platform}: {d.device_kind}' for d in jax.devices()])))"
    )
    if "jax" in sys.modules:  # this process may hold the TPU, and only one process can
        try:
            import jax

            devices = [f"{d.platform}: {d.device_kind}" for d in jax.devices()]
            return dict(backend=jax.default_backend(), devices=devices)
        except Exception as error:
            return dict(error=f"{type(error).__name__}: {error}")
    try:
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
        if result.returncode == 0:
            return json.loads(result.stdout.splitlines()[-1])
        words = result.stderr.strip().splitlines()
        return dict(error=words[-1] if words else f"it ended with exit code {result.returncode}")
    except Exception as error:
        return dict(error=f"{type(error).__name__}: {error}")


def nvidia_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, independent of JAX."""
    if Path("/dev/nvidia0").exists():
        return True
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        return "GPU" in subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return False


def tpu() -> bool:
    """Whether this machine has a TPU, independent of JAX."""
    return any(os.environ.get(name) for name in ("TPU_NAME", "COLAB_TPU_ADDR")) or Path("/dev/accel0").exists()


def tpu_library(jax_requires: Iterable[str] | None = None) -> str:
    """A sentence if libtpu is missing or not the version that jax requires. Used only if JAX sees no TPU, because
    Colab's versions differ."""
    if jax_requires is None:
        try:
            jax_requires = metadata.requires("jax") or []
        except metadata.PackageNotFoundError:
            jax_requires = []
    version = installed("libtpu")
    required = [found[1].rstrip(".") for line in jax_requires if (found := re.match(r"libtpu==([\d.]+)", line))]
    if version is None:
        return " libtpu is missing."
    if required and release(version)[: len(release(required[0]))] != release(required[0]):
        return f" libtpu is {version}, but this jax requires {required[0]}."
    return ""


def _devices() -> Iterable[Finding]:
    if installed("jax") is None:
        return
    seen = probe()
    if "error" in seen:
        advice = "JAX does not start. If its parts differ, see below; otherwise reinstall it: `make clean`, `make lab`."
        if names := os.environ.get("JAX_PLATFORMS"):
            advice = f"JAX_PLATFORMS is {names}. Unset it, or set it to cpu, if there is no device of this kind."
        yield Finding("devices", seen["error"], "fail", advice)
        return
    devices = seen["devices"]
    kinds = ", ".join(f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(devices))
    yield Finding("devices", f"{kinds} (default: {seen['backend']})")
    if seen["backend"] != "cpu":
        return
    forced = os.environ.get("JAX_PLATFORMS")
    if forced:
        change = f"JAX_PLATFORMS is {forced}, which hides it: unset this variable."
    elif ON_COLAB:
        change = "Runtime > Disconnect and delete runtime; then do not upgrade jax."
    else:
        change = ""
    if nvidia_gpu():
        own = "`pip install -e '.[gpu]'` (driver 580 or newer) or '.[gpu12]' (driver 525 or newer)."
        yield Finding("GPU", "this machine has an NVIDIA GPU, but JAX shows only a CPU", "warn", change or own)
    if tpu():
        own = "`pip install -e '.[tpu]'`, and stop other programs that use the TPU."
        value = "this machine has a TPU, but JAX shows only a CPU." + tpu_library()
        yield Finding("TPU", value, "warn", change or own)


def _settings() -> Iterable[Finding]:
    """Variables that change how JAX computes; minimuse works with most of them."""
    unusable = dict(
        JAX_NUMPY_DTYPE_PROMOTION=("strict",),
        JAX_NUMPY_RANK_PROMOTION=("raise",),
        JAX_TRANSFER_GUARD=("disallow", "disallow_explicit"),
    )
    for name, values in unusable.items():
        if (value := os.environ.get(name, "").lower()) in values:
            yield Finding(name, value, "fail", f"minimuse cannot compute with it: unset {name}.")
    if os.environ.get("JAX_ENABLE_X64", "").lower() in ("1", "true", "yes", "on", "y", "t"):
        yield Finding("JAX_ENABLE_X64", "set", "warn", "Drawing works; for training, unset it.")


def _memory() -> Iterable[Finding]:
    what = "free"
    try:
        free = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
        size = int(free[1]) * 1024 if free else None
    except OSError:
        size = None
    if size is None:
        try:
            size, what = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "in total"
        except (ValueError, OSError, AttributeError):
            yield Finding("memory", "unknown")
            return
    little = size < 2 * GIB
    advice = "Chapters need about 2 GB: close other programs, or the kernels of other notebooks." if little else ""
    yield Finding("memory", f"{size / GIB:.1f} GB {what}", "warn" if little else "ok", advice)


def _disk() -> Iterable[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    little = free < GIB
    advice = "Training writes checkpoints: free some space, or choose another disk with --out." if little else ""
    yield Finding("disk", f"{free / GIB:.1f} GB free", "warn" if little else "ok", advice)


def _cores() -> Iterable[Finding]:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    advice = "The times in the chapters are for two cores; expect twice as long." if count < 2 else ""
    yield Finding("cores", str(count), "ok" if count > 1 else "warn", advice)


def unpacks(path: Path) -> bool:
    """Whether a file of the compilation cache is whole, as far as this Python can say."""
    try:
        stored = path.read_bytes()
        if stored[:4] == b"\x28\xb5\x2f\xfd":  # packed by zstd; what packed it can unpack it
            zstandard: Any = importlib.import_module("zstandard")

            return bool(zstandard.ZstdDecompressor().decompress(stored))
        return bool(zlib.decompress(stored))
    except ImportError:
        return True
    except Exception:  # cut, empty or changed; each library raises its own
        return False


def _cache() -> Iterable[Finding]:
    default = os.path.expanduser("~/.cache/minimuse/jax")
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or default)
    if str(folder).startswith("~"):
        advice = "This system knows no home folder of yours; set JAX_COMPILATION_CACHE_DIR to a folder of your own."
        yield Finding("compilation cache", "none", "warn", advice)
        return
    if not folder.exists():
        yield Finding("compilation cache", "still empty; the first run fills it")
        return
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    value = f"{size / 2**20:.0f} MB in {folder}"
    if not os.access(folder, os.W_OK):
        advice = (
            "Set JAX_COMPILATION_CACHE_DIR to a folder that you can write to; until then every start compiles again."
        )
        yield Finding("compilation cache", value, "warn", advice)
    elif os.name == "posix" and folder.stat().st_mode & 0o002:
        advice = f"Other users can write programs there that you would run: chmod o-w {folder}"
        yield Finding("compilation cache", value, "warn", advice)
    elif damaged := sum(not unpacks(path) for path in folder.glob("*-cache")):
        advice = f"The next run that needs them compiles them again; or delete the folder {folder}."
        yield Finding("compilation cache", f"{value}; {damaged} of its programs are damaged", "warn", advice)
    else:
        yield Finding("compilation cache", value)


def _data() -> Iterable[Finding]:
    from minimuse.config import data_dir

    try:
        folder = data_dir()
    except FileNotFoundError as error:
        yield Finding("data", "missing", "fail", str(error))
        return
    yield Finding("data", str(folder))
    needed = {
        "text encoder": ("t5-scenes", ["config.json", "model.safetensors", "tokenizer.json"], "text"),
        "weights": ("checkpoints/tiny", ["config.json", "tokenizer.safetensors", "base.safetensors"], "all"),
        "scene scorer": ("checkpoints/scorer", ["config.json", "scorer.safetensors"], "scorer"),
    }
    for name, (part, files, stage) in needed.items():
        missing = [file for file in files if not (folder / part / file).is_file()]
        if missing:
            advice = f"Clone the whole repository again, or train: `python -m minimuse train {stage}`."
            yield Finding(name, f"{part} lacks {', '.join(missing)}", "fail", advice)
        else:
            size = sum((folder / part / file).stat().st_size for file in files)
            yield Finding(name, f"{part}, {size / 2**20:.1f} MB")


CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    *(_python, _packages, _devices, _settings, _pairs),
    *(_memory, _disk, _cores, _cache, _data),
)


def diagnose() -> list[Finding]:
    """Run all checks. A check that raises becomes a finding; nothing is raised."""
    findings = []
    for check in CHECKS:
        try:
            findings += check()
        except Exception as error:
            name, value = check.__name__.strip("_"), f"could not be checked: {type(error).__name__}: {error}"
            findings.append(Finding(name, value, "warn", "Please report this."))
    return findings


def report(findings: list[Finding]) -> str:
    """The findings as text: one line per finding with its level in words, advice below it, and a summary at the end."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:4}  {finding.name:{width}}  {finding.value}")
        if finding.advice:
            lines.append(f"{'':{width + 8}}-> {finding.advice}")
    levels = [finding.level for finding in findings]
    fails, warns = levels.count("fail"), levels.count("warn")
    if fails or warns:
        lines.append(f"\n{fails} to fix (fail), {warns} to know about (warn).")
    else:
        lines.append("\nEverything is in order.")
    return "\n".join(lines)


def main() -> None:
    """Print the report; the exit code is 1 if something must be fixed."""
    findings = diagnose()
    print(report(findings))
    sys.exit(1 if any(finding.level == "fail" for finding in findings) else 0)


if __name__ == "__main__":
    main()
