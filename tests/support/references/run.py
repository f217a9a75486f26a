"""A pipeline that has run undisturbed: the bytes that every disturbed run must end with."""

import time
from collections.abc import Iterable
from copy import copy
from pathlib import Path

from pipeline.common.guard import FORK_SERVER
from tests.support.clone import Clone
from tests.support.repro import Repro


class ReferenceRun:
    """`dvc repro` in a clone whose settings are made, and what it left there."""

    def __init__(self, clone: Clone, logs: Path) -> None:
        """The run's seconds include what DVC does after a stage."""
        self.clone, self.logs = clone, logs
        logs.mkdir()
        (clone.folder / "dvc.lock").unlink()  # of another run
        repro = self.repro()
        starts: list[float] = []

        def another_began() -> bool:
            if len(repro.stages()) > len(starts):
                starts.append(time.monotonic())
            return False

        repro.wait_until(another_began)
        assert repro.wait() == 0, repro.log.read_text()
        ends = [*starts[1:], time.monotonic()]
        spans = (end - start for start, end in zip(starts, ends, strict=True))
        self.seconds = dict(zip(repro.stages(), spans, strict=True))
        """Of each stage, in the order they ran."""
        self.outputs = clone.recorded()
        """Stage to path to MD5."""
        assert self.outputs.keys() == self.seconds.keys()
        self.assert_intact()

    def copied(self, folder: Path) -> "ReferenceRun":
        """Another run with the same results, to be disturbed by itself."""
        other = copy(self)
        other.clone, other.logs = self.clone.copied(folder / "clone"), folder / "logs"
        other.logs.mkdir()
        return other

    def repro(self, *, forked: bool = True) -> Repro:
        """If not `forked`, its stages are processes of its own."""
        clone = copy(self.clone)
        if not forked:
            clone.environment = clone.environment | {FORK_SERVER: ""}
        return Repro(clone, self.logs / f"{len(list(self.logs.iterdir()))}.log")

    def assert_intact(self, but: Iterable[str] = ()) -> None:
        """Every output is there with the reference's bytes.

        Those of the stages `but` may be missing, but not half-written under their final names.
        """
        for stage, outputs in self.outputs.items():
            for path, md5 in outputs.items():
                allowed = {md5, None} if stage in but else {md5}
                assert self.clone.found(path) in allowed, f"{stage}: {path}"

    def assert_nothing_partial(self) -> None:
        files = [self.clone.folder / path for outs in self.outputs.values() for path in outs]
        folders = {folder for file in files for folder in (file.parent, file.parent.parent)}
        partial = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        assert not [path for path in partial if path.name.endswith(".partial")]
