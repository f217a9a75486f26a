import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from ctr.engine.data import ClickLog, load_items
from ctr.models.base import CTRModel
from ctr.models.qin import QIN
from gallery.page import attention as module
from gallery.page.attention import CPU, KINDS, Reader, attention, chosen_rows, sparsity, trained
from pipeline.common import paths
from pipeline.common.paths import predictions_path
from pipeline.tables.split import Split
from tests.support.references.qin import asta_weights, item_vector
from tests.support.worlds.tiny_world import ITEMS, TINY_SIZES, VALID_ROWS, one_batch

pytestmark = pytest.mark.usefixtures("run")

LENGTH = TINY_SIZES["history"]
assert isinstance(LENGTH, int)


def probabilities() -> np.ndarray:
    return pd.read_parquet(predictions_path("valid"))["probability"].to_numpy()


def reference(row: int) -> list[tuple[int, float]]:
    """(item, weight) of a row of valid, newest first, from the formulas."""
    model, settings = trained()
    items = load_items(settings.features, CPU)
    clicks, _ = one_batch(
        ClickLog.load("valid", settings.history, settings.features, CPU), torch.tensor([row])
    )
    state = model.state_dict()
    vectors = [item_vector(state, int(i), items) if i else None for i in clicks.history[0]]
    target = item_vector(state, int(clicks.target[0]), items)
    weights = asta_weights(state, target, vectors)
    pairs = zip(clicks.history[0].tolist(), weights, strict=True)
    return [(item, float(weight)) for item, weight in pairs if item][::-1]


def test_readers_have_the_weights_of_the_formulas() -> None:
    valid, probability = Split.load("valid"), probabilities()
    found = attention(valid, probability, 3, 1000, 5)
    assert found is not None
    length = (valid.history[:, -LENGTH:] > 0).sum(1)
    rows = chosen_rows(valid, probability, length, 3, 5)
    assert len(found.readers) == 3
    for reader, (row, kind) in zip(found.readers, rows.items(), strict=True):
        expected = reference(row)
        assert [item for item, _ in reader.places] == [item for item, _ in expected]
        assert [w for _, w in reader.places] == pytest.approx([w for _, w in expected], abs=1e-5)
        assert reader.zeros == sum(weight == 0 for _, weight in reader.places)
        assert reader.kind == kind.words
        assert reader.clicked == bool(valid.label[row])
        assert reader.target == valid.target[row]
        assert reader.probability == probability[row]


def test_readers_have_the_companions_of_the_file() -> None:
    """Also those that are older than what the model reads."""
    rng, kept = np.random.default_rng(5), 30
    ids = np.stack([rng.permutation(ITEMS)[:kept] + 1 for _ in range(ITEMS + 1)]).astype(np.int32)
    information = -np.sort(-rng.uniform(0, 4, ids.shape).astype(np.float32))
    np.savez(paths.COMPANIONS, ids=ids, information=information)
    valid, probability = Split.load("valid"), probabilities()
    found = attention(valid, probability, 6, 10, 5)
    assert found is not None
    assert found.kept == kept
    length = (valid.history[:, -LENGTH:] > 0).sum(1)
    rows, older = chosen_rows(valid, probability, length, 6, 5), 0
    for reader, row in zip(found.readers, rows, strict=True):
        told = dict(zip(ids[reader.target].tolist(), information[reader.target], strict=True))
        history = set(valid.history[row].tolist()) - {0}
        expected = sorted(history & set(told), key=lambda item: -told[item])[:3]
        assert reader.companions == [(item, told[item]) for item in expected]
        older += not {*expected} <= {item for item, _ in reader.places}
    assert older


def test_zeros_are_counted_over_all_rows() -> None:
    found = attention(Split.load("valid"), probabilities(), 1, 1000, 5)
    assert found is not None
    assert found.rows == VALID_ROWS
    weights = [[weight for _, weight in reference(row)] for row in range(VALID_ROWS)]
    flat = np.concatenate([np.array(row) for row in weights])
    # A score of nearly nothing may be rounded to either side of 0.
    assert found.zero_share == pytest.approx((flat == 0).mean(), abs=2.5 / len(flat))
    assert 0.05 < (flat == 0).mean() < 0.95
    read = [sum(weight > 0 for weight in row) for row in weights]
    assert found.median_read == pytest.approx(np.median(read), abs=0.5)


def test_fewer_rows_are_drawn_by_the_seed() -> None:
    valid, probability = Split.load("valid"), probabilities()
    first, same, *others = (attention(valid, probability, 1, 20, seed) for seed in (5, 5, 6, 7, 8))
    assert first == same
    assert [found and found.rows for found in (first, *others)] == [20] * 4
    assert len({found and found.zero_share for found in (first, *others)}) > 1


def test_the_rows_are_full_of_different_users_and_of_each_kind() -> None:
    valid, probability = Split.load("valid"), probabilities()
    length = (valid.history[:, -LENGTH:] > 0).sum(1)
    rows = chosen_rows(valid, probability, length, 6, 5)
    assert list(rows.values()) == [*KINDS, *KINDS]
    assert (length[list(rows)] == LENGTH).all()
    assert len(set(valid.user[list(rows)])) == 6
    for row, kind in list(rows.items())[:1]:
        rivals = probability[(length == LENGTH) & (valid.label == kind.label)]
        assert (rivals > probability[row]).mean() <= 0.1
    for row, kind in rows.items():
        assert valid.label[row] == kind.label


def test_a_missed_click_has_a_low_score() -> None:
    valid, probability = Split.load("valid"), probabilities()
    hit, missed = chosen_rows(valid, probability, np.ones(len(valid)), 2, 5)
    clicked = probability[valid.label == 1]
    assert (clicked > probability[hit]).mean() <= 0.1
    assert (clicked < probability[missed]).mean() <= 0.1


def test_kinds_that_do_not_occur_are_left_out() -> None:
    valid = Split.load("valid")
    negative = Split(np.array(valid.rows[valid.label == 0]))
    rows = chosen_rows(negative, np.linspace(0, 1, len(negative)), np.ones(len(negative)), 3, 5)
    assert [kind.label for kind in rows.values()] == [0]


def test_another_model_has_no_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    _, settings = trained()
    monkeypatch.setattr(module, "trained", lambda: (CTRModel(), settings))
    assert attention(Split.load("valid"), probabilities(), 3, 10, 5) is None


def test_boosted_trees_have_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_neural", lambda _: False)
    monkeypatch.delattr(module, "load_model")  # there are no weights
    assert attention(Split.load("valid"), probabilities(), 3, 10, 5) is None


def test_a_model_without_histories_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = trained()
    assert isinstance(model, QIN)
    blind = settings.model_copy(
        update={"features": settings.features.model_copy(update={"history": False})}
    )
    monkeypatch.setattr(module, "trained", lambda: (model, blind))
    found = attention(Split.load("valid"), probabilities(), 3, 10, 5)
    assert found is not None
    assert found.zero_share is None
    assert all(not reader.places for reader in found.readers)


def test_sparsity_by_hand() -> None:
    history = np.array([[0, 4, 5], [7, 8, 9]])
    weight = np.array([[0, 0.5, 0], [0, 0, 0.25]])
    assert sparsity(history, weight) == (2, 1 - 2 / 5, 1.0)


def test_only_zero_is_told_as_zero() -> None:
    reader = Reader("", 1, True, 0.5, [(1, 0.0428), (2, 0.0), (3, 0.00006), (4, 0.00004)], [])
    assert [reader.told(weight) for _, weight in reader.places] == [
        "0.0428",
        "0",
        "0.0001",
        "<0.0001",
    ]
    assert reader.zeros == 1
    large = dataclasses.replace(reader, places=[(1, 1234.5), (2, 0.2)])
    assert [large.told(weight) for _, weight in large.places] == ["1234", "<1"]


def test_a_single_longest_history_leaves_no_kind_out() -> None:
    """And no row is called missed that was scored high."""
    valid = Split.load("valid")
    length = np.arange(1, len(valid) + 1)
    probability = probabilities()
    rows = chosen_rows(valid, probability, length, 3, 5)
    assert list(rows.values()) == [*KINDS]
    for row, kind in rows.items():
        side = probability[row] - np.median(probability)
        assert side >= 0 if kind.high else side <= 0


def test_where_every_click_was_scored_high_none_was_missed() -> None:
    valid = Split.load("valid")
    clicked, others = np.flatnonzero(valid.label == 1), np.flatnonzero(valid.label == 0)
    few = Split(np.array(valid.rows[np.append(clicked[:2], others)]))
    rows = chosen_rows(few, few.label + 0.0, np.ones(len(few)), 2, 5)
    assert list(rows.values()) == [KINDS[0]]
