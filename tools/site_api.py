"""The pages of the API reference, one a module, from signatures and docstrings. Nothing is imported."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = ("minimuse.teach.checks",)  # what marks the exercises
ROOMS = {
    "": "The paper's parts",
    "beyond": "What came after Muse",
    "data": "Data",
    "evaluate": "Evaluation",
    "train": "Training",
    "teach": "Teaching",
}
LONGEST = 160  # characters of a constant that is shown with its value


def dotted(name: str) -> str:
    """minimuse.train.step of minimuse/train/step.py."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def as_markdown(docstring: str | None) -> str:
    """A docstring as Markdown: what looks like HTML or a formula there is neither."""
    parts = re.split(r"(``.+?``|`[^`]+`)", docstring or "", flags=re.DOTALL)
    parts[::2] = [re.sub(r"[$<*]", lambda match: "\\" + match[0], part) for part in parts[::2]]
    return "".join(parts)


def entry(kind: str, name: str, body: str, level: int, options: str = "") -> str:
    """A directive of the Python domain."""
    fence = ":" * (5 - level)
    return f"{fence}{{py:{kind}}} {name}\n{options}\n{body}\n{fence}\n"


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool = False) -> str:
    """(a: int, *, b=2) -> c, without self."""
    arguments = node.args
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    if method and not static:
        first = arguments.posonlyargs or arguments.args
        del first[:1]
    text = f"({ast.unparse(arguments)})"
    return text + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def comment(lines: list[str], node: ast.stmt) -> str:
    """The comment at the end of a statement's last line."""
    line = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset :].decode().strip()
    return line.lstrip("# ") if line.startswith("#") else ""


def assigned(node: ast.stmt) -> str | None:
    """The public name that a statement assigns."""
    target = node.target if isinstance(node, ast.AnnAssign) else None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    public = isinstance(target, ast.Name) and not target.id.startswith("_")
    return target.id if public and isinstance(target, ast.Name) else None


def members(body: list[ast.stmt], lines: list[str], level: int = 0) -> Iterator[str]:
    """The entries of a module or, one level deeper, of a class."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            not node.name.startswith("_") or (node.name == "__call__" and level)
        ):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if any(decorator.endswith((".setter", "overload")) for decorator in decorators):
                continue
            kind = "method" if level else "function"
            if "property" in decorators or "functools.cached_property" in decorators:
                yield entry("property", node.name, as_markdown(ast.get_docstring(node)), level)
                continue
            options = "".join(f":{name}:\n" for name in ("classmethod", "staticmethod") if name in decorators)
            about = as_markdown(ast.get_docstring(node))
            yield entry(kind, node.name + signature(node, bool(level)), about, level, options)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            about = as_markdown(ast.get_docstring(node))
            inside = "\n".join(members(node.body, lines, level + 1))
            made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
            shown = signature(made[0], True).partition(" -> ")[0] if made else ""
            yield entry("class", node.name + shown, f"{about}\n\n{inside}", level)
        elif (name := assigned(node)) is not None and isinstance(node, ast.Assign | ast.AnnAssign):
            value = ast.unparse(node.value) if node.value else ""
            if not level and not (name.isupper() or isinstance(node, ast.AnnAssign)):
                continue
            options = f":type: {json.dumps(ast.unparse(node.annotation))}\n" if isinstance(node, ast.AnnAssign) else ""
            options += f":value: {json.dumps(value)}\n" if value and len(value) <= LONGEST and "\n" not in value else ""
            yield entry("attribute" if level else "data", name, as_markdown(comment(lines, node)), level, options)


def page(source: str, name: str) -> str:
    """The page of a module."""
    tree = ast.parse(source)
    about = as_markdown(ast.get_docstring(tree))
    head = f"# {name}\n\n```{{py:module}} {name}\n```\n\n{about}\n\n"
    return head + "\n".join(members(tree.body, source.splitlines()))


def write_pages(package: Path, out: Path) -> list[str]:
    """Write the page of every module of a package, and an index by rooms; returns the modules."""
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = {}
    for path in sorted(package.rglob("*.py")):
        name = dotted(path.relative_to(package.parent).as_posix())
        source = path.read_text(encoding="utf-8")
        if (
            any(f"{name}.".startswith(f"{left}.") for left in LEFT_OUT)
            or name.endswith("__main__")
            or not source.strip()
        ):
            continue
        text = page(source, name)
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        found[name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    index = ["# API reference", "", "Every module, with signatures and docstrings. Symbols are those of the"]
    index += ["[glossary](../docs/glossary.md).", ""]
    for room, title in ROOMS.items():
        inside = [name for name in found if room_of(name) == room]
        if not inside:
            continue
        index += [f"## {title}", "", "| module | what it holds |", "|---|---|"]
        index += [
            f"| [{name}]({name}.md) | {as_markdown(found[name]).replace('|', chr(92) + '|')} |" for name in inside
        ]
        index += ["", "```{toctree}", ":hidden:", "", *inside, "```", ""]
    (out / "index.md").write_text("\n".join(index), encoding="utf-8")
    return list(found)


def room_of(name: str) -> str:
    """data of minimuse.data.scenes and of minimuse.data; nothing for the files on top."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""
