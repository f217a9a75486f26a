"""Training that is interrupted, in the process of the tests."""

import functools
import os
import signal
from pathlib import Path

import pytest
import torch

from ctr import train
from ctr.engine.checkpoint import Checkpoints
from pipeline.common import paths
from pipeline.settings.params import Params
from tests.support.worlds.tiny_world import contents, forget_accelerator, tiny_params

METRICS = paths.MAIN.metrics
OUTPUTS = [paths.MAIN.weights, paths.MAIN.config, paths.MAIN.curve, METRICS]
SCRATCH = Path("scratch/train@main")
PARAMS = tiny_params(epochs=3, dropout=0.3)
"""Six batches an epoch, which do not take the minutes until it is time for a checkpoint."""
EVERY_BATCH = tiny_params(epochs=3, dropout=0.3, checkpoint_minutes=0)
"""With the fingerprint of PARAMS, whose run can go on from these checkpoints."""


class KilledError(BaseException):
    """What SIGKILL is to a process, but for the process."""


def trained(params: Params = PARAMS) -> dict[Path, bytes]:
    """The outputs of a run in what would be a process of its own."""
    forget_accelerator()
    torch.manual_seed(os.getpid())  # a new process has other numbers here
    for path in OUTPUTS:
        path.unlink(missing_ok=True)
    train.main(params.train)
    return contents(OUTPUTS)


@functools.cache
def undisturbed_bytes() -> dict[Path, bytes]:
    """The world is the same in every test."""
    return trained()


def interrupted(
    monkeypatch: pytest.MonkeyPatch, batches: int, kind: type[BaseException], params: Params
) -> None:
    """A run that ends after so many batches."""
    original = Checkpoints.after_batch
    seen: list[None] = []

    def after_batch(self: Checkpoints) -> None:
        seen.append(None)
        if len(seen) == batches:
            if kind is KilledError:
                raise KilledError
            signal.raise_signal(signal.SIGTERM)
        original(self)

    with monkeypatch.context() as patched, pytest.raises(kind):
        patched.setattr(Checkpoints, "after_batch", after_batch)
        trained(params)
    assert not [path for path in OUTPUTS if path.exists()]


def kept() -> list[str]:
    """The names of the checkpoints that are there."""
    return sorted(path.name for path in SCRATCH.glob("*/seed-*/*"))
