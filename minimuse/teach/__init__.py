"""The course's tools: figures and explorers for notebooks (figures.py, charts.py, display.py, views.py, explorers.py),
exercises that check themselves (checking.py, checks/), marks for whole notebooks (grading.py, which needs cells.py,
wire.py, sandbox.py and answering.py), and the environment doctor (doctor.py).

    from minimuse.teach import check
    check("ex06.cosine_rate", cosine_rate)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minimuse.teach.checking import check, grade

__all__ = ["check", "grade"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported when first used: the doctor needs only the standard library
        from minimuse.teach import checking

        return getattr(checking, name)
    raise AttributeError(f"minimuse.teach has no {name!r}; it has check and grade.")
