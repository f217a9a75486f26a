"""QIN folded for one history against the model as it was trained."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctr.models.base import Clicks, ItemTable, items_read
from ctr.models.layers import BatchNorm
from ctr.models.qin import QIN, QINConfig
from pipeline.settings.ctr.training import Features
from serving.folded import FoldedQIN, scale_and_shift
from tests.support.worlds.small_world import (
    CONTENT,
    ITEMS,
    LEVELS,
    TAGS,
    small_items,
    spread_weights,
)
from tests.support.worlds.tiny_world import tiny_params

HISTORY, CANDIDATES = 8, 14
Request = tuple[Tensor, ...]
"""A history (L,); candidates, their levels (C,) and numbers (C, F)."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def config(**changes: Any) -> QINConfig:
    sizes: dict[str, Any] = {
        "embedding_dim": 5,
        "attention_dim": 7,
        "layers": 2,
        "rows": 3,
        "neighbors": True,
        "numbers": 3,
        "numbers_dim": 4,
        "dropout": 0.3,
    }
    shared = {"items": ITEMS, "tags": TAGS, "levels": LEVELS, "content_dim": CONTENT}
    return QINConfig(**shared | sizes | changes)


def request_of(numbers: int, history: int = HISTORY, candidates: int = CANDIDATES) -> Request:
    """Items twice in both, and the first candidate in the history."""
    items = torch.randint(1, ITEMS + 1, (history,))
    items[1::3] = items[: len(items[1::3])]
    asked = torch.randint(1, ITEMS + 1, (candidates,))
    asked[-1] = asked[0]
    if history:
        asked[0] = items[0]
    return (
        items,
        asked,
        torch.randint(0, LEVELS, (candidates,)),
        torch.randint(0, LEVELS, (candidates,)),
        torch.randn(candidates, numbers, dtype=torch.float64),
    )


@torch.no_grad()
def plain(model: QIN, items: ItemTable, request: Request) -> Tensor:
    """The history beside every candidate; some padding on the left, as rows have it."""
    history, candidates, *rest = request
    padded = torch.cat([history.new_zeros(3), history])
    clicks = Clicks(padded.expand(len(candidates), -1), candidates, *rest)
    return model.eval()(clicks, items)


@torch.no_grad()
def folded(model: QIN, items: ItemTable, request: Request) -> Tensor:
    return FoldedQIN(model, items)(*request)


def assert_the_same(found: Tensor, expected: Tensor) -> None:
    """Logits (C,) in float64."""
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("neighbors", [True, False])
@pytest.mark.parametrize("numbers", [0, 3])
def test_the_logits_of_the_trained_model(layers: int, neighbors: bool, numbers: int) -> None:
    model = spread_weights(
        QIN(config(layers=layers, neighbors=neighbors, numbers=numbers, rows=layers))
    )
    items, request = small_items(), request_of(numbers)
    assert_the_same(folded(model, items, request), plain(model, items, request))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    embedding=st.integers(1, 9),
    attention=st.integers(1, 9),
    width=st.integers(1, 5),
    history=st.integers(0, 12),
    candidates=st.integers(2, 9),
)
def test_sizes_of_every_kind(
    seed: int, embedding: int, attention: int, width: int, history: int, candidates: int
) -> None:
    torch.manual_seed(seed)
    sizes = {"embedding_dim": embedding, "attention_dim": attention, "numbers_dim": width}
    model, items = spread_weights(QIN(config(**sizes))), small_items()
    request = request_of(3, history, candidates)
    expected = plain(model, items, request)
    torch.testing.assert_close(folded(model, items, request), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("off", ["id", "tags", "content", "neighbors"])
def test_features_that_are_switched_off(off: str) -> None:
    features = Features(**tiny_params().train.features.model_dump() | {off: False})
    _, tags, content, neighbors, cosine = small_items()
    items = items_read(features, content, tags, neighbors, cosine)
    model = spread_weights(QIN(config(neighbors=items.neighbors.shape[1] > 0)))
    request = request_of(3)
    assert_the_same(folded(model, items, request), plain(model, items, request))


@pytest.mark.parametrize("layers", [1, 4])
def test_in_single_precision_as_near_as_the_trained_model_is(layers: int) -> None:
    """To what both are in double precision, which rounds next to nothing."""
    model, items = spread_weights(QIN(config(layers=layers))), small_items()
    request = request_of(3, candidates=200)
    exact = plain(model, items, request)
    *ids, numbers = request
    single = (*ids, numbers.float())
    model, items = model.float(), ItemTable(*(in_single(column) for column in items))
    rounding = (plain(model, items, single).double() - exact).abs().max()
    found = folded(model, items, single)
    assert found.dtype == torch.float32
    largest = exact.abs().max()
    assert rounding < 1e-4 * largest
    assert (found.double() - exact).abs().max() < 4 * rounding + 1e-6 * largest


def in_single(column: Tensor) -> Tensor:
    return column.float() if column.is_floating_point() else column


def test_a_history_of_padding_alone_is_an_empty_one() -> None:
    model, items = spread_weights(QIN(config())), small_items()
    _, *rest = request_of(3)
    empty, padding = torch.zeros(0, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    found = folded(model, items, (empty, *rest))
    assert_the_same(found, folded(model, items, (padding, *rest)))
    assert_the_same(found, plain(model, items, (padding, *rest)))


def test_padding_on_the_left_changes_nothing() -> None:
    model, items = spread_weights(QIN(config())), small_items()
    history, *rest = request_of(3)
    padded = torch.cat([history.new_zeros(5), history])
    found = folded(model, items, (padded, *rest))
    assert_the_same(found, folded(model, items, (history, *rest)))


@torch.no_grad()
def test_a_history_is_read_once_for_candidates_that_do_not_see_each_other() -> None:
    model, items = spread_weights(QIN(config())), small_items()
    history, *rest = request_of(3)
    scorer = FoldedQIN(model, items)
    read, expected = scorer.read(history), plain(model, items, (history, *rest))
    for place in range(CANDIDATES):
        one = (column[place : place + 1] for column in rest)
        assert_near(scorer.score(read, *one), expected[place : place + 1])
    order = torch.randperm(CANDIDATES)
    assert_the_same(scorer.score(read, *(column[order] for column in rest)), expected[order])


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_trained_model_is_left_as_it_was() -> None:
    model, items = spread_weights(QIN(config())), small_items()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded(model, items, request_of(3))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_batch_norm_is_a_scale_and_a_shift() -> None:
    norm = BatchNorm(6).double().eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        assert tensor is not None
        tensor.data.normal_()
    norm.get_buffer("running_var").uniform_(0.1, 3)
    rows = torch.randn(9, 6, dtype=torch.float64)
    scale, shift = scale_and_shift(norm)
    torch.testing.assert_close(rows * scale + shift, norm(rows), rtol=1e-12, atol=1e-12)
