"""Folders that are known to be whole: a seal in them holds a digest of every other file."""

import json
import os
from pathlib import Path

from pipeline.common.files import read_json
from pipeline.common.scratch import file_sha256

SEAL = "seal.json"


def seal(folder: Path, run: str) -> None:
    """Seal the files of `folder` as those of `run`, and wait until all of it is on the disk."""
    files = {file.name: file_sha256(file) for file in sorted(folder.iterdir())}
    (folder / SEAL).write_text(json.dumps({"run": run, "files": files}), encoding="utf-8")
    for path in [*folder.iterdir(), folder]:
        flush(path)


def fault(folder: Path, run: str) -> str | None:
    """Why `folder` is not what was sealed as that of `run`."""
    try:
        content = read_json(folder / SEAL)
        sealed_run, files = content["run"], dict(content["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no readable {SEAL}, so it was not written to its end"
    if sealed_run != run:
        return "it belongs to a run with other settings, data, code or versions"
    for name, digest in files.items():
        file = folder / name
        if not file.is_file() or file_sha256(file) != digest:
            return f"{name} is missing or damaged"
    return None


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
