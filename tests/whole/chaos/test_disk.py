"""A full disk and a folder that cannot be written: one clear message, nothing else lost."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.common.guard import FORK_SERVER
from tests.support.clone import HERE
from tests.support.references.run import ReferenceRun
from tests.support.repro import TIMEOUT
from tests.whole.chaos.disturbed import finish, forget

pytestmark = pytest.mark.slow

BIG = (
    *("encoder", "embed_text@main", "embed_image@main", "align", "fuse", "neighbors"),
    *("train@main", "predict@main", "blend"),
)
"""Stages that write arrays, tables or weights."""
SHORT = ("train@main",)
BLOCK = 512
"""Bytes, of `ulimit -f`."""
TOO_LARGE = (
    r"^error: [\w/.-]+: "
    r"((the checkpoint )?could not be written|no room for [\d,]+ bytes of covers): "
    r"(.*File too large|\d+ requested and \d+ written; free some space)"
)
"""The second is what numpy tells of it."""
MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]
"""A command in which file systems may be mounted that no other process sees."""


@pytest.fixture
def mounts() -> list[str]:
    if shutil.which(MOUNTS[0]) is None or subprocess.run([*MOUNTS, "true"], check=False).returncode:
        pytest.skip("mounting file systems of one's own (unshare) is not allowed here")
    return MOUNTS


def test_files_that_may_not_grow(run: ReferenceRun, long: bool, tmp_path: Path) -> None:
    """As on a full disk, but for the stage's processes alone: DVC can still tell of it."""
    for stage in BIG if long else SHORT:
        largest = max((run.clone.folder / path).stat().st_size for path in run.outputs[stage])
        programs = limited(tmp_path / stage, largest // 2 // BLOCK)
        assert_fails_clearly(run, stage, [], TOO_LARGE, programs)


def test_a_full_disk(run: ReferenceRun, long: bool, mounts: list[str]) -> None:
    fill = mounted(mounts, "mount -t tmpfs -o size=4k none predictions")
    told = r"^error: predictions/models/main/\w+\.parquet: .*No space left"
    assert_fails_clearly(run, "predict@main", fill, told)
    if long:
        fill = mounted(mounts, "mount -t tmpfs -o size=64k none models")
        assert_fails_clearly(run, "encoder", fill, r"^error: models/encoder: .*No space left")


def test_a_folder_that_is_read_only(run: ReferenceRun, mounts: list[str]) -> None:
    protect = "mount -t tmpfs -o ro none submissions"
    told = r"^error: .*Read-only file system: 'submissions/task1"
    assert_fails_clearly(run, "fuse", mounted(mounts, protect), told)


def limited(folder: Path, blocks: int) -> Path:
    """Programs that start the stages with a limit to the size of files, to be found first."""
    folder.mkdir()
    for name in ("python", "accelerate-launch"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nulimit -f {blocks}\nexec {HERE / name} "$@"\n')
        program.chmod(0o755)
    return folder


def mounted(mounts: list[str], mount: str) -> list[str]:
    """A shell that mounts and becomes what follows."""
    return [*mounts, "sh", "-c", f'{mount} && exec "$@"', "sh"]


def assert_fails_clearly(
    run: ReferenceRun, stage: str, within: list[str], message: str, programs: Path = HERE
) -> None:
    """`stage` fails with one message that matches `message`; nothing else is lost."""
    forget(run, stage)
    path = os.pathsep.join([str(programs), run.clone.environment["PATH"]])
    surroundings = {"PATH": path, FORK_SERVER: ""}  # a fork server would not be in them
    result = subprocess.run(
        [*within, str(HERE / "dvc"), "repro"],
        cwd=run.clone.folder,
        env=run.clone.environment | surroundings,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    told = result.stdout + result.stderr
    assert result.returncode != 0, told
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, told
    assert re.search(message, errors[0]), told
    assert "Traceback" not in told
    run.assert_intact(but=[stage])
    run.assert_nothing_partial()
    finish(run)
