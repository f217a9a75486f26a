from dataclasses import replace

import pytest
import torch

from ctr.models.base import Clicks, ItemTable, distinct, items_of_batch, places_an_item
from ctr.models.qin import ASTA, QIN, QINConfig, QuadraticLayer
from tests.support.references.qin import asta_weights, item_vector, reference_qin
from tests.support.worlds.small_world import (
    CONTENT,
    ITEMS,
    LEVELS,
    TAGS,
    assert_gradients_agree,
    small_clicks,
    small_items,
    spread_weights,
    weights_of,
)


def small_config(
    neighbors: bool = False, layers: int = 3, rows: int = 4, numbers: int = 0
) -> QINConfig:
    return QINConfig(
        items=ITEMS,
        tags=TAGS,
        levels=LEVELS,
        content_dim=CONTENT,
        embedding_dim=5,
        attention_dim=7,
        layers=layers,
        rows=rows,
        dropout=0.0,
        neighbors=neighbors,
        numbers=numbers,
        numbers_dim=4,
    )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("neighbors", [True, False])
@pytest.mark.parametrize("numbers", [0, 3])
def test_outputs_and_gradients_agree_with_the_formulas(
    training: bool, neighbors: bool, numbers: int
) -> None:
    config = small_config(neighbors, numbers=numbers)
    model = spread_weights(QIN(config)).train(training)
    assert ("numbers.hidden.weight" in model.state_dict()) == (numbers > 0)
    items, clicks = small_items(), small_clicks(numbers=numbers)
    weights = weights_of(model)
    expected = reference_qin(weights, clicks, items, config.layers, config.rows, training)
    found = model(clicks, items)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert_gradients_agree(model, weights, found, expected, 1e-10)


def test_attention_weights_agree_with_the_formula_and_are_exactly_zero_where_it_is() -> None:
    model = spread_weights(QIN(small_config())).eval()
    items, clicks = small_items(), small_clicks()
    found = model.attention_weights(clicks, items)
    expected = torch.zeros_like(found)
    for row, (history, target) in enumerate(zip(clicks.history, clicks.target, strict=True)):
        vectors = [item_vector(model.state_dict(), int(i), items) if i else None for i in history]
        vector = item_vector(model.state_dict(), int(target), items)
        expected[row] = torch.stack(asta_weights(model.state_dict(), vector, vectors))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(found == 0, expected == 0)
    real = clicks.history > 0
    assert 0.2 < (found[real] == 0).double().mean() < 0.8
    assert not found[~real].any()


def test_padding_has_no_weight_whatever_its_row_of_the_table_holds() -> None:
    asta = ASTA(dim=6, attention_dim=4).double()
    table = torch.randn(9, 6, dtype=torch.float64)
    target, real = torch.arange(1, 9), torch.arange(1, 9).repeat(8, 1)
    padded = real.clone()
    padded[:, :5] = 0
    found = asta.weights(target, padded, table)
    assert not found[:, :5].any()
    expected = asta.weights(target, real, table)[:, 5:]
    torch.testing.assert_close(found[:, 5:], expected, rtol=1e-12, atol=1e-12)


def test_unique_items_and_the_whole_table_give_the_same() -> None:
    model = spread_weights(QIN(small_config(neighbors=True))).eval()
    items = small_items()
    clicks = small_clicks(batch=3, history=4)
    assert 3 * 5 < places_an_item(clicks.history.device) * len(items.id) < 60 * 5
    many = Clicks(*(column.repeat(20, *[1] * (column.dim() - 1)) for column in clicks))
    torch.testing.assert_close(model(clicks, items), model(many, items)[:3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "rows", [7, 20, 21, 1000]
)  # more than twice as many are not looked through
def test_what_is_named_is_numbered_in_order(rows: int) -> None:
    named = torch.tensor([5, 3, 3, 6, 0, 5, 2, 6, 6, 2], dtype=torch.int32)
    ids, place = distinct(named, rows)
    assert ids.tolist() == [0, 2, 3, 5, 6]
    assert place.dtype == torch.int32
    assert ids[place].tolist() == named.tolist()
    assert distinct(named[:2], rows)[0].tolist() == [0, 3, 5]


def test_the_items_of_a_batch() -> None:
    items, clicks = small_items(), small_clicks()
    history, target, found = items_of_batch(clicks.history, clicks.target, items)
    assert found.id[0] == 0
    assert len(found.id) == len({0, *clicks.history.flatten().tolist(), *clicks.target.tolist()})
    for name in ("id", "tags", "content"):  # what a vector is composed of
        column, whole = getattr(found, name), getattr(items, name)
        assert torch.equal(column[history], whole[clicks.history])
        assert torch.equal(column[target], whole[clicks.target])
    assert torch.equal(found.neighbors, items.neighbors)  # read by the items' own numbers
    assert torch.equal(found.cosine, items.cosine)


def test_without_numbers_the_model_is_the_published_one_whatever_its_rows_have() -> None:
    """The same names, sizes and first weights; the width of a map that is not there is nothing."""
    torch.manual_seed(7)
    published = QIN(replace(small_config(), numbers_dim=QINConfig.numbers_dim)).eval()
    torch.manual_seed(7)
    model = QIN(small_config()).eval()
    assert [name for name in model.state_dict() if "numbers" in name] == []
    for name, weight in published.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    model, items = spread_weights(model), small_items()
    with_numbers = small_clicks(numbers=3)
    without = with_numbers._replace(numbers=torch.empty(12, 0))
    assert torch.equal(model(with_numbers, items), model(without, items))


def test_rows_that_differ_in_numbers_alone_differ() -> None:
    model = spread_weights(QIN(small_config(numbers=3))).eval()
    items, clicks = small_items(), small_clicks(numbers=3)
    other = clicks._replace(numbers=clicks.numbers + 1)
    assert ((model(clicks, items) - model(other, items)).abs() > 1e-6).all()


def test_published_size() -> None:
    with torch.device("meta"):
        model = QIN(QINConfig(items=91_717, tags=11_740))
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_244_293


def test_a_history_of_padding_alone_gives_back_the_target() -> None:
    asta = ASTA(dim=6, attention_dim=4).double()
    table = torch.randn(9, 6, dtype=torch.float64)
    target, out = asta(torch.tensor([3, 8]), torch.zeros(2, 5, dtype=torch.long), table)
    assert torch.equal(target, table[[3, 8]])
    assert torch.equal(out, target)


def test_padding_alone_everywhere_is_finite() -> None:
    model = QIN(small_config()).train()
    items = ItemTable(*(c.float() if c.is_floating_point() else c for c in small_items()))
    clicks = small_clicks()._replace(history=torch.zeros(12, 8, dtype=torch.long))
    logits = model(clicks, items)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_history_is_a_set() -> None:
    model = spread_weights(QIN(small_config(neighbors=True))).eval()
    items, clicks = small_items(), small_clicks()
    turned = clicks._replace(history=clicks.history.flip(1))
    torch.testing.assert_close(model(turned, items), model(clicks, items), rtol=1e-12, atol=1e-12)


def test_initialisation() -> None:
    model = QIN(QINConfig(items=2000, tags=50, content_dim=32, embedding_dim=64))
    assert model.item.id.weight[1:].std().item() == pytest.approx(1e-4, rel=0.02)
    assert model.likes_level.weight.std().item() == pytest.approx(1e-4, rel=0.1)
    assert not model.item.id.weight[0].any()
    assert not model.item.tag.weight[0].any()
    layer = model.qnn.layers[0]
    assert isinstance(layer, QuadraticLayer)
    fan_out, fan_in = layer.linear.weight.shape
    xavier = (2 / (fan_in + fan_out)) ** 0.5
    assert layer.linear.weight.std().item() == pytest.approx(xavier, rel=0.02)
    assert not layer.linear.bias.any()
    assert layer.activation.weight.numel() == 1


def test_the_penalty_covers_every_table_and_the_content_map_alone() -> None:
    model = QIN(small_config())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sorted(names[id(parameter)] for parameter in model.embedding_parameters()) == [
        "item.content.weight",
        "item.id.weight",
        "item.tag.weight",
        "likes_level.weight",
        "views_level.weight",
    ]


def test_hidden_ids_make_items_with_equal_content_equal() -> None:
    model = spread_weights(QIN(small_config())).eval()
    items = small_items()
    twin = ItemTable(*(torch.cat([c[:1], c[1:2].expand_as(c[1:])]) for c in items))
    hidden = twin._replace(id=torch.zeros_like(items.id))
    clicks = small_clicks()
    levels = torch.zeros_like(clicks.target)
    history = torch.zeros_like(clicks.history)
    clicks = Clicks(history, clicks.target, levels, levels, clicks.numbers)
    logits = model(clicks, hidden)
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))


def test_dropout_draws_a_mask_of_its_own_for_every_row() -> None:
    layer = QuadraticLayer(dim=400, rows=2, dropout=0.5)
    with torch.no_grad():
        layer.linear.weight.zero_()
        layer.linear.bias.fill_(1.0)
    values, counts = layer.gates(torch.ones(2, 400)).unique(return_counts=True)
    assert values.tolist() == [0.0, 2.0, 4.0]  # no row kept, one of two, both (each scaled by 2)
    assert counts[1] > counts[0]
    assert counts[1] > counts[2]


def test_collapsed_rows_share_one_mask() -> None:
    layer = QuadraticLayer(dim=400, rows=3, dropout=0.5, collapsed=True)
    with torch.no_grad():
        layer.linear.weight.zero_()
        layer.linear.bias.fill_(1.0)
    assert layer.gates(torch.ones(2, 400)).unique().tolist() == [0.0, 6.0]


def test_without_dropout_collapsed_rows_are_the_published_ones() -> None:
    published = spread_weights(QIN(small_config())).train()
    collapsed = QIN(replace(small_config(), collapsed=True)).double().train()
    collapsed.load_state_dict(published.state_dict())
    items, clicks = small_items(), small_clicks()
    direction = torch.randn(12, dtype=torch.float64)
    for model in (published, collapsed):
        (model(clicks, items) * direction).sum().backward()
    for name, parameter in published.named_parameters():
        other = collapsed.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, other, rtol=1e-10, atol=1e-12, msg=name)


def test_a_table_at_hand_changes_nothing() -> None:
    model = spread_weights(QIN(small_config(neighbors=True))).eval()
    items, clicks = small_items(), small_clicks()
    found = model(clicks, items, model.item_table(items))
    torch.testing.assert_close(found, model(clicks, items), rtol=1e-12, atol=1e-12)
