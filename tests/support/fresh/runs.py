"""A newcomer's clone and virtual environment, and what is run there while other tests run.

In the long form `make` installs every package from the network, and runs a small source before the
sample; in the short form it finds an environment that has them, and installs the project and faiss.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.clone import PYTHON, Clone
from tests.support.fresh import linked


@dataclass(frozen=True)
class SmallRun:
    """What was there after the first run, of a small source."""

    params: bytes
    """`params.yaml`, and what its content was before."""
    params_before: bytes
    prediction: bytes
    metrics: dict[str, float]
    md5: dict[str, str | None]
    """Of every output, by its path."""


class FreshRuns:
    """`make submission` of the sample; in the long form of a small source first."""

    def __init__(self, folder: Path, source: Path, params: Path, *, from_nothing: bool) -> None:
        """`from_nothing` is the long form: there is no environment to begin with."""
        self.clone = Clone(folder, folder / ".venv/bin")
        self.options = (f"SOURCE={source}/", f"PARAMS={params}")
        self.runs = ThreadPoolExecutor(max_workers=1)  # one after the other
        first = self.run_small if from_nothing else self.link_environment
        self._small: Future[SmallRun | None] = self.runs.submit(first)
        self._report: Future[str] = self.runs.submit(self.run_sample)

    def small(self) -> SmallRun:
        """Of the long form."""
        small = self._small.result()
        assert small is not None
        return small

    def report(self) -> str:
        """What `make submission` of the sample printed."""
        self._small.result()
        return self._report.result()

    def stop(self) -> None:
        self.runs.shutdown(cancel_futures=True)

    def make_submission(self, *options: str) -> str:
        return self.clone("make", "submission", *options).stdout

    def run_sample(self) -> str:
        self.clone("git", "checkout", "--quiet", "params.yaml")
        return self.make_submission()

    def link_environment(self) -> None:
        linked.make(self.clone.folder / ".venv", PYTHON, self.clone.folder)

    def run_small(self) -> SmallRun:
        self.make_submission(*self.options)
        paths = [path for outputs in self.clone.recorded().values() for path in outputs]
        return SmallRun(
            params=self.clone.read("params.yaml"),
            params_before=self.clone.read("params.yaml.before-small"),
            prediction=self.clone.prediction(),
            metrics=self.clone.metrics("valid/all"),
            md5={path: self.clone.found(path) for path in paths},
        )
