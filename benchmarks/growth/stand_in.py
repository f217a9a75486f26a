"""A folder in which the stages run as in the repository, by the same code, on other settings."""

import shlex
import sys
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.common.paths import PARAMS

ROOT = Path(__file__).parents[2]
CODE = ("ctr", "embed", "gallery", "microlens_1m", "pipeline", "sample")


@dataclass(frozen=True)
class Stage:
    name: str
    """As DVC has it, `train@main`."""
    command: list[str]
    outputs: list[Path]

    @property
    def bytes(self) -> int:
        """Of its outputs on disk."""
        files = (file for out in self.outputs for file in (out, *out.rglob("*")) if file.is_file())
        return sum(file.stat().st_size for file in files)


def set_up(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make `folder` a place to run the stages in with `settings`; its other contents stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*CODE, "dvc.yaml"):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / name)
    YAML().dump(dict(settings), folder / PARAMS)
    if not (folder / ".dvc").is_dir():
        Repo.init(str(folder), no_scm=True).close()


def stages(folder: Path) -> list[Stage]:
    """All of dvc.yaml under the folder's settings, in its order, in which they can run."""
    with chdir(folder), Repo() as repo:
        return [
            Stage(
                stage.addressing,
                [sys.executable if word == "python" else word for word in shlex.split(stage.cmd)],
                [folder / out.def_path for out in stage.outs],
            )
            for stage in repo.index.stages
        ]
