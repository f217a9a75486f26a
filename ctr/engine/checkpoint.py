"""Checkpoints of a training run: killed at any moment, it goes on from the last one.

A checkpoint is a folder in `scratch/<stage>/<fingerprint>/seed-<seed>/`, which one rename puts
there when all of it is on the disk; the one before stays until then. Model, optimiser, gradient
scaler and random generators are saved and restored by Accelerate, which reads its files with
torch's restricted unpickler. What else a run needs is `Progress`: safetensors and JSON. `seal.json`
holds a digest of every file and the fingerprint of the run; what does not fit it is not read.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ctr.engine.identity import begin, finish, identity, tell_going_on
from ctr.engine.sealed import fault, flush, seal
from pipeline.common import scratch
from pipeline.common.files import InputError, read_json
from pipeline.common.launch import gathered, refuse_separate_storage, told_by_main
from pipeline.common.stage import StoppedError, stop_requests
from pipeline.settings.ctr.training import Training

ASK = 16
"""Batches after which several processes agree on whether to save; a single one asks each time."""
STATE, TENSORS = "progress.json", "progress.safetensors"

log = logging.getLogger(__name__)
logging.getLogger("accelerate").setLevel(logging.WARNING)  # it tells of every file it saves


@dataclass
class Progress:
    """How far a run is."""

    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry for each epoch that has ended."""
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """On the host."""
    losses: list[Tensor] = field(default_factory=list)
    """Of this process, a scalar for each batch of the epoch under way, on the device."""

    def end_epoch(self, entry: dict[str, float]) -> None:
        self.curve.append(entry)
        self.losses.clear()

    @property
    def epoch(self) -> int:
        """The one under way, from 1."""
        return len(self.curve) + 1

    @property
    def name(self) -> str:
        """In order of time."""
        return f"epoch-{self.epoch:05d}-batch-{len(self.losses):07d}"


class Checkpoints:
    """Those of one stage's run with one fingerprint; see `checkpointing`."""

    def __init__(self, folder: Path, minutes: float, accelerator: Accelerator) -> None:
        self.folder = folder
        self.fingerprint = folder.name
        self.seconds = 60 * minutes
        self.accelerator = accelerator
        self.saved_at = time.monotonic()
        self.last = ""
        """The name of the checkpoint that the run is at."""
        self.stop: list[int] = []
        """The signals that asked the run to stop."""

    def restore(self, seed: int, progress: Progress, schedule: ReduceLROnPlateau) -> None:
        """Bring the run with this seed to where its last good checkpoint was, if there is one.

        What is saved from then on is `progress` and `schedule`, and what Accelerate has prepared.
        """
        self.progress, self.schedule = progress, schedule
        self.run, self.last = self.folder / f"seed-{seed}", ""
        found = told_by_main(self.accelerator.state, self._newest)
        if found is None:
            return
        checkpoint = self.run / found
        self.last = found
        self.accelerator.load_state(str(checkpoint))
        state = read_json(checkpoint / STATE)
        drawn = state["random"][self.accelerator.process_index]
        if random_sha256(self.accelerator.device) != drawn:
            raise InputError(
                f"{checkpoint}: the random generators could not be restored; to start anew, "
                f"remove {self.run}"
            )
        # Copies, or the best weights would be pages of a file that the next checkpoint removes.
        tensors = {name: x.clone() for name, x in load_file(checkpoint / TENSORS).items()}
        losses = tensors.pop("losses")[self.accelerator.process_index]
        progress.losses = list(losses.to(self.accelerator.device))
        progress.curve, progress.best_epoch = state["curve"], state["best_epoch"]
        progress.best_weights = {name.removeprefix("best."): t for name, t in tensors.items()}
        schedule.load_state_dict(state["schedule"])
        if self.accelerator.is_main_process:
            tell_going_on(checkpoint, self.folder)

    def after_batch(self) -> None:
        """Save if it is time to, or the run shall stop: then `StoppedError` is raised."""
        if not len(self.progress.losses) % (ASK if self.accelerator.num_processes > 1 else 1):
            self._save_if_due()

    def after_epoch(self, last: bool) -> None:
        """Likewise; what the `last` epoch leaves is saved in any case, since the outputs follow."""
        if last:
            self.save()
        else:
            self._save_if_due()

    def _save_if_due(self) -> None:
        late = time.monotonic() - self.saved_at >= self.seconds
        if any(gathered(late or bool(self.stop))):
            self.save()

    def save(self) -> None:
        """Write a checkpoint in place of the last one. Raises `StoppedError` if the run shall stop.

        Raises InputError if it cannot be written; the last one is then still there.
        """
        stops = [signal for signals in gathered(self.stop) for signal in signals]
        name = self.progress.name
        if name != self.last:
            self._replace(name)
        self.saved_at, self.last = time.monotonic(), name
        if stops:
            raise StoppedError(f"the state is saved in {self.run / name}", stops[0])

    def _replace(self, name: str) -> None:
        partial = self.run / ".partial"
        told_by_main(self.accelerator.state, lambda: made_anew(partial))
        for reason in filter(None, gathered(self._write(partial))):
            raise not_written(partial, reason)
        told_by_main(self.accelerator.state, lambda: self._put(partial, name))

    def _write(self, partial: Path) -> str | None:
        """This process's part; what kept it from being written."""
        progress = self.progress
        random = gathered(random_sha256(self.accelerator.device))
        losses = self._losses_by_process()
        try:
            self.accelerator.save_state(str(partial))
            if self.accelerator.is_main_process:
                best = {f"best.{name}": weight for name, weight in progress.best_weights.items()}
                save_file({"losses": losses, **best}, partial / TENSORS)
                state = {
                    "curve": progress.curve,
                    "best_epoch": progress.best_epoch,
                    "schedule": self.schedule.state_dict(),
                    "random": random,
                }
                (partial / STATE).write_text(json.dumps(state), encoding="utf-8")
        except (OSError, RuntimeError, SafetensorError) as error:
            return str(error)  # RuntimeError is what torch makes of a full disk
        return None

    def _losses_by_process(self) -> Tensor:
        """(world, batches) on the host."""
        own = torch.stack(self.progress.losses) if self.progress.losses else torch.zeros(0)
        every = self.accelerator.gather(own.to(self.accelerator.device))
        return every.view(self.accelerator.num_processes, -1).cpu()

    def _put(self, partial: Path, name: str) -> None:
        """Seal what the processes have written and let it take the place of the last one."""
        try:
            seal(partial, self.fingerprint)
            earlier = self._found()
            if self.run / name in earlier:  # it is damaged, or the run would be past it
                earlier.remove(self.run / name)
                shutil.rmtree(self.run / name)
            partial.rename(self.run / name)
            flush(self.run)
            for folder in earlier:
                shutil.rmtree(folder, ignore_errors=True)  # the new one is in its place
        except OSError as error:
            raise not_written(partial, str(error)) from None

    def _found(self) -> list[Path]:
        return sorted(self.run.glob("epoch-*"))

    def _newest(self) -> str | None:
        """The last checkpoint that is what was written for this run."""
        for folder in reversed(self._found()):
            wrong = fault(folder, self.fingerprint)
            if wrong is None:
                return folder.name
            log.warning("%s is not used: %s", folder, wrong)
        return None


def not_written(partial: Path, reason: str) -> InputError:
    return InputError(
        f"{partial}: the checkpoint could not be written: {reason}; make room, or whatever it "
        "needs. Start again, and training goes on from the one before"
    )


@contextmanager
def checkpointing(
    stage: str, settings: Training, inputs: Sequence[Path], accelerator: Accelerator
) -> Iterator[Checkpoints]:
    """The checkpoints of a stage's run; removed if the block ends well, or left to DVC's next run.

    What the run computes depends on `settings`, the files `inputs`, code, versions and machine.
    Inside the block SIGTERM and SIGINT save before the run ends.
    """
    folder = scratch.SCRATCH / stage
    fingerprint = told_by_main(
        accelerator.state, lambda: begin(folder, identity(settings, inputs, accelerator))
    )
    refuse_separate_storage(folder / fingerprint)
    checkpoints = Checkpoints(folder / fingerprint, settings.checkpoint_minutes, accelerator)
    with stop_requests() as checkpoints.stop:
        yield checkpoints
        if accelerator.is_main_process:
            finish(folder, fingerprint)


def random_sha256(device: torch.device) -> str:
    """Of the states of torch's generators that a step on `device` draws from."""
    state = torch.get_rng_state().numpy().tobytes()
    if device.type == "cuda":
        state += torch.cuda.get_rng_state().numpy().tobytes()
    return hashlib.sha256(state).hexdigest()


def made_anew(folder: Path) -> None:
    """An empty folder."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made for a checkpoint: {error}") from None
