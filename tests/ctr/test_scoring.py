import os

import pytest
import torch
from accelerate import Accelerator

from ctr.data import ClickLog, load_items
from ctr.qin import QIN, ItemTable
from ctr.scoring import available_cores, open_accelerator, score, use_all_cores
from ctr.train import model_config
from pipeline.schema import InputError
from tests.ctr.tiny_world import TEST_ROWS, tiny_params

pytestmark = pytest.mark.usefixtures("cpu", "world")

SETTINGS = tiny_params(dropout=0.5).train


@pytest.fixture
def items(cpu: torch.device) -> ItemTable:
    return load_items(SETTINGS.features, cpu)


@pytest.fixture
def model(items: ItemTable) -> QIN:
    """Weights that tell rows apart; left in training mode, so that dropout would be seen."""
    torch.manual_seed(3)
    model = QIN(model_config(SETTINGS, items))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.train()


def test_logits_are_those_of_each_row_alone_in_row_order(
    model: QIN, items: ItemTable, cpu: torch.device
) -> None:
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features)
    found = score(model, log, items, 10, Accelerator())
    assert not model.training
    with torch.no_grad():
        rows = torch.arange(TEST_ROWS).split(1)
        alone = torch.cat([model.eval()(log.batch(row, cpu)[0], items) for row in rows])
    assert len(alone.unique()) > TEST_ROWS * 0.9
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 100, TEST_ROWS, 1000])
def test_batch_size_changes_nothing(model: QIN, items: ItemTable, batch_size: int) -> None:
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features)
    expected = score(model, log, items, 33, Accelerator())
    found = score(model, log, items, batch_size, Accelerator())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_batches_are_no_larger_than_asked(model: QIN, items: ItemTable) -> None:
    sizes: list[int] = []
    model.register_forward_hook(lambda _model, _inputs, logits: sizes.append(len(logits)))
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features)
    score(model, log, items, 25, Accelerator())
    assert sum(sizes) == TEST_ROWS
    assert max(sizes) <= 25
    assert len(sizes) == 5


def test_no_rows_have_no_logits(model: QIN, items: ItemTable) -> None:
    """A process whose share is empty still takes part."""
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features)
    empty = ClickLog(log.rows[:0], log.features)
    assert score(model, empty, items, 10, Accelerator()).shape == (0,)


@pytest.mark.parametrize("launcher", ["1", "", None])
def test_all_available_cores_despite_the_launcher(
    launcher: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctr.scoring.available_cores", lambda: 7)
    if launcher is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", launcher)
    use_all_cores()
    assert torch.get_num_threads() == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    use_all_cores()
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    use_all_cores()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("own", ["3", "4,2"])
def test_the_users_own_number_of_threads_is_kept(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", own)
    torch.set_num_threads(5)
    use_all_cores()
    assert torch.get_num_threads() == 5


def test_available_cores_are_those_of_this_process_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert available_cores() == 9


@pytest.mark.usefixtures("cpu")
def test_a_precision_that_the_machine_lacks() -> None:
    with pytest.raises(InputError, match=r"train\.mixed_precision is fp16, which needs a GPU"):
        open_accelerator("train", "fp16")
