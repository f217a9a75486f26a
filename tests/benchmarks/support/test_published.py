import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.support import published
from benchmarks.support.measuring import Stopwatch
from benchmarks.support.published import (
    ClickRows,
    Collator,
    PublishedTrainer,
    endless,
    load_items,
    open_loader,
)
from benchmarks.support.published_qin import Batch, PublishedQIN, TargetAttention
from benchmarks.support.training_world import write_world
from ctr.models.base import Clicks, ItemTable
from ctr.models.qin import QIN, QINConfig
from pipeline.common import paths
from pipeline.common.files import write_array
from pipeline.tables.split import Split
from tests.support.references.qin import reference_qin

ITEMS, TAGS, CONTENT, HISTORY, ROWS = 30, 9, 6, 8, 24
CONFIG = QINConfig(
    items=ITEMS,
    tags=TAGS,
    content_dim=CONTENT,
    embedding_dim=5,
    attention_dim=7,
    layers=3,
    rows=4,
    dropout=0.0,
)
PADDED = ("item.id.weight", "item.tag.weight")
REGULARISED = (*PADDED, "item.content.weight", "likes_level.weight", "views_level.weight")


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny world; the first history is of padding alone, item 3 has no tags."""
    monkeypatch.chdir(tmp_path)
    write_world(ITEMS, TAGS, train_rows=ROWS, valid_rows=2, history=HISTORY, content_dim=CONTENT)
    rows, tags = np.load(paths.split_path("train")), np.load(paths.TAGS)
    rows[0, :HISTORY] = 0
    rows[1, [HISTORY - 1, HISTORY]] = 3
    tags[3] = 0
    write_array(paths.split_path("train"), rows)
    write_array(paths.TAGS, tags)
    torch.manual_seed(7)


def batch(history: int = HISTORY) -> Batch:
    """All rows of train, in order, in float64."""
    clicks = ClickRows("train", history)
    found = Collator(load_items())([clicks[row] for row in range(len(clicks))])
    return found._replace(item_emb_d128=found.item_emb_d128.double(), label=found.label.double())


def spread_model() -> PublishedQIN:
    """Weights of order one everywhere, so that no term is too small to show a fault."""
    model = PublishedQIN(CONFIG)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3)
            if name in PADDED:
                parameter[0] = 0
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.get_buffer("running_mean").normal_()
                module.get_buffer("running_var").uniform_(0.5, 2)
    return model.double()


def leaves(model: PublishedQIN) -> dict[str, Tensor]:
    """A copy of the model's state to differentiate by."""
    return {
        name: value.detach().clone().requires_grad_(value.is_floating_point())
        for name, value in model.state_dict().items()
    }


def reference_logits(weights: dict[str, Tensor], training: bool) -> Tensor:
    """Logits (ROWS,) of all rows of train, from the files themselves."""
    split = Split.load("train")
    items = ItemTable(
        torch.arange(ITEMS + 1),
        torch.from_numpy(np.load(paths.TAGS)),
        torch.from_numpy(np.load(paths.ITEM)).double(),
        torch.zeros(ITEMS + 1, 0, dtype=torch.int32),
        torch.zeros(ITEMS + 1, 0),
    )
    levels = (split.column("likes_level"), split.column("views_level"))
    columns = (np.array(column) for column in (split.history, split.target, *levels))
    history, target, likes, views = map(torch.from_numpy, columns)
    clicks = Clicks(history, target, likes, views, torch.empty(ROWS, 0))
    return reference_qin(weights, clicks, items, CONFIG.layers, CONFIG.rows, training)


def assert_gradients_agree(model: PublishedQIN, weights: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        expected = weights[name].grad
        assert parameter.grad is not None, name
        assert expected is not None, name
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_agree_with_the_formulas(training: bool) -> None:
    model = spread_model().train(training)
    weights = leaves(model)
    expected = reference_logits(weights, training)
    found = model(batch())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    direction = torch.randn(ROWS, dtype=torch.float64)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    assert_gradients_agree(model, weights)


def test_the_mask_hides_positions() -> None:
    attention = TargetAttention(dim=6, attention_dim=4)
    target, history = torch.randn(2, 6), torch.randn(2, 5, 6)
    mask = torch.tensor([[False] * 5, [True, False, False, True, True]])
    found = attention(target, history, mask)
    assert torch.equal(found[0], target[0])
    seen = attention(target[1:], history[1:, [0, 3, 4]], mask[1:, [0, 3, 4]])
    torch.testing.assert_close(found[1:], seen)


def test_weights_load_into_qin_and_back() -> None:
    published, qin = PublishedQIN(CONFIG), QIN(CONFIG)
    qin.load_state_dict(published.state_dict(), strict=True)
    again = PublishedQIN(CONFIG)
    again.load_state_dict(qin.state_dict(), strict=True)
    for name, value in published.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_published_size() -> None:
    with torch.device("meta"):
        model = PublishedQIN(QINConfig(items=91_717, tags=11_740))
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_244_293


def reference_loss(weights: dict[str, Tensor], max_grad_norm: float) -> float:
    """The loss; leaves the clipped gradient, penalty included, in the weights' `grad`."""
    logits, label = reference_logits(weights, training=True), batch().label
    loss = -(label * logits.sigmoid().log() + (1 - label) * (-logits).sigmoid().log()).mean()
    squares = torch.stack([weights[name].square().sum() for name in REGULARISED])
    (loss + 0.5 / 2 * squares.sum()).backward()
    gradients = [weight.grad for weight in weights.values() if weight.grad is not None]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert (norm > max_grad_norm) == (max_grad_norm < 1)
    for gradient in gradients:
        gradient *= torch.clamp(max_grad_norm / (norm + 1e-6), max=1)  # as torch clips
    return loss.item()


@pytest.mark.parametrize("max_grad_norm", [0.1, 1000.0])
def test_a_step_penalises_whole_tables_and_clips(max_grad_norm: float) -> None:
    model = spread_model()
    weights = leaves(model)
    expected = reference_loss(weights, max_grad_norm)
    trainer = PublishedTrainer(model, embedding_regularizer=0.5, max_grad_norm=max_grad_norm)
    assert trainer.step(batch(), Stopwatch(torch.device("cpu"))) == pytest.approx(expected)
    assert_gradients_agree(model, weights)
    for name, parameter in model.named_parameters():
        gradient = weights[name].grad
        assert gradient is not None
        step = 2e-3 * gradient / (gradient.abs() + 1e-8)  # Adam's first: nearly the sign
        torch.testing.assert_close(parameter, weights[name] - step, msg=name)


@pytest.mark.parametrize("history", [HISTORY, 3])
def test_the_collator_gives_every_position_its_features(history: int) -> None:
    tags, content = np.load(paths.TAGS), np.load(paths.ITEM)
    log, rows = ClickRows("train", history), Split.load("train").rows[[5, 0, 7]]
    found = Collator(load_items())([log[row] for row in (5, 0, 7)])
    positions = rows[:, HISTORY - history : HISTORY + 1]  # the last of the history, then the target
    ids = positions.ravel().tolist()
    assert found.item_id.tolist() == ids
    assert found.item_tags.tolist() == [tags[item].tolist() for item in ids]
    assert found.item_emb_d128.tolist() == [content[item].tolist() for item in ids]
    assert found.mask.tolist() == (positions[:, :-1] > 0).tolist()
    assert not found.mask[1].any()
    likes, views, label = rows[:, HISTORY + 1 : HISTORY + 4].T.tolist()
    assert found.likes_level.tolist() == likes
    assert found.views_level.tolist() == views
    assert found.label.tolist() == label
    float32, int64 = torch.float32, torch.int64
    dtypes = [int64, int64, float32, int64, int64, float32, torch.bool]
    assert [column.dtype for column in found] == dtypes


def test_a_history_longer_than_the_data_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="expected histories of 9 or more, found 8"):
        ClickRows("train", HISTORY + 1)


def test_every_epoch_has_all_rows_in_an_order_of_its_own() -> None:
    batches = endless(open_loader(batch_size=10, history=HISTORY, workers=0))
    epochs = [[next(batches) for _ in range(3)] for _ in range(2)]
    assert [len(each.label) for each in epochs[0]] == [10, 10, 4]
    targets = [torch.cat([each.item_id.view(-1, HISTORY + 1) for each in e]) for e in epochs]
    expected = sorted(Split.load("train").rows[:, : HISTORY + 1].tolist())
    assert [sorted(target.tolist()) for target in targets] == [expected, expected]
    assert not torch.equal(*targets)


@pytest.mark.parametrize("bf16", [True, False])
def test_bf16_is_the_precision_of_products_alone(bf16: bool) -> None:
    model, seen = PublishedQIN(CONFIG), []
    model.qnn.out.register_forward_hook(lambda _module, _inputs, out: seen.append(out.dtype))
    single = batch()
    single = single._replace(item_emb_d128=single.item_emb_d128.float(), label=single.label.float())
    loss = PublishedTrainer(model, bf16=bf16).step(single, Stopwatch(torch.device("cpu")))
    assert np.isfinite(loss)
    assert seen == [torch.bfloat16 if bf16 else torch.float32]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.usefixtures("cpu")
def test_the_command_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--steps", "2", "--batch-size", "8", "--history", "4", "--threads", "1"]
    options += ["--precision", "bf16", "--json", "found.json"]
    monkeypatch.setattr(sys, "argv", ["published", *options])
    published.main()
    found = json.loads((tmp_path / "found.json").read_text())
    seconds = found["seconds"]
    assert list(seconds) == ["backward", "data", "forward", "optimizer"]
    assert min(seconds.values()) > 0
    assert found["samples_per_s"] == pytest.approx(8 / sum(seconds.values()))
    assert found["loader_share"] == pytest.approx(seconds["data"] / sum(seconds.values()))
    assert 3e8 < found["peak_bytes"]["host"] < 3e9
    assert found["peak_bytes"]["device"] == 0
    assert len(found["losses"]) == 2
    assert all(np.isfinite(found["losses"]))
    assert (found["precision"], found["history"], found["threads"]) == ("bf16", 4, 1)
