"""nbgrader for this folder: `cd exercises`, then `nbgrader generate_assignment ex06_variable_masking` and so on.

README.md here goes through it from handing out to marks. Activate the environment first (`pip install -e '.[teach]'`):
nbgrader starts other programs of it by name.
"""

import os
import re
import sys
from pathlib import Path

from nbformat.v4 import new_code_cell, new_output
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    IncludeHeaderFooter,
    LockCells,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
    SaveCells,
)
from traitlets import Float

from minimuse.teach import cells, checking, grading

c = get_config()  # noqa: F821
try:
    further = checking.hidden_checks(Path(os.environ[checking.HIDDEN])) if checking.HIDDEN in os.environ else {}
except ValueError as error:
    print(f"nbgrader: {error}", file=sys.stderr)
    sys.exit(2)


class NamedStubs(ClearSolutions):
    """In place of a solution stands a line that raises, with the name of the function that is to be written."""

    def preprocess_cell(self, cell, resources, cell_index):
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        self.code_stub = dict(python=f'raise NotImplementedError("{name}")')
        return super().preprocess_cell(cell, resources, cell_index)


class FreshMarks(NbGraderPreprocessor):
    """The cells of marks are made again, whatever a student did to them; all others are plain cells."""

    def preprocess(self, nb, resources):
        mark = re.compile(r'\s*check\("ex\d\d\.\w+", *\w+\)\s*')
        nb.cells = [cell for cell in nb.cells if not mark.fullmatch(cell.source)]
        for cell in nb.cells:
            cell.metadata.pop("nbgrader", None)
            cell.source = cells.printable(cell.source)  # half a surrogate cannot be written
        for name, exercise in checking.exercises(resources["nbgrader"]["notebook"]).items():
            about = dict(grade_id=f"{name}_marks", grade=True, locked=True, solution=False, task=False)
            about |= dict(points=exercise.points, schema_version=3, cell_type="code")
            last = [i for i, cell in enumerate(nb.cells) if re.search(rf"^[ \t]*def {name}\(", cell.source, re.M)]
            nb.cells.insert(last[-1] + 1 if last else len(nb.cells), new_code_cell(metadata=dict(nbgrader=about)))
        return nb, resources


class Marks(NbGraderPreprocessor):
    """In place of running the notebook: the marks of `python -m minimuse grade`."""

    seconds = Float(300.0, help="time for an answer").tag(config=True)

    def preprocess(self, nb, resources):
        about = resources["nbgrader"]
        sources, found = [], {}
        for cell in nb.cells:
            if cell.metadata.get("nbgrader", {}).get("grade"):
                found[cell.metadata.nbgrader.grade_id] = cell
            elif cell.cell_type == "code":
                sources.append(cell.source)
        name = f"{about['student']}, {about['notebook']}"
        course = Path(resources["metadata"]["path"]).resolve().parents[2]
        covered = [str(course / name) for name in ("submitted", "autograded", "feedback", "gradebook.db")]
        covered += [os.path.abspath(os.environ[checking.HIDDEN])] if checking.HIDDEN in os.environ else []
        marks, slips = grading.grade_cells(sources, name, self.seconds, further, covered, about["notebook"])
        for slip in slips:
            self.log.error("A further check failed with an error of its own, at %s", slip)
        for mark in marks:
            said = "✓ right." if mark.marks else mark.message
            found[f"{mark.exercise.partition('.')[2]}_marks"].outputs = [
                new_output("stream", name="stdout", text=f"{said}\n"),
                new_output("execute_result", data={"text/plain": str(mark.marks)}),
            ]
        return nb, resources


c.CourseDirectory.course_id = "minimuse"
c.CourseDirectory.source_directory = "source"
c.CourseDirectory.release_directory = "release"
c.CourseDirectory.solution_directory = "solutions"
c.GenerateAssignment.preprocessors = [
    IncludeHeaderFooter,
    LockCells,
    NamedStubs,
    ClearOutput,
    CheckCellMetadata,
    ComputeChecksums,
    SaveCells,
    ClearHiddenTests,
    ClearMarkScheme,
    ComputeChecksums,
    CheckCellMetadata,
]
c.Autograde.sanitize_preprocessors = [FreshMarks, ClearOutput, OverwriteKernelspec, OverwriteCells, CheckCellMetadata]
c.Autograde.autograde_preprocessors = [Marks, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata]
c.ExecutePreprocessor.timeout = 300  # seconds a cell, where solutions are run
c.IgnorePattern.pattern = ".*"  # a cell may write to stderr
