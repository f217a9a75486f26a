from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from ctr import predict, train
from ctr.models.base import Clicks, ItemTable
from ctr.models.layers import Dropout
from ctr.models.transformer_dcn import TransformerDCN, TransformerDCNConfig
from pipeline.common import paths
from pipeline.common.files import read_json
from pipeline.settings.ctr.training import NUMBERS
from pipeline.settings.params import Params
from tests.support.references import fit_float64
from tests.support.references.transformer_dcn import reference_transformer_dcn
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
from tests.support.worlds.tiny_world import (
    NEARLY_TIED,
    forget_accelerator,
    keep_rows,
    rescored,
    tiny_params,
    write_params,
)

SMALL = TransformerDCNConfig(
    items=ITEMS,
    tags=TAGS,
    levels=LEVELS,
    content_dim=CONTENT,
    embedding_dim=4,
    layers=2,
    heads=2,
    width=6,
    feedforward=5,
    last=3,
    cross_layers=2,
    tower=(7, 5),
    encoder_dropout=0.0,
    dropout=0.0,
    neighbors=True,
    numbers=3,
    numbers_dim=4,
)
TINY = {"layers": 1, "heads": 2, "width": 8, "feedforward": 8, "last": 3, "tower": [8]}


def tiny_transformer(**settings: Any) -> Params:
    base = tiny_params().train.transformer_dcn.model_dump()
    return tiny_params(model="transformer_dcn", transformer_dcn=base | TINY, **settings)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


def small_model(config: TransformerDCNConfig = SMALL) -> TransformerDCN:
    return spread_weights(TransformerDCN(config)).eval()


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("config", [SMALL, replace(SMALL, neighbors=False, last=10, numbers=0)])
def test_outputs_and_gradients_agree_with_the_formulas(
    training: bool, config: TransformerDCNConfig
) -> None:
    model = small_model(config).train(training)
    items, clicks = small_items(), small_clicks()
    weights = weights_of(model)
    expected = reference_transformer_dcn(weights, clicks, items, config, training)
    found = model(clicks, items)
    assert_close(found, expected, 1e-9)
    assert_gradients_agree(model, weights, found, expected, 1e-8)


def test_scoring_gives_what_training_sees() -> None:
    """Without gradients torch takes another way through an encoder layer."""
    model, items, clicks = small_model(), small_items(), small_clicks()
    expected = model(clicks, items)
    with torch.inference_mode(), model.frozen():
        assert_close(model(clicks, items, model.item_table(items)), expected)
        assert_close(model(clicks, items), expected)


def test_padding_on_the_left_changes_nothing() -> None:
    model, items, clicks = small_model(), small_items(), small_clicks()
    padding = torch.zeros(len(clicks.target), 5, dtype=torch.long)
    longer = clicks._replace(history=torch.cat([padding, clicks.history], dim=1))
    assert_close(model(longer, items), model(clicks, items))


def test_padding_may_stand_anywhere_before_the_last_positions() -> None:
    model, items, clicks = small_model(), small_items(), small_clicks(batch=2)
    apart = torch.tensor([[4, 0, 7, 0, 9, 2, 5], [0, 0, 8, 0, 1, 1, 3]])
    together = torch.tensor([[0, 0, 4, 7, 9, 2, 5], [0, 0, 0, 8, 1, 1, 3]])
    found, expected = (model(clicks._replace(history=h), items) for h in (apart, together))
    assert_close(found, expected)


def test_order_counts_at_the_last_positions_alone() -> None:
    model, items, clicks = small_model(), small_items(), small_clicks(batch=1)
    found, earlier, later = (
        model(clicks._replace(history=torch.tensor([history])), items)
        for history in ([4, 7, 9, 2, 5], [7, 4, 9, 2, 5], [4, 7, 9, 5, 2])
    )
    assert_close(earlier, found)
    assert (later - found).abs() > 1e-3


def test_a_history_of_padding_alone_tells_nothing() -> None:
    model = small_model()
    items = small_items()
    found = model.pairs(
        torch.tensor([3, 8]), torch.zeros(2, 5, dtype=torch.long), model.item_table(items)
    )
    assert found.shape == (2, 4 * 6)
    assert not found.any()


def test_every_row_shows_the_encoder_a_position() -> None:
    """Softmax over none is NaN in some of torch's kernels, and zeros in others."""
    model, items, clicks = small_model(), small_items(), small_clicks()
    seen = []
    model.pairs.encoder.register_forward_pre_hook(
        lambda _module, _inputs, options: seen.append(options["src_key_padding_mask"]),
        with_kwargs=True,
    )
    model(clicks, items)
    (hidden,) = seen
    empty = (clicks.history == 0).all(1)
    assert empty.any()
    assert torch.equal(hidden[~empty], clicks.history[~empty] == 0)
    assert hidden[empty][:, :-1].all()
    assert not hidden[empty][:, -1].any()


def test_padding_alone_everywhere_trains() -> None:
    model = TransformerDCN(SMALL).train()
    items = ItemTable(*(c.float() if c.is_floating_point() else c for c in small_items()))
    clicks = small_clicks()._replace(history=torch.zeros(12, 8, dtype=torch.long))
    logits = model(clicks, items)
    logits.sum().backward()
    assert logits.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_items_of_a_batch_and_the_whole_table_give_the_same() -> None:
    model, items = small_model(), small_items()
    clicks = small_clicks(batch=3, history=4)
    many = Clicks(*(column.repeat(20, *[1] * (column.dim() - 1)) for column in clicks))
    assert_close(model(clicks, items), model(many, items)[:3])


def test_dropout_is_everywhere_but_on_the_attentions_weights() -> None:
    model = TransformerDCN(replace(SMALL, encoder_dropout=0.25, dropout=0.5))
    found = {name: m.p for name, m in model.named_modules() if isinstance(m, Dropout)}
    places = [f"pairs.encoder.layers.{n}.dropout{place}" for n in (0, 1) for place in ("", 1, 2)]
    assert found == dict.fromkeys(places, 0.25) | {"dcn.tower.3": 0.5, "dcn.tower.7": 0.5}
    assert not [m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]


def test_the_penalty_covers_every_table_and_the_content_map_alone() -> None:
    model = TransformerDCN(SMALL)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sorted(names[id(parameter)] for parameter in model.embedding_parameters()) == [
        "item.content.weight",
        "item.id.weight",
        "item.tag.weight",
        "likes_level.weight",
        "views_level.weight",
    ]


@pytest.mark.usefixtures("cpu", "world")
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_the_stages_train_it_and_predict_with_it(mixed_precision: str) -> None:
    params = tiny_transformer(epochs=12, patience=12, mixed_precision=mixed_precision)
    train.main(params.train)
    described = read_json(paths.MAIN.config)
    assert described["model"] == "transformer_dcn"
    assert described["config"]["width"] == 8
    assert described["config"]["encoder_dropout"] == params.train.transformer_dcn.dropout
    metrics = read_json(paths.MAIN.metrics)
    assert metrics["auc"] > 0.8
    forget_accelerator()
    if mixed_precision == "no":
        found = rescored(params.train.batch_size)["auc"]
        assert found == pytest.approx(metrics["auc"], abs=NEARLY_TIED)
    predict.main(params.predict)


@pytest.mark.usefixtures("cpu", "world")
def test_features_can_be_switched_off() -> None:
    """Every row looks the same, wherever it stands in a batch."""
    off = dict.fromkeys(tiny_params().train.features.model_dump(), False)
    assert spread_of_logits(off) < 1e-5
    config = read_json(paths.MAIN.config)["config"]
    assert (config["neighbors"], config["numbers"]) == (False, 0)


@pytest.mark.usefixtures("cpu", "world")
@pytest.mark.parametrize("seen", ["id", "tags", "content", "levels", *NUMBERS])
def test_a_feature_that_is_on_tells_rows_apart(seen: str) -> None:
    off = dict.fromkeys(tiny_params().train.features.model_dump(), False)
    assert spread_of_logits(off | {seen: True}) > 1e-2


def spread_of_logits(features: dict[str, bool]) -> float:
    """Of valid, after an epoch with these features."""
    trees = {"model": "lightgbm", "features": {"levels": True}}  # which must read something
    params = tiny_transformer(epochs=1, features=features, models={"trees": trees})
    train.main(params.train)
    predict.main(params.predict)
    return float(np.ptp(pd.read_parquet(paths.logits_path("main", "valid"))["logit"]))


@pytest.mark.usefixtures("cpu", "world")
def test_several_processes_learn_as_one_does(tmp_path: Path) -> None:
    """In float64, dropout and a last batch of 11 rows included: equal but for rounding."""
    write_params(tiny_transformer(epochs=2, batch_size=160, dropout=0.3))
    keep_rows("train", 320 + 11)
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    fit_float64.fit(alone)
    fit_float64.fit_together(4, together)
    fit_float64.assert_equal_but_for_rounding(alone, together, epochs=2)
