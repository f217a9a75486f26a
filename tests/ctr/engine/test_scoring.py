from weakref import ref

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ctr.covisitation.describe import NAMES
from ctr.engine.data import ClickLog, load_items
from ctr.engine.scoring import score
from ctr.models.architecture import qin_config
from ctr.models.base import ItemTable
from ctr.models.qin import QIN
from tests.support.terminal import bars
from tests.support.worlds.tiny_world import (
    TEST_ROWS,
    VALID_ROWS,
    first_rows,
    one_batch,
    tiny_params,
)

pytestmark = pytest.mark.usefixtures("cpu", "world")

CPU = torch.device("cpu")
SETTINGS = tiny_params(dropout=0.5).train


@pytest.fixture
def items(cpu: torch.device) -> ItemTable:
    return load_items(SETTINGS.features, cpu)


@pytest.fixture
def model(items: ItemTable) -> QIN:
    """Weights that tell rows apart; left in training mode, so that dropout would be seen."""
    torch.manual_seed(3)
    model = QIN(qin_config(SETTINGS, items, len(NAMES)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.train()


def test_logits_are_those_of_each_row_alone_in_row_order(model: QIN, items: ItemTable) -> None:
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    found = score(model, [log], items, 10, Accelerator())[0]
    assert not model.training
    with torch.no_grad():
        rows = torch.arange(TEST_ROWS).split(1)
        alone = torch.cat([model.eval()(one_batch(log, row)[0], items) for row in rows])
    assert len(alone.unique()) > TEST_ROWS * 0.9
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 100, TEST_ROWS, 1000])
def test_batch_size_changes_nothing(model: QIN, items: ItemTable, batch_size: int) -> None:
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    expected = score(model, [log], items, 33, Accelerator())[0]
    found = score(model, [log], items, batch_size, Accelerator())[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_batches_are_no_larger_than_asked(model: QIN, items: ItemTable) -> None:
    sizes: list[int] = []
    model.register_forward_hook(lambda _model, _inputs, logits: sizes.append(len(logits)))
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    score(model, [log], items, 25, Accelerator())[0]
    assert sum(sizes) == TEST_ROWS
    assert max(sizes) <= 25
    assert len(sizes) == 5


def test_no_batch_leaves_a_tensor_behind(model: QIN, items: ItemTable) -> None:
    """A small one that lives on keeps the freed memory about it from being used again."""
    left: list[int] = []
    outs: list[ref[Tensor]] = []

    def remember(_model: nn.Module, _inputs: object, logits: Tensor) -> None:
        left.append(sum(out() is not None for out in outs[:-1]))
        outs.append(ref(logits))

    model.register_forward_hook(remember)
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    score(model, [log], items, 25, Accelerator())
    assert left == [0] * 5


def test_freed_memory_is_bounded_after_each_batch(
    model: QIN, items: ItemTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded: list[None] = []
    monkeypatch.setattr("ctr.engine.scoring.FREED_MEMORY.bound", lambda: bounded.append(None))
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    score(model, [log], items, 25, Accelerator())
    assert len(bounded) == 5


def test_the_bar_is_over_the_rows_of_all_logs_and_the_main_processes_alone(
    model: QIN, items: ItemTable
) -> None:
    logs = [ClickLog.load(s, SETTINGS.history, SETTINGS.features, CPU) for s in ("valid", "test")]
    rows = VALID_ROWS + TEST_ROWS
    accelerator = Accelerator()
    with bars() as shown:
        score(model, logs, items, 25, accelerator)
    assert [(bar.n, bar.total) for bar in shown] == [(rows, rows)]
    with bars() as shown, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Accelerator, "is_main_process", False)
        score(model, logs, items, 25, accelerator)
    assert shown == []


def test_no_rows_have_no_logits(model: QIN, items: ItemTable) -> None:
    """A process whose share is empty still takes part."""
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    empty = first_rows(log, 0)
    assert score(model, [empty], items, 10, Accelerator())[0].shape == (0,)


def test_item_vectors_are_composed_once_for_all_logs(model: QIN, items: ItemTable) -> None:
    composed: list[int] = []
    model.item.register_forward_hook(lambda _module, inputs, _out: composed.append(len(inputs[0])))
    logs = [ClickLog.load(s, SETTINGS.history, SETTINGS.features, CPU) for s in ("valid", "test")]
    scored = score(model, logs, items, 10, Accelerator())
    assert composed == [len(items.id)]
    for log, logits in zip(logs, scored, strict=True):
        alone = score(model, [log], items, 10, Accelerator())[0]
        torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)
    few = [first_rows(log, 1) for log in logs]  # 12 places < 41 items
    composed.clear()
    score(model, few, items, 10, Accelerator())
    assert len(composed) == 2
    assert max(composed) <= 7


def test_rows_are_summed_for_scoring_alone(model: QIN, items: ItemTable) -> None:
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    before = score(model, [log], items, 50, Accelerator())[0]
    assert all(layer.sum is None for layer in model.qnn.layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert not torch.allclose(score(model, [log], items, 50, Accelerator())[0], before)
