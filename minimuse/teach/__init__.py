"""What teaches rather than draws: exercises that check themselves (checking.py, checks/), marks for whole notebooks
(grading.py), and the environment doctor (doctor.py).

    from minimuse.teach import check
    check("ex06.cosine_rate", cosine_rate)
"""


def __getattr__(name: str):
    if name in ("check", "grade"):  # when first used: the doctor needs nothing but Python's own library
        from minimuse.teach import checking

        return getattr(checking, name)
    raise AttributeError(f"minimuse.teach has no {name!r}; it has check and grade.")
