"""Where a run's log goes beside log.jsonl: TensorBoard, Weights & Biases or Trackio, if they are installed."""

import importlib
from pathlib import Path
from typing import Any, Protocol

PACKAGES = dict(tensorboard="tensorboardX", wandb="wandb", trackio="trackio")


class Reporter(Protocol):
    """What takes the rows of a log."""

    def write(self, step: int, row: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class Nothing:
    """Takes the rows and does nothing."""

    def write(self, step: int, row: dict[str, float]) -> None:
        del step, row

    def close(self) -> None:
        pass


class TensorBoard:
    """Event files in out/tensorboard: `tensorboard --logdir runs` shows them."""

    def __init__(self, package: Any, out: Path):
        self.writer = package.SummaryWriter(str(out / "tensorboard"))

    def write(self, step: int, row: dict[str, float]) -> None:
        for name, value in row.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Tracker:
    """Weights & Biases, and Trackio, which has the same functions: the project minimuse, a run of the stage's name."""

    def __init__(self, package: Any, out: Path):
        self.package = package
        package.init(project="minimuse", name=f"{out.parent.name}/{out.name}")

    def write(self, step: int, row: dict[str, float]) -> None:
        self.package.log(row, step=step)

    def close(self) -> None:
        self.package.finish()


def package_of(name: str) -> Any:
    """The package that RunConfig.report needs; ValueError for another name, ImportError if it is not installed."""
    if name not in PACKAGES:
        raise ValueError(f"report is {', '.join(PACKAGES)}, or empty for none; it was {name!r}.")
    try:
        return importlib.import_module(PACKAGES[name])
    except ImportError:
        raise ImportError(f"--report {name} needs the package {PACKAGES[name]}: pip install {PACKAGES[name]}") from None


def open_reporter(name: str, out: Path) -> Reporter:
    """What takes the rows of the stage that is trained in `out`; for the name "" nothing."""
    if not name:
        return Nothing()
    return (TensorBoard if name == "tensorboard" else Tracker)(package_of(name), out)
