"""What a training's result depends on, by which its work in progress is known again."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState

from pipeline.common import scratch
from pipeline.common.files import read_json, versions, write_json
from pipeline.common.launch import arithmetic
from pipeline.settings.ctr.training import Training

IDENTITY, FINISHED = "identity.json", "finished"
CODE = ("ctr", "pipeline/common", "pipeline/tables")

log = logging.getLogger(__name__)


def finish(stage: Path, fingerprint: str) -> None:
    """In the main process, when the outputs are written: nothing of the run is needed again."""
    scratch.clear(stage, fingerprint)
    if scratch.under_dvc():
        (stage / fingerprint / FINISHED).touch()


def identity(
    settings: Training, inputs: Sequence[Path], accelerator: Accelerator | PartialState
) -> dict[str, Any]:
    """All that the run's result depends on."""
    return {
        "settings": settings.deciding(),
        "inputs": {str(path): scratch.file_sha256(path) for path in inputs if path.is_file()},
        "code": scratch.code_sha256(*CODE, *scratch.files_of(type(settings))),
        "versions": versions("accelerate", "numpy", "scipy", "torch"),
        "processes": accelerator.num_processes,
        **arithmetic(accelerator.device),
    }


def begin(stage: Path, identity: Mapping[str, Any]) -> str:
    """In the main process: say why the work of earlier runs is of no use; the fingerprint."""
    fingerprint = scratch.fingerprint(identity)
    if not (stage / fingerprint).exists():
        for path in sorted(stage.glob(f"*/{IDENTITY}")):
            earlier = f"{stage}/{path.parent.name[:8]}..."
            changed = what_changed(read_identity(path), identity)
            log.info("training begins anew; since the run in %s changed: %s", earlier, changed)
    if is_finished(stage / fingerprint) and not scratch.under_dvc():
        shutil.rmtree(stage / fingerprint)  # to train once more is what was asked for
    write_json(stage / fingerprint / IDENTITY, identity)
    return fingerprint


def what_changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Three things, settings first, and how many more; another model alone, which reads others."""
    found = scratch.differences(old, new)
    if "settings.model" in found:
        return "settings.model"
    found.sort(key=lambda name: not name.startswith("settings."))
    more = [f"{len(found) - 3} more"] if len(found) > 3 else []
    return ", ".join(found[:3] + more)


def tell_going_on(state: Path, run: Path) -> None:
    """From a `state` of what `run`, a folder, holds."""
    why = ": nothing that the result depends on has changed since" if is_finished(run) else ""
    log.info("going on from %s%s", state, why)


def is_finished(run: Path) -> bool:
    return (run / FINISHED).exists()


def read_identity(path: Path) -> dict[str, Any]:
    """Empty if it was not written to its end."""
    with suppress(OSError, ValueError):
        return read_json(path)
    return {}
