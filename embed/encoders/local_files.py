"""Weights on this disk: DVC has to see them, or new ones would leave the old vectors in place.

Those that an installed Python package brings are named `package:<module>/<path>`. DVC does not see
these; as those of the hub they are told apart by a version, which pip knows.
"""

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from pipeline.common.files import InputError

DVCIGNORE = Path(".dvcignore")
NEVER_WATCHED = [".dvc", ".git", ".hg"]
PACKAGE = "package:"


def place_of(stage: str, key: str, named: str) -> str:
    """Where `named`, what `<stage>.<key>` names, is to be read: of a package the path on this disk.

    Raises InputError if the package is not installed, or has no such file or folder.
    """
    if not named.startswith(PACKAGE):
        return named
    module, _, inside = named.removeprefix(PACKAGE).partition("/")
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or spec.origin is None:
        raise InputError(
            f"params.yaml: {stage}.{key} is {named!r}, but no Python package {module!r} is "
            "installed; install it by pip, or name a file or folder of your own"
        )
    path = Path(spec.origin).parent / inside
    if not path.exists():
        raise InputError(
            f"params.yaml: {stage}.{key} is {named!r}, but the installed package {module} holds no "
            f"{inside or 'folder'}; expected package:<module>/<path of a file or folder in it>"
        )
    return str(path)


def check_watched(stage: str, key: str, named: str, local: str) -> None:
    """`named` is what `<stage>.<key>` names, `local` what DVC watches for the stage.

    Raises InputError if `named` is on this disk and new files in it would go unseen. What is not on
    this disk is no concern of DVC's.
    """
    path = Path(named)
    if named.startswith(PACKAGE) or not path.exists():
        return
    if not path.resolve().is_relative_to(Path(local).resolve()):
        kind = "folder" if path.is_dir() else "file"
        raise InputError(
            f"params.yaml: {stage}.{key} names the local {kind} {named}, which DVC watches only "
            f"where {stage}.local names it, and that is {local!r}: set {stage}.local to {named}"
        )
    for unseen, reason in blind_spots(path):
        raise InputError(
            f"params.yaml: {stage}.{key} names {named}, but DVC does not see new weights in "
            f"{unseen}: {reason}; copy the files to a plain folder and name that in {stage}.{key} "
            f"and {stage}.local"
        )


def blind_spots(path: Path) -> Iterator[tuple[Path, str]]:
    """What DVC passes over in a file or folder that it is told to watch, and why."""
    if pattern := ignored(path):
        yield path, f"{DVCIGNORE} or DVC itself leaves out {pattern!r}"
    for folder, folders, files in os.walk(path):
        for name in folders:
            if (Path(folder) / name).is_symlink():
                yield Path(folder) / name, "it is a link to a folder, which DVC does not follow"
        for name in (*folders, *files):
            if pattern := ignored(Path(folder) / name):
                yield Path(folder) / name, f"{DVCIGNORE} leaves out {pattern!r}"


def ignored(path: Path) -> str | None:
    """The pattern by which DVC leaves `path` out; it has none for what is outside the repository.

    Of .dvcignore's language names and globs are known, each for a whole name in the path.
    """
    absolute = Path.cwd() / Path(os.path.normpath(path))  # links in it stay, as for DVC
    if not absolute.is_relative_to(Path.cwd()):
        return None
    lines = DVCIGNORE.read_text(encoding="utf-8").split() if DVCIGNORE.is_file() else []
    parts = absolute.relative_to(Path.cwd()).parts
    patterns = [*NEVER_WATCHED, *(line.strip("/") for line in lines)]
    return next((p for p in patterns if any(fnmatch(part, p) for part in parts)), None)
