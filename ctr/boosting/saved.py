"""The state of boosted trees under way: killed at any moment, training goes on from the last one.

A file in `scratch/<stage>/<fingerprint>/`, replaced as a whole: a digest, then JSON.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import PartialState

from ctr.boosting.forest import Forest
from ctr.boosting.library import CPU, threads
from ctr.engine.identity import begin, finish, identity, tell_going_on
from pipeline.common import scratch
from pipeline.common.files import replacing, versions
from pipeline.common.launch import arithmetic
from pipeline.common.stage import StoppedError, stop_requests
from pipeline.settings.ctr.train import Train

FILE = "trees.json"

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run is."""

    text: str = ""
    """Of all its trees, in LightGBM's own format, when it was saved; "" before."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """An entry for each time that valid was scored."""
    exhausted: bool = False
    """Whether no tree could be added."""

    @property
    def scored(self) -> int:
        """Trees when valid was scored last."""
        return int(self.curve[-1]["epoch"]) if self.curve else 0

    @property
    def best(self) -> int:
        """Trees when valid's AUC was the best, for the first time."""
        if not self.curve:
            return 0
        return int(max(self.curve, key=lambda entry: entry["auc"])["epoch"])


class Saved:
    """The last state of one run; see `saving`."""

    def __init__(self, path: Path, minutes: float, stop: list[int]) -> None:
        """`stop` has the signals that asked the run to stop."""
        self.path, self.seconds, self.stop = path, 60 * minutes, stop
        self.saved_at = time.monotonic()

    def restored(self) -> Progress:
        """Of the state that is there; of a new run, if there is none that is whole."""
        if not self.path.is_file():
            return Progress()
        digest, _, content = self.path.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            log.warning("%s is not used: it is damaged", self.path)
            return Progress()
        tell_going_on(self.path, self.path.parent)
        return Progress(**json.loads(content))

    def after_tree(self, progress: Progress, forest: Forest, *, last: bool) -> None:
        """Save if it is time to, or after the last one, since the outputs follow.

        Or if the run shall stop: then `StoppedError` is raised.
        """
        stops = list(self.stop)
        if last or stops or time.monotonic() - self.saved_at >= self.seconds:
            progress.text = forest.text()
            self._write(progress)
            self.saved_at = time.monotonic()
        if stops:
            raise StoppedError(f"the state is saved in {self.path}", stops[0])

    def _write(self, progress: Progress) -> None:
        content = json.dumps(asdict(progress)).encode()
        digest = hashlib.sha256(content).hexdigest().encode()
        with replacing(self.path) as partial:
            partial.write_bytes(digest + b"\n" + content)


@contextmanager
def saving(
    stage: str, settings: Train, inputs: Sequence[Path], state: PartialState
) -> Iterator[Saved]:
    """In the main process: the state of a stage's run, removed as checkpoints are.

    What the run computes depends on `settings`, the files `inputs`, code, versions and machine.
    Inside the block SIGTERM and SIGINT save before the run ends.
    """
    folder = scratch.SCRATCH / stage
    depends_on = {
        **identity(settings, inputs, state),
        **arithmetic(CPU),
        "threads": threads(),
        "processes": 1,
        "versions": versions("lightgbm", "numpy"),
    }
    fingerprint = begin(folder, depends_on)
    with stop_requests() as stop:
        yield Saved(folder / fingerprint / FILE, settings.checkpoint_minutes, stop)
        finish(folder, fingerprint)
