"""nbgrader, end to end: `python tests/check_exercises.py` in an environment with the extra `teach`; `.ci/run` runs it.

Each exercise notebook gets a separate course folder. Release and solutions are rebuilt and must equal those of the
repository, and the release must run at least to its first stub. Then four students submit ex05 and ex06, with --all
every notebook: solutions; the release unchanged; solutions except for a wrong answer and a function that returns True
and writes to stderr; and solutions that write to stderr. They are autograded and exported, and must get all marks,
none, those of the remaining answers, and all. For ex06, a fifth of the class of tests/teach/handed_in.py submits as
well, with --all all of it; they must get the marks of `python -m minimuse grade`.
"""

import csv
import importlib
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import nbformat  # noqa: E402
from nbclient import NotebookClient  # noqa: E402

import exercises as tool  # noqa: E402
from minimuse.teach import checking, sandbox  # noqa: E402
from tests.teach import handed_in  # noqa: E402

ALL = "--all" in sys.argv
SUBMITTED = ("ex05", "ex06")  # marking is the same for all notebooks, and tests/teach marks all solutions
NOISE = "    import sys, warnings\n    print('noise', file=sys.stderr)\n    warnings.warn('noise')\n"
NONSENSE = "def {name}(*args, **kwargs):\n    import sys\n    print('noise', file=sys.stderr)\n    return True\n"


def answers(name: str, source: list[str]) -> dict[str, list[str]]:
    """What each student writes into the cells of their answers; `source` are the solutions."""
    notebook = name.partition("_")[0]
    first, second = list(checking.exercises(notebook))[:2]
    mistake = next(iter(importlib.import_module(f"tests.wrong_answers.{notebook}").WRONG[first]))
    wrong = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.wrong_answers.{notebook} import WRONG\n"
        f"{first} = WRONG[{first!r}][{mistake!r}][0]"
    )
    noisy = [cell.replace("    # BEGIN SOLUTION\n", NOISE, 1) for cell in source]
    return dict(solver=source, stub=[], wrong=[wrong, NONSENSE.format(name=second), *source[2:]], noisy=noisy)


def hand_in(course: Path, name: str) -> dict[str, float]:
    """Write all students' notebooks; return the marks that they must get."""
    notebook = name.partition("_")[0]
    read = lambda part: json.loads((course / part / name / f"{notebook}.ipynb").read_text(encoding="utf-8"))
    is_answer = lambda cell: cell["metadata"].get("nbgrader", {}).get("solution")
    source = [tool.text_of(cell) for cell in read("source")["cells"] if is_answer(cell)]
    points = [exercise.points for exercise in checking.exercises(notebook).values()]
    for student, written in answers(name, source).items():
        released = read("release")
        for cell, text in zip(filter(is_answer, released["cells"]), written):
            cell["source"] = text
        path = course / "submitted" / student / name / f"{notebook}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(released), encoding="utf-8")
    return dict(solver=sum(points), stub=0, wrong=sum(points[2:]), noisy=sum(points))


def first_error(course: Path, name: str) -> str:
    """The first error of the released notebook that is not due to a stub: it must run at least to its first stub, and
    later cells may fail only because of stubs. Empty if all cells run."""
    notebook = name.partition("_")[0]
    content = nbformat.read(course / "release" / name / f"{notebook}.ipynb", as_version=4)
    NotebookClient(content, timeout=300, allow_errors=True, kernel_name="python3").execute()
    stubs, seen = set(checking.exercises(notebook)), False
    for cell in content["cells"]:
        seen |= bool(cell["metadata"].get("nbgrader", {}).get("solution"))
        for output in cell.get("outputs", []):
            stub = output.get("ename") == "NotImplementedError" and output.get("evalue") in stubs
            if output["output_type"] == "error" and not (seen and stub):
                return f"{name}: the release fails with {output['ename']}: {output['evalue']}"
    return "" if seen else f"{name}: the release has no stub"


def class_of(course: Path, name: str) -> dict[str, float]:
    """Hand in the notebooks of a class; return the marks that they must get."""
    there = handed_in.notebooks()
    del there["with a BOM"]  # nbgrader cannot read it
    if not sandbox.isolated():
        del there["kills its parent"]
    if not ALL:
        there = dict([*there.items()][::5])
    for student, (content, _) in there.items():
        path = course / "submitted" / student.replace(" ", "_") / name / f"{name.partition('_')[0]}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return {student.replace(" ", "_"): marks for student, (_, marks) in there.items()}


def loop(name: str) -> str:
    """Build, submit, autograde and export one notebook; what is wrong, or an empty string."""
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        tool.make([name], course)
        if differing := tool.differing_files(course):
            return f"{name}: {', '.join(path.name for path in differing)} differs from the committed file"
        if said := first_error(course, name):
            return said
        if not ALL and not name.startswith(SUBMITTED):
            return ""
        expected = hand_in(course, name)
        if name.startswith("ex06"):
            expected |= class_of(course, name)
            with open(course / "nbgrader_config.py", "a", encoding="utf-8") as file:
                file.write("c.Marks.seconds = 30\n")
        tool.nbgrader(course, "autograde", name, "--create")
        tool.nbgrader(course, "export", "--to", str(course / "grades.csv"))
        with open(course / "grades.csv", encoding="utf-8") as file:
            found = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    wrong = {student: found.get(student) for student in expected if found.get(student) != expected[student]}
    print(f"{name}: {len(found)} students, {len(found) - len(wrong)} with the right marks", flush=True)
    return f"{name}: the marks of these are wrong: {wrong}" if wrong else ""


def main() -> None:
    names = [name for name in sys.argv[1:] if name != "--all"] or sorted(
        path.parent.name for path in tool.FOLDER.glob("source/*/*.ipynb")
    )
    with ThreadPoolExecutor(2) as pool:  # each is mostly a process of its own
        wrong = [said for said in pool.map(loop, names) if said]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(names)} exercise notebooks: rebuilt without a difference, run, submitted, graded and exported.")


if __name__ == "__main__":
    main()
