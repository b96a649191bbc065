"""Imports run one way: a file may import what stands above it in ORDER, and nothing below it. Imports for types do not
count."""

import ast
from pathlib import Path

import minimuse

ORDER = (
    "config presets",
    "files processes hub layers weights",
    "t5 vqgan masking transformer",
    "beyond",
    "decoding",
    "data",
    "prompting stepwise canvas editing mask_free sharing",
    "muse",
    "evaluate",
    "train",
    "teach",
    "studio",
    "cli",
    "__init__ __main__",
)
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms.split()}
FOLDER = Path(minimuse.__file__).parent


def imported(tree: ast.AST) -> set[str]:
    """The rooms of minimuse that a file imports, not counting `if TYPE_CHECKING:`."""
    rooms, todo = set(), [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "minimuse":
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("minimuse.")}
    return rooms & FLOOR.keys()


def test_imports_run_one_way():
    wrong = []
    for path in sorted(FOLDER.rglob("*.py")):
        room = path.relative_to(FOLDER).with_suffix("").parts[0]
        for other in imported(ast.parse(path.read_text(encoding="utf-8"))) - {room}:
            if FLOOR[other] > FLOOR[room]:
                wrong.append(f"{path.relative_to(FOLDER)} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_place_and_no_file_is_long():
    rooms = {path.stem for path in FOLDER.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms == set(FLOOR)
    lengths = {str(path.relative_to(FOLDER)): path.read_text("utf-8").count("\n") for path in FOLDER.rglob("*.py")}
    assert not {name: lines for name, lines in lengths.items() if lines > 400}


def test_the_order_is_seen_where_it_is_broken():
    broken = "from minimuse.train.loop import fit\nif TYPE_CHECKING:\n    from minimuse.muse import Muse\n"
    assert imported(ast.parse(broken)) == {"train"}
    assert imported(ast.parse("def f():\n    from minimuse import cli, __version__")) == {"cli"}
