"""What a submission was made with: versions, hardware, revision, and digests of the data."""

import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from pipeline.common import paths
from pipeline.common.scratch import file_sha256

MODEL = (paths.MAIN.weights, paths.MAIN.trees)
"""One of them is there."""
DATA = (
    paths.ITEMS,
    paths.COVERS,
    paths.TAGS,
    paths.STATS,
    *(paths.split_path(split) for split in paths.SPLITS),
    paths.ITEM,
    paths.ITEM_INFO,
    paths.NEIGHBORS,
    *MODEL,
    paths.MAIN.config,
    paths.BLEND_METRICS,
    paths.predictions_path("test"),
)
"""What the submission came from, from the source on."""


def environment() -> dict[str, Any]:
    """Names, versions and digests alone: no environment variable, user, path or remote."""
    return {
        "git": git(),
        "python": platform.python_version(),
        "packages": packages(),
        "hardware": hardware(),
        "sha256": {
            str(path): file_sha256(path) for path in DATA if path not in MODEL or path.is_file()
        },
    }


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    return {found.metadata["Name"]: found.version for found in distributions()}


def hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
    }


def cpu_name() -> str:
    """As Linux names it; elsewhere what Python knows, perhaps nothing."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def git() -> dict[str, Any] | None:
    """The revision, and the files that differ from it or are new; None outside a repository.

    But for dvc.lock, which every run writes, and what git ignores. None in place of the files where
    git cannot tell.
    """
    revision = said_by_git("rev-parse", "HEAD")
    if revision is None:
        return None
    status = said_by_git("status", "--porcelain", "--no-renames", "--", ".", ":!dvc.lock")
    changed = None if status is None else [line[len("XY ") :] for line in status.splitlines()]
    return {"revision": revision, "changed": changed}


def said_by_git(*arguments: str) -> str | None:
    """None where git is missing or refuses."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.rstrip()
