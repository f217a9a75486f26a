from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from ctr.data import ClickLog, load_items
from ctr.qin import QIN, ItemTable
from ctr.scoring import score
from ctr.train import model_config
from tests.ctr.tiny_world import TEST_ROWS, one_batch, tiny_params

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
    model = QIN(model_config(SETTINGS, items))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.train()


def test_logits_are_those_of_each_row_alone_in_row_order(model: QIN, items: ItemTable) -> None:
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    found = score(model, log, items, 10, Accelerator())
    assert not model.training
    with torch.no_grad():
        rows = torch.arange(TEST_ROWS).split(1)
        alone = torch.cat([model.eval()(one_batch(log, row)[0], items) for row in rows])
    assert len(alone.unique()) > TEST_ROWS * 0.9
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 100, TEST_ROWS, 1000])
def test_batch_size_changes_nothing(model: QIN, items: ItemTable, batch_size: int) -> None:
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    expected = score(model, log, items, 33, Accelerator())
    found = score(model, log, items, batch_size, Accelerator())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_batches_are_no_larger_than_asked(model: QIN, items: ItemTable) -> None:
    sizes: list[int] = []
    model.register_forward_hook(lambda _model, _inputs, logits: sizes.append(len(logits)))
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    score(model, log, items, 25, Accelerator())
    assert sum(sizes) == TEST_ROWS
    assert max(sizes) <= 25
    assert len(sizes) == 5


def test_no_rows_have_no_logits(model: QIN, items: ItemTable) -> None:
    """A process whose share is empty still takes part."""
    log = ClickLog.load("test", SETTINGS.history, SETTINGS.features, CPU)
    empty = replace(log, rows=log.rows[:0], total=0)
    assert score(model, empty, items, 10, Accelerator()).shape == (0,)
