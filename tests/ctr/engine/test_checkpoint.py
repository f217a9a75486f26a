"""A run that is interrupted anywhere ends with the bytes of one that is not."""

import json
import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from ctr import train
from ctr.engine import loop
from ctr.engine.checkpoint import Checkpoints
from pipeline.common.files import InputError
from pipeline.common.scratch import file_sha256
from pipeline.common.stage import StoppedError
from pipeline.settings.params import Params
from tests.support.worlds.interrupted import (
    EVERY_BATCH,
    METRICS,
    PARAMS,
    SCRATCH,
    KilledError,
    interrupted,
    kept,
    trained,
    undisturbed_bytes,
)
from tests.support.worlds.tiny_world import read_curve, tiny_params

pytestmark = pytest.mark.usefixtures("cpu", "world")


@pytest.mark.parametrize("batches", [1, 6, 7, 10, 18])
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    batches: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = undisturbed_bytes()
    assert kept() == []
    caplog.set_level(logging.INFO)
    interrupted(monkeypatch, batches, StoppedError, PARAMS)
    epoch, batch = divmod(batches, 6) if batches % 6 else (batches // 6 - 1, 6)
    assert kept() == [f"epoch-{epoch + 1:05d}-batch-{batch:07d}"]
    assert trained() == undisturbed
    assert f"going on from {SCRATCH}" in caplog.text
    assert not list(SCRATCH.iterdir())


@pytest.mark.parametrize(
    ("params", "left"),
    [(PARAMS, []), (EVERY_BATCH, ["epoch-00003-batch-0000001"])],
    ids=["in time for none", "after every batch"],
)
def test_killed_again_and_again_it_ends_with_the_same_bytes(
    params: Params, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = undisturbed_bytes()
    for batches in (4, 9, 3):
        interrupted(monkeypatch, batches, KilledError, params)
    assert kept() == left
    assert trained() == undisturbed


def test_an_epoch_that_ends_is_saved_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a minute here; the last one's end is saved in any case."""
    now = [0.0]
    evaluate, replace = loop.evaluate, Checkpoints._replace
    saved: list[str] = []

    def take_a_minute(*arguments: Any) -> dict[str, float]:
        now[0] += 60
        return evaluate(*arguments)

    def note(self: Checkpoints, name: str) -> None:
        saved.append(name)
        replace(self, name)

    monkeypatch.setattr("ctr.engine.checkpoint.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(loop, "evaluate", take_a_minute)
    monkeypatch.setattr(Checkpoints, "_replace", note)
    trained(tiny_params(epochs=7, patience=7, checkpoint_minutes=3))
    assert saved == [f"epoch-{epoch:05d}-batch-0000000" for epoch in (4, 7, 8)]


def test_stopped_while_valid_is_scored_it_saves_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = undisturbed_bytes()
    evaluate = loop.evaluate

    def stop(*arguments: Any) -> dict[str, float]:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments)

    with monkeypatch.context() as patched, pytest.raises(StoppedError):
        patched.setattr(loop, "evaluate", stop)
        trained()
    assert kept() == ["epoch-00002-batch-0000000"]
    assert trained() == undisturbed


def test_killed_between_training_and_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = undisturbed_bytes()

    def fail(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(train, "write", fail)
        trained()
    monkeypatch.setattr(Checkpoints, "after_batch", fail)  # nothing is left to train
    assert trained() == undisturbed


def test_killed_before_dvc_has_recorded_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC deletes them and starts the stage again, which trains nothing twice."""
    monkeypatch.setenv("DVC_STAGE", "train")
    undisturbed = trained()
    batches: list[None] = []
    monkeypatch.setattr(Checkpoints, "after_batch", lambda _: batches.append(None))
    assert trained() == undisturbed
    assert not batches
    monkeypatch.delenv("DVC_STAGE")  # who starts training without DVC wants it trained
    assert trained() == undisturbed
    assert len(batches) == 18


def test_the_best_epoch_and_the_rate_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second epoch stays the best, and each one after it halves the rate."""
    params = tiny_params(epochs=9, patience=3, batch_size=300)  # two batches an epoch
    aucs = [0.6, 0.7, 0.65, 0.7, 0.5, 0.9]

    def script() -> None:
        scores = iter({"auc": auc, "gauc": 0.5, "logloss": 0.7} for auc in aucs)
        monkeypatch.setattr(loop, "evaluate", lambda *_: next(scores))

    script()
    undisturbed = trained(params)
    script()
    interrupted(monkeypatch, 7, StoppedError, params)
    assert trained(params) == undisturbed
    assert json.loads(undisturbed[METRICS])["best_epoch"] == 2
    assert read_curve()["learning_rate"].tolist() == [0.01, 0.01, 0.01, 0.005, 0.0025]


def break_seal(folder: Path) -> None:
    (folder / "seal.json").unlink()


def truncate_seal(folder: Path) -> None:
    (folder / "seal.json").write_bytes((folder / "seal.json").read_bytes()[:-5])


def truncate_model(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])


def remove_progress(folder: Path) -> None:
    (folder / "progress.safetensors").unlink()


def flip_optimizer(folder: Path) -> None:
    content = bytearray((folder / "optimizer.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "optimizer.bin").write_bytes(content)


def make_foreign(folder: Path) -> None:
    seal = json.loads((folder / "seal.json").read_text())
    (folder / "seal.json").write_text(json.dumps(seal | {"run": "0" * 64}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_seal, "no readable seal.json, so it was not written to its end"),
        (truncate_seal, "no readable seal.json, so it was not written to its end"),
        (truncate_model, "model.safetensors is missing or damaged"),
        (remove_progress, "progress.safetensors is missing or damaged"),
        (flip_optimizer, "optimizer.bin is missing or damaged"),
        (make_foreign, "belongs to a run with other settings"),
    ],
)
def test_what_was_not_written_for_this_run_is_refused_by_name(
    damage: Callable[[Path], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    params = tiny_params(epochs=1)
    undisturbed = trained(params)
    interrupted(monkeypatch, 4, StoppedError, params)
    (folder,) = SCRATCH.glob("*/seed-*/*")
    damage(folder)
    assert trained(params) == undisturbed
    assert f"{folder} is not used: " in caplog.text
    assert message in caplog.text
    assert "going on" not in caplog.text


def test_a_damaged_checkpoint_leaves_the_one_before_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = undisturbed_bytes()
    caplog.set_level(logging.INFO)
    interrupted(monkeypatch, 8, StoppedError, PARAMS)
    (good,) = SCRATCH.glob("*/seed-*/*")
    later = good.with_name("epoch-00003-batch-0000005")
    shutil.copytree(good, later)
    truncate_model(later)
    assert trained() == undisturbed
    assert f"{later} is not used" in caplog.text
    assert f"going on from {good}" in caplog.text


def test_a_good_checkpoint_takes_the_place_of_a_damaged_one_of_its_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    undisturbed = undisturbed_bytes()
    interrupted(monkeypatch, 8, StoppedError, PARAMS)
    (folder,) = SCRATCH.glob("*/seed-*/*")
    truncate_model(folder)
    interrupted(monkeypatch, 8, StoppedError, PARAMS)
    assert f"{folder} is not used" in caplog.text
    assert trained() == undisturbed
    assert f"going on from {folder}" in caplog.text


def test_another_runs_state_is_named_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = tiny_params(epochs=3, dropout=0.3, learning_rate=0.005)
    undisturbed = trained(other)
    interrupted(monkeypatch, 8, StoppedError, PARAMS)
    assert trained(other) == undisturbed
    assert "training begins anew; since the run in scratch/train@main/" in caplog.text
    assert "... changed: settings.learning_rate" in caplog.text
    assert "going on" not in caplog.text


def test_a_checkpoint_that_cannot_be_written_leaves_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed = undisturbed_bytes()
    original, calls = Accelerator.save_state, []

    def save_state(self: Accelerator, folder: str) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")
        original(self, folder)

    with monkeypatch.context() as patched:
        patched.setattr(Accelerator, "save_state", save_state)
        with pytest.raises(InputError, match=r"could not be written: .*No space left.* make room"):
            trained(EVERY_BATCH)
    assert kept() == [".partial", "epoch-00001-batch-0000001"]
    assert trained() == undisturbed


def test_no_code_in_a_checkpoint_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where a seal was made for it."""
    params = tiny_params(epochs=1)
    interrupted(monkeypatch, 4, StoppedError, params)
    (folder,) = SCRATCH.glob("*/seed-*/*")
    torch.save(Malicious(tmp_path / "executed"), folder / "optimizer.bin")
    seal = json.loads((folder / "seal.json").read_text())
    seal["files"]["optimizer.bin"] = file_sha256(folder / "optimizer.bin")
    (folder / "seal.json").write_text(json.dumps(seal))
    with pytest.raises(Exception, match="weights_only"):
        trained(params)
    assert not (tmp_path / "executed").exists()


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))
