"""Which file of the project imports which: read from the syntax trees, so that nothing runs."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGE_PACKAGES = ("ctr", "embed", "gallery", "pipeline", "sample")
CODE = (*STAGE_PACKAGES, "benchmarks")

LATE = ("pipeline/common/stage.py", "pipeline/settings/params.py")
"""The one import that no stage depends on: all settings, of which each has its own section's file
among its dependencies."""


def python_files(*folders: str) -> Iterator[str]:
    """Paths from the repository's root, without the packages' own `__init__.py`."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name != "__init__.py":
                yield str(path.relative_to(ROOT))


@cache
def imported(file: str) -> frozenset[str]:
    """Files of the project that `file` imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = {f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] in CODE}
    return frozenset(path for path in paths if (ROOT / path).is_file())


def imported_with_theirs(file: str) -> set[str]:
    """`file`, what it imports, what that imports, and so on; without the late import."""
    found: set[str] = set()
    todo = {file}
    while todo:
        current = todo.pop()
        found.add(current)
        todo |= {path for path in imported(current) if (current, path) != LATE} - found
    return found


def folder_of(file: str) -> str:
    return str(Path(file).parent)


def arrows(*folders: str) -> set[tuple[str, str]]:
    """Pairs of folders of code whose first imports from the second; without the late import."""
    return {
        (folder_of(file), folder_of(other))
        for file in python_files(*folders)
        for other in imported(file)
        if folder_of(file) != folder_of(other) and (file, other) != LATE
    }
