"""Which file of the project imports which: read from the syntax trees, so that nothing runs."""

import ast
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STAGE_PACKAGES = ("ctr", "embed", "gallery", "pipeline", "sample", "serving")
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
    return files_of(names_in(ast.walk(parsed(file))))


def imported_at_once(file: str) -> tuple[frozenset[str], set[str]]:
    """Files of the project, and packages of others, that are loaded as soon as `file` is."""
    names = names_in(iter(parsed(file).body))
    return files_of(names), {name.split(".")[0] for name in names} - {
        *CODE,
        *sys.stdlib_module_names,
    }


def packages_at_once(file: str) -> set[str]:
    """Packages of others that `file` loads, and what it imports, and so on."""
    loaded = reached(file, lambda each: imported_at_once(each)[0])
    return {package for each in loaded for package in imported_at_once(each)[1]}


def reached(file: str, following: Callable[[str], Collection[str]]) -> set[str]:
    """`file`, those that follow on it, those that follow on these, and so on."""
    found: set[str] = set()
    todo = {file}
    while todo:
        current = todo.pop()
        found.add(current)
        todo |= set(following(current)) - found
    return found


@cache
def parsed(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def names_in(nodes: Iterator[ast.AST]) -> set[str]:
    """What the imports among `nodes` name: modules, and what is taken from them."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of(names: set[str]) -> frozenset[str]:
    """Files of the project among modules of any kind."""
    roots = (*CODE, "tests")
    paths = {f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] in roots}
    return frozenset(path for path in paths if (ROOT / path).is_file())


def imported_with_theirs(file: str) -> set[str]:
    """`file`, what it imports, what that imports, and so on; without the late import."""
    return reached(file, lambda each: {path for path in imported(each) if (each, path) != LATE})


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
