"""What of a source DVC sees: `ingest` must read nothing else, or its results go stale unnoticed.

DVC hashes the files below a folder that is a dependency. It follows links to files, and the source
may be a link itself, but it does not enter a folder below it that is a link (`os.walk`), nor does
it see what a pattern of `.dvcignore` hides.
"""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from pipeline.common.files import InputError


def refuse_linked_folder(folder: Path) -> None:
    """InputError where `folder`, which lies below the source, is a link to a folder."""
    if folder.is_symlink() and folder.is_dir():
        link, target = shlex.quote(str(folder)), shlex.quote(str(folder.resolve()))
        raise InputError(
            f"{folder}: is a link to a folder, which DVC does not follow: a change behind it would "
            "go unnoticed. Put a folder of links to its files in its place: "
            f"`rm {link} && cp -as {target} {link}`; or move the folder itself there"
        )


def refuse_ignored(source: Path, paths: Iterable[Path]) -> None:
    """InputError for the first of `paths`, files in `source`, that DVC is told to ignore.

    Patterns of `.dvcignore` hold below the root of the repository alone, where the stages run.
    """
    root, absolute = Path.cwd(), os.path.abspath(source)  # noqa: PTH100 - links stay, `..` goes
    if not (root / ".dvc").is_dir() or not Path(absolute).is_relative_to(root):
        return
    from dvc.fs import localfs  # takes a second to import, which other sources do not pay
    from dvc.repo import Repo

    seen = {os.path.relpath(path, absolute) for path in Repo().dvcignore.find(localfs, absolute)}
    for path in paths:
        if os.path.relpath(path, source) not in seen:
            raise InputError(
                f"{path}: DVC ignores it (.dvcignore, or a DVC repository of its own), so that a "
                "change of it would go unnoticed; move the source elsewhere, for instance out of "
                "the repository"
            )
