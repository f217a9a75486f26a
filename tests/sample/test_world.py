from dataclasses import replace

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from pipeline.common.paths import SPLITS
from sample.clicks import click_probability
from sample.world import Impressions, World, WorldConfig, build


def test_histories_grow_by_the_clicked_items_of_each_slate(small_world: World) -> None:
    read: dict[int, list[int]] = {}
    for split in SPLITS:
        rows = small_world.splits[split]
        for user in range(1, small_world.config.users + 1):
            of_user = np.flatnonzero(rows.user_id == user)
            for slate in of_user.reshape(-1, small_world.config.slate):
                start = rows.history[slate[0]]
                known = read.get(user, start[start > 0].tolist())
                expected = [0] * (100 - len(known)) + known
                assert rows.history[slate].tolist() == [expected] * len(slate)
                clicked = [int(rows.target[row]) for row in slate if rows.label[row]]
                read[user] = (known + clicked)[-100:]
            if split == "train":
                kept = small_world.train_history[user - 1]
                assert kept[kept > 0].tolist() == read[user]
    assert max(len(known) for known in read.values()) == 100


def test_padding_stands_on_the_left(world: World) -> None:
    for rows in world.splits.values():
        assert rows.history.shape == (len(rows), 100)
        assert (np.diff((rows.history > 0).astype(int), axis=1) >= 0).all()
        assert rows.history.max() <= len(world.items)


def test_sizes_and_click_rate(world: World) -> None:
    config = world.config
    slates = (config.train_slates, config.valid_slates, config.test_slates)
    assert {split: len(rows) for split, rows in world.splits.items()} == {
        split: config.users * config.slate * n for split, n in zip(SPLITS, slates, strict=True)
    }
    for rows in world.splits.values():
        assert 0.3 < rows.label.mean() < 0.4


def test_no_split_shows_its_own_labels(world: World) -> None:
    """Else a history in test could tell that an earlier target of test was clicked."""
    for split in ("valid", "test"):
        rows = world.splits[split]
        first, second = rows.history.reshape(2, -1, 100)
        np.testing.assert_array_equal(first, second)


def test_cold_items_wait_for_valid(world: World) -> None:
    cold, train = world.items.cold, world.splits["train"]
    assert not cold[train.target].any()
    assert not cold[train.history].any()
    assert not cold[world.train_history].any()
    for split in ("valid", "test"):
        share = cold[world.splits[split].target].mean()
        assert abs(share - world.config.cold_targets) < 0.02


def test_labels_are_drawn_with_their_probability(world: World) -> None:
    rows = world.splits["train"]
    for bin_rows in np.array_split(np.argsort(rows.probability), 20):
        probability = rows.probability[bin_rows]
        error = np.sqrt((probability * (1 - probability)).sum()) / len(bin_rows)
        assert abs(rows.label[bin_rows].mean() - probability.mean()) < 4 * error


def test_oracle_auc_counts_ordered_pairs(small_world: World) -> None:
    rows = small_world.splits["valid"]
    clicked, other = rows.probability[rows.label == 1], rows.probability[rows.label == 0]
    wins = [(p > q) + 0.5 * (p == q) for p in clicked for q in other]
    assert small_world.oracle_auc("valid") == pytest.approx(np.mean(wins))


def test_labels_all_alike_have_no_auc() -> None:
    world = build(WorldConfig(items=60, users=5, topics=8, bias=-50), seed=0)
    with pytest.raises(ValueError, match="valid: all labels are alike"):
        world.oracle_auc("valid")


@pytest.mark.parametrize("seed", [1, 2025])
def test_history_content_and_id_each_carry_signal(seed: int) -> None:
    world = build(WorldConfig(), seed)
    oracle = world.oracle_auc("valid")
    assert 0.88 < oracle < 0.93
    rows = world.splits["valid"]
    ablated = (
        replace(world.config, match_weight=0),
        replace(world.config, grade_weight=0),
        replace(world.config, appeal_weight=0),
    )
    for config in ablated:
        without = click_probability(config, world.items, rows.history, rows.target)
        assert oracle - roc_auc_score(rows.label, without) > 0.03, config


def id_and_features_of_a_set(world: World, rows: Impressions) -> np.ndarray:
    """(n, 4): what a model can know that reads the last 64 items without their order."""
    items, history = world.items, rows.history[:, -64:]
    affinity = items.affinity[items.topic[rows.target][:, None], items.topic[history]]
    near = (affinity * (history > 0)).sum(axis=1) / (4 + (history > 0).sum(axis=1))
    levels = (table[rows.target] / 2 for table in (items.grade, items.likes_level))
    return np.stack([rows.target, 6 * near, *levels], axis=1)


def test_a_model_of_train_comes_near_the_oracle(world: World) -> None:
    train, valid = world.splits["train"], world.splits["valid"]
    one_hot = OneHotEncoder(handle_unknown="ignore")
    model = make_pipeline(
        ColumnTransformer([("id", one_hot, [0])], remainder="passthrough"),
        LogisticRegression(max_iter=200),
    )
    model.fit(id_and_features_of_a_set(world, train), train.label)
    score = model.decision_function(id_and_features_of_a_set(world, valid))
    reached = roc_auc_score(valid.label, score) - 0.5
    assert 0.9 < reached / (world.oracle_auc("valid") - 0.5) < 1.0


def test_a_seed_makes_one_world(small_config: WorldConfig, small_world: World) -> None:
    again, other = build(small_config, 3), build(small_config, 4)
    for split in SPLITS:
        for field in ("history", "target", "probability", "label"):
            first = getattr(small_world.splits[split], field)
            np.testing.assert_array_equal(getattr(again.splits[split], field), first)
            assert not np.array_equal(getattr(other.splits[split], field), first)
    assert again.items.title == small_world.items.title != other.items.title
