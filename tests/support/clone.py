"""A clone of the repository's last commit, in which commands run as a user would run them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from ruamel.yaml import YAML

from sample.world import WorldConfig, build
from sample.write import write_raw

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.base_prefix) / f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
HERE = Path(sys.executable).parent
"""The programs of the virtual environment that the tests run in."""
FEW_EPOCHS = {
    "encoder": {"epochs": 2},
    "train": {"epochs": 2, "checkpoint_minutes": 0},  # one after each batch, since some are killed
    "judge": {"epochs": 1},
}
SMALL_ITEMS = 120
NOT_KEPT = ("MAKE", "PYTHONDONTWRITEBYTECODE")
"""Of the environment: without the second only what is imported is compiled, and once."""

Finished = subprocess.CompletedProcess[str]


class Clone:
    def __init__(self, folder: Path, programs: Path) -> None:
        """`programs` are the `bin` of a virtual environment, which may have to be made yet."""
        self.folder = folder
        foreign = (str(HERE), str(Path(sys.prefix) / "bin"))
        path = [part for part in os.environ["PATH"].split(os.pathsep) if part not in foreign]
        kept = {name: os.environ[name] for name in os.environ if not name.startswith(NOT_KEPT)}
        self.environment = kept | {
            "PATH": os.pathsep.join([str(programs), *path]),
            "PYTHON": str(PYTHON),
            "PYTHONPATH": str(folder),  # the tests' environment may know another copy
            "OMP_WAIT_POLICY": "passive",  # other tests may run beside
        }
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)

    def copied(self, folder: Path) -> "Clone":
        """With all that is in it now."""
        other = copy(self)
        other.folder = shutil.copytree(self.folder, folder, symlinks=True)
        other.environment = self.environment | {"PYTHONPATH": str(folder)}
        return other

    def __call__(self, *command: str, status: int = 0) -> Finished:
        """Run a command as a user with the environment active would."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == status, f"{result.stdout}\n{result.stderr}"
        return result

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def metrics(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.read(f"metrics/{name}.json")))

    def change(self, section: str, **values: object) -> None:
        change(self.folder / "params.yaml", {section: values})

    def changed_stages(self) -> set[str]:
        status = json.loads(self("dvc", "status", "--json").stdout)
        return {stage for stage, changes in status.items() if changes}

    def prediction(self) -> bytes:
        with ZipFile(self.folder / "submissions/task2/prediction.zip") as archive:
            return archive.read("prediction.csv")

    def recorded(self) -> dict[str, dict[str, str]]:
        """Stage to its outputs, file by file, path to MD5, by dvc.lock and DVC's cache."""
        lock = self.folder / "dvc.lock"
        stages = YAML(typ="safe").load(lock)["stages"] if lock.exists() else {}
        return {
            stage: {
                path: md5
                for out in entry["outs"]
                for path, md5 in self.files_of(out["path"], out["md5"]).items()
            }
            for stage, entry in stages.items()
        }

    def files_of(self, path: str, md5: str) -> dict[str, str]:
        """Of an output: of a folder DVC's cache holds the list under the MD5 that the lock has."""
        if not md5.endswith(".dir"):
            return {path: md5}
        listing = self.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        entries = json.loads(listing.read_text())
        return {f"{path}/{entry['relpath']}": entry["md5"] for entry in entries}

    def found(self, path: str) -> str | None:
        """The MD5 of a file, if it is there."""
        file = self.folder / path
        return hashlib.md5(file.read_bytes()).hexdigest() if file.is_file() else None


def change(params: Path, sections: Mapping[str, Mapping[str, object]]) -> None:
    yaml = YAML()
    content: Any = yaml.load(params)
    for section, values in sections.items():
        content[section].update(values)
    yaml.dump(content, params)


def write_small_source(folder: Path) -> None:
    """Another world than the sample, small enough for seconds, in the raw layout."""
    config = replace(WorldConfig(), items=SMALL_ITEMS, users=60, train_slates=4)
    write_raw(build(config, seed=11), folder)


def write_small_params(path: Path) -> None:
    """The settings with few epochs."""
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    change(path, FEW_EPOCHS)
