"""Boosted trees on numbers that are made up here, beside LightGBM's own plain use."""

import re
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from ctr.boosting.forest import leaves
from ctr.boosting.rows import Data
from ctr.boosting.training import Grown, grow
from ctr.evaluation.metrics import gauc
from pipeline.common.files import InputError
from pipeline.settings.ctr.train import Train
from tests.support.worlds.tiny_world import tiny_params

pytestmark = pytest.mark.usefixtures("cpu")

TREES: dict[str, Any] = {
    **{"trees": 60, "patience": 60, "learning_rate": 0.2, "leaves": 7, "min_rows": 20},
    **{"l2": 3.0, "columns": 1.0, "bins": 63},
}
COLUMNS = 6


def settings(seed: int = 5, **changes: Any) -> Train:
    return tiny_params(model="lightgbm", seed=seed, lightgbm=TREES | changes).train


def made_up(rows: int = 900, seed: int = 3) -> Data:
    """Three of the columns tell of the label, two of them only together."""
    random = np.random.default_rng(seed)
    numbers = {}
    labels = {}
    for split, count in (("train", rows), ("valid", rows // 3)):
        numbers[split] = random.normal(size=(count, COLUMNS)).astype(np.float32)
        first, second, third = numbers[split].T[:3]
        chance = 1 / (1 + np.exp(-(first + 2 * second * third)))
        labels[split] = (random.random(count) < chance).astype(np.int32)
    names = [f"number_{place}" for place in range(COLUMNS)]
    return Data(numbers.__getitem__, names, labels, random.integers(0, 20, rows // 3))


def grown(data: Data, **changes: Any) -> Grown:
    return grow(lightgbm, data, settings(**changes))


def splits_by_tree(text: str) -> list[set[int]]:
    """The columns that each tree splits by."""
    found = re.findall(r"^split_feature=(.*)$", text, re.MULTILINE)
    return [set(map(int, columns.split())) for columns in found]


def test_the_trees_are_lightgbms_own() -> None:
    data = made_up()
    found = grown(data)
    plain = {
        **{"objective": "binary", "learning_rate": 0.2, "num_leaves": 7, "lambda_l2": 3.0},
        **{"min_data_in_leaf": 20, "max_bin": 63, "num_threads": 1, "verbosity": -1},
    }
    train = lightgbm.Dataset(data.read("train"), data.label["train"])
    expected = lightgbm.train(plain, train, 60)
    valid = data.read("valid")
    for entry in found.curve:
        trees = int(entry["epoch"])
        probability = expected.predict(valid, num_iteration=trees)
        assert isinstance(probability, np.ndarray)
        label = data.label["valid"]
        assert entry["auc"] == pytest.approx(roc_auc_score(label, probability), rel=1e-12)
        assert entry["gauc"] == gauc(label, probability, data.user)
        assert entry["logloss"] == pytest.approx(log_loss(label, probability), rel=1e-12)
        on_train = expected.predict(data.read("train"), num_iteration=trees)
        assert entry["train_loss"] == pytest.approx(log_loss(data.label["train"], on_train), 1e-6)
        assert entry["learning_rate"] == 0.2
    assert [entry["epoch"] for entry in found.curve] == [10, 20, 30, 40, 50, 60]
    saved = lightgbm.Booster(model_str=found.text)
    np.testing.assert_array_equal(
        saved.predict(valid), expected.predict(valid, num_iteration=found.best_epoch)
    )
    assert saved.feature_name() == data.names


def test_the_best_number_of_trees_is_kept_and_patience_ends() -> None:
    found = grown(made_up(), trees=500, patience=30)
    aucs = [entry["auc"] for entry in found.curve]
    assert found.best_epoch == 10 * (1 + int(np.argmax(aucs)))
    assert 10 < found.best_epoch < 470
    assert found.curve[-1]["epoch"] == found.best_epoch + 30
    kept = lightgbm.Booster(model_str=found.text)
    assert kept.num_trees() == found.best_epoch
    table = kept.trees_to_dataframe()
    assert found.parameters == leaves(found.text) == table["left_child"].isna().sum()
    assert found.at == f"with {found.best_epoch} of {found.best_epoch + 30} trees"


def test_the_last_trees_are_scored_as_well() -> None:
    assert [entry["epoch"] for entry in grown(made_up(), trees=13).curve] == [10, 13]


def test_each_tree_draws_columns_of_its_own() -> None:
    by_tree = splits_by_tree(grown(made_up(), columns=0.5, trees=300, patience=300).text)
    assert max(map(len, by_tree)) == COLUMNS // 2
    drawn = [frozenset(columns) for columns in by_tree if len(columns) == COLUMNS // 2]
    assert len(set(drawn)) > 12  # of the 20 ways to take three of six
    assert set.union(*by_tree) == set(range(COLUMNS))


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    found = [grown(made_up(), columns=0.5, seed=seed).text for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert splits_by_tree(found[0]) != splits_by_tree(found[2])


def test_threads_change_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr("ctr.boosting.forest.threads", lambda count=threads: count)
        found.append(grown(made_up(), columns=0.5).text.split("parameters:")[0])
    assert found[0] == found[1] == found[2]


def test_it_ends_where_no_split_gains_anything() -> None:
    """A column that is the label: in the end no row is doubted any more."""
    data = made_up()
    for split in ("train", "valid"):
        data.read(split)[:, 0] = data.label[split]
    found = grown(data, learning_rate=0.9, trees=1000, patience=1000, l2=0.0)
    assert found.curve[-1]["epoch"] < 100
    assert [entry["auc"] for entry in found.curve] == [1.0] * len(found.curve)
    assert found.best_epoch == 10


@pytest.mark.parametrize("min_rows", [451, 901])
def test_rows_that_cannot_be_split_are_refused(min_rows: int) -> None:
    message = r"train.npy: found no split of its 900 rows, .* with \d+ or more .* lower lightgbm"
    with pytest.raises(InputError, match=message):
        grown(made_up(), min_rows=min_rows)


def test_columns_that_tell_nothing_apart_are_refused() -> None:
    data = made_up()
    data.read("train")[:] = 3
    with pytest.raises(InputError, match=r"found no split of its 900 rows"):
        grown(data)


def test_labels_of_one_class_are_refused() -> None:
    data = made_up()
    data.label["train"][:] = 1
    with pytest.raises(InputError, match=r"900 rows, of which 900 are clicks"):
        grown(data)
    data.label["valid"][:] = 0
    with pytest.raises(InputError, match=r"valid.npy: all labels are 0; AUC"):
        grown(data)
