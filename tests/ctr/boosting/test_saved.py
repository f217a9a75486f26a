"""Boosted trees that are interrupted go on, and end with the bytes of an undisturbed run."""

import functools
import logging
import signal
from pathlib import Path
from typing import NoReturn

import pytest

from ctr import train
from ctr.boosting.forest import Forest
from ctr.boosting.saved import FILE, Saved
from ctr.engine.identity import FINISHED
from ctr.models.trained_on import item_digests
from pipeline.common import paths
from pipeline.common.files import InputError, read_json
from pipeline.common.scratch import file_sha256
from pipeline.common.stage import StoppedError
from pipeline.settings.params import Params
from tests.support.stage_processes import StageProcesses
from tests.support.worlds.tiny_world import (
    contents,
    forget_accelerator,
    tiny_params,
    write_params,
)

pytestmark = pytest.mark.usefixtures("cpu", "world")

FILES = paths.model_files("trees")
OUTPUTS = [FILES.trees, FILES.config, FILES.curve, FILES.metrics]
SCRATCH = Path("scratch/train@trees")
TREES = 34


class KilledError(BaseException):
    """What SIGKILL is to a process, but for the process."""


def params(checkpoint_minutes: float = 10, seed: int = 5) -> Params:
    """Trees that draw few columns, so that the first ones are not the best."""
    trees = {"trees": TREES, "patience": TREES, "leaves": 7, "min_rows": 20, "columns": 0.1}
    changes = {"model": "lightgbm", "seed": seed, "checkpoint_minutes": checkpoint_minutes}
    lightgbm = tiny_params().train.lightgbm.model_dump() | trees
    return tiny_params(models={"trees": {**changes, "lightgbm": lightgbm}})


def trained(settings: Params) -> dict[Path, bytes]:
    """The outputs of a run in what would be a process of its own."""
    forget_accelerator()
    for path in OUTPUTS:
        path.unlink(missing_ok=True)
    train.main(settings.ranking_model("trees"), "trees")
    return without_minutes()


def without_minutes() -> dict[Path, bytes]:
    """The settings beside the model tell how often it was saved: it is no part of the result."""
    found = contents(OUTPUTS)
    config = read_json(FILES.config)
    del config["train"]["checkpoint_minutes"]
    return found | {FILES.config: repr(config).encode()}


@functools.cache
def undisturbed() -> dict[Path, bytes]:
    """The world is the same in every test."""
    return trained(params())


def interrupted(
    monkeypatch: pytest.MonkeyPatch,
    trees: int,
    kind: type[BaseException],
    checkpoint_minutes: float = 10,
) -> None:
    """A run that ends when it has so many trees."""
    original = Saved.after_tree

    def after_tree(self: Saved, *arguments: object, **named: object) -> None:
        (forest,) = (each for each in arguments if isinstance(each, Forest))
        if forest.trees == trees and kind is not KilledError:
            signal.raise_signal(signal.SIGTERM)
        original(self, *arguments, **named)  # type: ignore[arg-type]  # passed on as they came
        if forest.trees == trees:
            raise KilledError

    with monkeypatch.context() as patched, pytest.raises(kind):
        patched.setattr(Saved, "after_tree", after_tree)
        trained(params(checkpoint_minutes))
    assert not [path for path in OUTPUTS if path.exists()]


def states() -> list[Path]:
    return list(SCRATCH.glob(f"*/{FILE}"))


@pytest.mark.parametrize("stops", [[1], [10], [7, 8, 19, 20, 33]])
def test_a_run_that_is_asked_to_stop_goes_on(
    stops: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for trees in stops:
        interrupted(monkeypatch, trees, StoppedError)
        assert len(states()) == 1
    with caplog.at_level(logging.INFO):
        assert trained(params()) == undisturbed()
    assert f"going on from {SCRATCH}" in caplog.text
    assert not states()
    assert read_json(FILES.metrics)["best_epoch"] == 20


def test_a_run_that_is_killed_goes_on_from_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = undisturbed()
    interrupted(monkeypatch, 13, KilledError, checkpoint_minutes=0)
    grown = count_trees(monkeypatch)
    assert trained(params()) == expected
    assert len(grown) == TREES - 13


def test_a_run_that_is_killed_before_the_first_state_starts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted(monkeypatch, 13, KilledError)
    assert not states()
    assert trained(params()) == undisturbed()


def test_killed_while_it_writes_it_trains_no_tree_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> NoReturn:
        raise KilledError

    expected = undisturbed()
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(train, "write", killed)
        trained(params())
    grown = count_trees(monkeypatch)
    assert trained(params()) == expected
    assert not grown


def count_trees(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled as trees are grown from now on."""
    grown: list[int] = []
    original = Forest.grow

    def grow(self: Forest) -> bool:
        grown.append(self.trees)
        return original(self)

    monkeypatch.setattr(Forest, "grow", grow)
    return grown


def test_a_damaged_state_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(monkeypatch, 13, StoppedError)
    (state,) = states()
    content = state.read_bytes()
    state.write_bytes(content.replace(b"shrinkage=1", b"shrinkage=2", 1))
    assert state.read_bytes() != content
    assert trained(params()) == undisturbed()
    assert f"{state} is not used: it is damaged" in caplog.text


def test_the_state_of_another_run_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = trained(params(seed=6))
    interrupted(monkeypatch, 13, StoppedError)
    with caplog.at_level(logging.INFO):
        assert trained(params(seed=6)) == other
    assert f"training begins anew; since the run in {SCRATCH}/" in caplog.text
    assert "... changed: settings.seed" in caplog.text


def test_within_dvc_the_state_stays_until_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@trees")
    expected = trained(params())
    assert len(states()) == 1
    assert (states()[0].parent / FINISHED).exists()
    grown = count_trees(monkeypatch)
    assert trained(params()) == expected  # DVC had not recorded the outputs
    assert not grown
    monkeypatch.delenv("DVC_STAGE")
    assert trained(params()) == expected
    assert len(grown) == TREES


def test_within_dvc_what_trees_do_not_read_grows_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@trees")
    trained(params())
    first, grown = FILES.trees.read_bytes(), count_trees(monkeypatch)
    settings = params().ranking_model("trees")
    features = settings.features.model_copy(update={"id": not settings.features.id})
    other = settings.model_copy(
        update={"learning_rate": 0.5, "layers": 1, "history": 2, "features": features}
    )
    neighbors = paths.NEIGHBORS.read_bytes()
    paths.NEIGHBORS.write_bytes(neighbors + b"\0")  # which the model's items are told by
    forget_accelerator()
    with caplog.at_level(logging.INFO):
        train.main(other, "trees")
    assert not grown
    assert "trees.json: nothing that the result depends on has changed since" in caplog.text
    assert FILES.trees.read_bytes() == first
    assert read_json(FILES.config)["train"]["learning_rate"] == 0.5
    assert read_json(FILES.config)["items"] == item_digests() | {
        str(paths.ROW_FEATURES): file_sha256(paths.ROW_FEATURES)
    }
    forget_accelerator()
    train.main(settings.model_copy(update={"seed": 6}), "trees")
    assert len(grown) == TREES


def test_a_disk_without_room_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=rf"{FILE}: could not be written: .*free some space"):
        trained(params(checkpoint_minutes=0))


def test_of_two_processes_one_trains(processes: StageProcesses) -> None:
    """The same trees as a process alone."""
    trained(params())
    alone = FILES.trees.read_text()
    write_params(params(checkpoint_minutes=0))
    together = processes.start_together("ctr.train --model trees", 2)
    output = "".join(map(processes.finished, together))
    assert output.count("the other processes have nothing to do") == 1
    assert output.count(" of 34 trees (") == 1  # the closing line, of the main process
    assert FILES.trees.read_text().split("parameters:")[0] == alone.split("parameters:")[0]
