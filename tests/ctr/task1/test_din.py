from collections.abc import Mapping

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from ctr import train
from ctr.engine import loop
from ctr.models.base import ItemTable
from ctr.models.layers import Dropout
from ctr.task1.din import DIN, Attention, DINConfig, Projected
from pipeline.common import paths
from pipeline.common.files import read_json
from tests.support.references.din import reference_din
from tests.support.worlds.small_world import (
    CONTENT,
    ITEMS,
    LEVELS,
    TAGS,
    small_clicks,
    small_items,
    spread_weights,
    weights_of,
)
from tests.support.worlds.tiny_world import tiny_params

SMALL = DINConfig(
    items=ITEMS,
    tags=TAGS,
    levels=LEVELS,
    content_dim=CONTENT,
    embedding_dim=5,
    attention=(9, 7),
    attention_dropout=0.0,
    tower=(12, 8),
    net_dropout=0.0,
)

PUBLISHED = DINConfig(items=91_717, tags=11_740)

TABLES = ["item.id.weight", "item.tag.weight", "likes_level.weight", "views_level.weight"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def small_din() -> DIN:
    return spread_weights(DIN(SMALL))


def items_with_a_hidden_one() -> ItemTable:
    """Item 3 has no tags, item 4 no content, item 6 no id."""
    items = small_items()
    items.id[6] = 0
    return items


def assert_same_gradients(model: DIN, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        found, expected = parameter.grad, weights[name].grad
        assert found is not None, name
        assert expected is not None, name
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("at_hand", [True, False])
def test_logits_and_gradients_agree_with_the_definition(training: bool, at_hand: bool) -> None:
    model, items, clicks = small_din().train(training), items_with_a_hidden_one(), small_clicks()
    assert {3, 4, 6} <= {*clicks.history.flatten().tolist(), *clicks.target.tolist()}
    weights = weights_of(model)
    expected = reference_din(weights, clicks, items, len(SMALL.tower), training)
    found = model(clicks, items, model.item_table(items) if at_hand else None)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn(len(found), dtype=torch.float64)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    assert_same_gradients(model, weights)


@pytest.mark.parametrize("unused", [[1, 4], [*range(CONTENT)]])
def test_columns_that_all_items_lack_change_nothing(unused: list[int]) -> None:
    items, clicks = items_with_a_hidden_one(), small_clicks()
    items.content[:, unused] = 0
    model = spread_weights(DIN(SMALL, items.content))
    weights = weights_of(model)
    assert len(model.attention.fixed) == CONTENT - len(unused)
    expected = reference_din(weights, clicks, items, len(SMALL.tower), training=True)
    found = model(clicks, items)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn(len(found), dtype=torch.float64)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    assert_same_gradients(model, weights)


def test_repeated_items_count_each_time() -> None:
    model, items = small_din().eval(), small_items()
    once = small_clicks(batch=1)._replace(history=torch.tensor([[0, 0, 0, 2, 5]]))
    twice = once._replace(history=torch.tensor([[2, 5, 2, 5, 2]]))
    expected = reference_din(weights_of(model), twice, items, len(SMALL.tower), training=False)
    found = model(twice, items)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert (found - model(once, items)).abs() > 1e-3


def test_padding_rows_get_no_gradient() -> None:
    model = small_din().train()
    model(small_clicks(), items_with_a_hidden_one()).sum().backward()
    for table in (model.item.id.weight, model.item.tag.weight):
        assert table.grad is not None
        assert not table.grad[0].any()
        assert table.grad[1:].any()


def test_padding_weighs_nothing_wherever_it_stands() -> None:
    model, items, clicks = small_din().eval(), small_items(), small_clicks()
    longer = torch.cat([clicks.history, torch.zeros(12, 5, dtype=torch.long)], dim=1)
    shuffled = clicks._replace(history=longer[:, torch.randperm(13)])
    found = model(shuffled, items)
    torch.testing.assert_close(found, model(clicks, items), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [3, 0])
def test_empty_histories_have_no_interest(batch: int) -> None:
    attention = Attention(dim=6, hidden=(5, 4), dropout=0.1)
    table = torch.randn(9, 6, requires_grad=True)
    target, history = torch.arange(1, batch + 1), torch.zeros(batch, 4, dtype=torch.long)
    found = attention(target, history, table)
    assert found.shape == (batch, 6)
    assert not found.any()
    found.sum().backward()
    assert table.grad is None or not table.grad.any()


def test_histories_of_padding_alone_train() -> None:
    model, items = small_din().train(), small_items()
    clicks = small_clicks()._replace(history=torch.zeros(12, 8, dtype=torch.long))
    weights = weights_of(model)
    expected = reference_din(weights, clicks, items, len(SMALL.tower), training=True)
    torch.testing.assert_close(model(clicks, items), expected, rtol=1e-10, atol=1e-10)


def test_the_sizes_are_the_organisers() -> None:
    with torch.device("meta"):
        model = DIN(PUBLISHED)
    assert {name: tuple(p.shape) for name, p in model.named_parameters() if p.dim() == 2} == {
        "item.id.weight": (91_718, 64),
        "item.tag.weight": (11_740, 64),
        "likes_level.weight": (11, 64),
        "views_level.weight": (11, 64),
        "attention.pair.weight": (512, 4 * 256),
        "attention.hidden.weight": (256, 512),
        "attention.out.weight": (1, 256),
        "tower.0.weight": (1024, 64 + 64 + 256 + 256),
        "tower.4.weight": (512, 1024),
        "tower.8.weight": (256, 512),
        "tower.12.weight": (1, 256),
    }
    tables = (91_718 + 11_740 + 11 + 11) * 64
    attention = (1024 + 1) * 512 + (512 + 1) * 256 + 256 + 1
    tower = (640 + 1 + 2) * 1024 + (1024 + 1 + 2) * 512 + (512 + 1 + 2) * 256 + 256 + 1
    assert tables + attention + tower == 8_595_458
    assert sum(parameter.numel() for parameter in model.parameters()) == tables + attention + tower


def test_the_dropouts_are_the_organisers() -> None:
    model = DIN(SMALL)
    assert [type(module).__name__ for module in model.tower] == [
        *["Linear", "BatchNorm", "ReLU", "Dropout"] * 2,
        "Linear",
    ]
    with torch.device("meta"):
        model = DIN(PUBLISHED)
    assert model.attention.dropout.p == 0.1
    assert [module.p for module in model.tower if isinstance(module, Dropout)] == [0.1] * 3


def test_attention_drops_after_each_relu() -> None:
    """All units are 1, so the interest is the share that was kept of the first hidden layer."""
    attention = Attention(dim=1, hidden=(400, 1), dropout=0.25)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.fill_(0.0)
        attention.pair.bias.fill_(1.0)
        attention.hidden.weight.fill_(1 / 400)
        attention.out.weight.fill_(1.0)
    table = torch.tensor([[0.0], [1.0]])
    target, history = torch.ones(500, dtype=torch.long), torch.ones(500, 1, dtype=torch.long)
    found = attention(target, history, table).flatten()
    dropped = found == 0
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.06)
    kept = found[~dropped] * 0.75  # the mean of 400 units, each 4/3 or nothing
    assert kept.mean().item() == pytest.approx(1.0, abs=0.005)
    assert kept.std().item() == pytest.approx((1 / 3 / 400) ** 0.5, rel=0.15)
    torch.testing.assert_close(attention.eval()(target, history, table), torch.ones(500, 1))


def test_the_penalty_covers_the_four_tables_alone() -> None:
    model = DIN(SMALL)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sorted(names[id(parameter)] for parameter in model.embedding_parameters()) == TABLES


@pytest.mark.usefixtures("cpu", "world")
def test_learning_on_the_tiny_world() -> None:
    params = tiny_params(epochs=12, patience=12).train
    accelerator = Accelerator()
    data = train.load_data(params, accelerator)
    stats = read_json(paths.STATS)
    config = DINConfig(
        items=stats["items"],
        tags=stats["tags"],
        content_dim=data.items.content.shape[1],
        embedding_dim=4,
        attention=(16, 8),
        tower=(16, 8),
    )
    trained = loop.fit(DIN(config), data, params, accelerator)
    losses = [entry["train_loss"] for entry in trained.curve]
    assert max(entry["auc"] for entry in trained.curve) > 0.8
    assert losses[-1] < 0.9 * losses[0]


def test_items_are_projected_once_where_weights_are_frozen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, items = small_din().eval(), small_items()
    expected = model(small := small_clicks(), items)
    projected: list[int] = []
    original = Attention.project

    def count(self: Attention, table: Tensor) -> Projected:
        before = self.projected
        found = original(self, table)
        projected.append(self.projected is not before or not self.frozen)
        return found

    monkeypatch.setattr(Attention, "project", count)
    with torch.no_grad(), model.frozen():
        table = model.item_table(items)
        for _ in range(3):
            torch.testing.assert_close(model(small, items, table), expected)
        assert projected == [True, False, False]
        other = table * 2
        assert not torch.allclose(model(small, items, other), expected)
    assert model.attention.projected is None
    with torch.no_grad():
        model.attention.pair.weight.mul_(1.1)
        assert not torch.allclose(model(small, items, table), expected)
