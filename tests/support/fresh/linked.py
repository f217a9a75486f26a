"""A virtual environment as if pip had just filled it: no download, and nothing is unpacked.

It has the packages that pyproject.toml asks for and what those ask for, no other: their files are
links to those of the environment that the tests run in. Its last step, the project itself and
faiss, is left to `make`.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LEFT_TO_MAKE = ("faiss",)
"""Packages whose names begin so."""


def make(folder: Path, python: Path, project: Path) -> None:
    """`folder` as a sound environment, of which `install` would only renew what is in it."""
    command = [str(python), "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    wanted = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package in closure(["pip", *wanted["dependencies"]]):
        link_files(package, folder)
    (folder / ".installed-linked").touch()


def closure(requirements: list[str]) -> list[Distribution]:
    """The installed packages that meet `requirements`, and theirs."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    open_ends = [Requirement(text) for text in requirements]
    while open_ends:
        wanted = open_ends.pop()
        name = canonicalize_name(wanted.name)
        if name.startswith(LEFT_TO_MAKE):
            continue
        found.setdefault(name, distribution(name))
        for extra in {"", *wanted.extras} - {extra for each, extra in seen if each == name}:
            seen.add((name, extra))
            open_ends += asked_for(found[name], extra)
    return list(found.values())


def asked_for(package: Distribution, extra: str) -> Iterator[Requirement]:
    for text in package.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def link_files(package: Distribution, folder: Path) -> None:
    """Its modules, with what Python compiled of them, its data and its programs."""
    here = Path(sysconfig.get_path("purelib"))
    there = folder / here.relative_to(sys.prefix)
    for file in map(str, package.files or ()):
        source, target = (os.path.normpath(f"{place}/{file}") for place in (here, there))
        if target.startswith(f"{folder}/bin/"):
            copy_program(Path(source), Path(target))
            continue
        if file.endswith(".py"):
            link(cache_from_source(source), cache_from_source(target))
        link(source, target)


def link(source: str, target: str) -> None:
    """If it is there; a copy on another disk."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass  # two packages list it
    except FileNotFoundError:
        if Path(source).exists():
            Path(target).parent.mkdir(parents=True)
            link(source, target)
    except OSError:
        shutil.copy2(source, target)


def copy_program(source: Path, target: Path) -> None:
    """The Python that it names is the one beside it."""
    if source.is_file():
        own, other = (f"{path.parent}/".encode() for path in (source, target))
        content = source.read_bytes()
        assert own in content or not content.startswith(b"#!"), f"{source} is of another place"
        target.write_bytes(content.replace(own, other, 1))
        shutil.copymode(source, target)
