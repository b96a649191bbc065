"""nbgrader for this folder: `cd exercises`, then `nbgrader generate_assignment ex06_variable_masking` and so on.

README.md here goes through it from handing out to marks. Activate the environment first (`pip install -e '.[teach]'`):
nbgrader starts other programs of it by name.
"""

from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    IncludeHeaderFooter,
    LockCells,
    SaveCells,
)

c = get_config()  # noqa: F821


class NamedStubs(ClearSolutions):
    """In place of a solution stands a line that raises, with the name of the function that is to be written."""

    def preprocess_cell(self, cell, resources, cell_index):
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        self.code_stub = dict(python=f'raise NotImplementedError("{name}")')
        return super().preprocess_cell(cell, resources, cell_index)


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
c.ExecutePreprocessor.timeout = 300  # seconds a cell; a function that never returns earns nothing
c.IgnorePattern.pattern = ".*"  # what a cell writes to stderr costs no marks
