"""Predictions of a model that was trained for one epoch on the tiny world."""

from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from ctr import predict, train
from ctr.boosting.rows import read_rows
from ctr.engine.data import ClickLog, load_items
from ctr.evaluation.metrics import auc
from ctr.models.qin import QIN, QINConfig
from pipeline.common import paths
from pipeline.common.files import InputError, read_array, read_json, write_array, write_json
from pipeline.settings.ctr.train import Train
from pipeline.tables.split import Split
from tests.support.terminal import bars
from tests.support.worlds.tiny_world import (
    ITEMS,
    NEARLY_TIED,
    TEST_ROWS,
    VALID_ROWS,
    contents,
    one_batch,
    tiny_params,
)

pytestmark = pytest.mark.usefixtures("cpu", "world", "trained")

PARAMS = tiny_params(epochs=1, predict={"batch_size": 40})
PREDICTIONS = [paths.logits_path("main", split) for split in ("valid", "test")]


@pytest.fixture
def trained() -> None:
    train.main(PARAMS.train)


def reference_logits(split: str, cpu: torch.device) -> np.ndarray:
    """float64 (n,): the saved model, one row at a time."""
    model = QIN(QINConfig(**read_json(paths.MAIN.config)["config"]))
    model.load_state_dict(load_file(paths.MAIN.weights))
    model.eval()
    items = load_items(PARAMS.train.features, cpu)
    log = ClickLog.load(split, PARAMS.train.history, PARAMS.train.features, cpu)
    with torch.no_grad():
        logits = [
            float(model(one_batch(log, torch.tensor([row]))[0], items)) for row in range(len(log))
        ]
    return np.array(logits)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_logits_are_the_saved_models(split: str, cpu: torch.device) -> None:
    predict.main(PARAMS.predict)
    table = pd.read_parquet(paths.logits_path("main", split))
    assert table.columns.tolist() == ["ID", "logit"]
    assert table["logit"].dtype == np.float32
    expected = reference_logits(split, cpu)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(table["logit"], expected, rtol=1e-4, atol=1e-5)


def test_ids_are_tests_own_and_valids_row_numbers() -> None:
    predict.main(PARAMS.predict)
    valid, test = (pd.read_parquet(path) for path in PREDICTIONS)
    assert valid["ID"].tolist() == list(range(VALID_ROWS))
    assert test["ID"].tolist() == np.load(paths.TEST_ID).tolist()
    assert len(set(test["ID"])) == TEST_ROWS


def test_the_models_own_settings_count_and_not_those_of_today(cpu: torch.device) -> None:
    other = tiny_params(history=2, embedding_dim=6, layers=1)
    predict.main(other.predict)
    table = pd.read_parquet(paths.logits_path("main", "test"))
    np.testing.assert_allclose(table["logit"], reference_logits("test", cpu), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", [paths.ITEM, paths.TAGS, paths.NEIGHBORS])
def test_a_model_of_other_items_is_refused(path: Path) -> None:
    """Of the same sizes: nothing else would tell."""
    predict.main(PARAMS.predict)
    before = contents(PREDICTIONS)
    if path == paths.NEIGHBORS:
        with np.load(path) as file:
            np.savez(path, ids=file["ids"][::-1], cosine=file["cosine"])
    else:
        write_array(path, np.array(read_array(path))[::-1])
    with pytest.raises(InputError, match=f"model.safetensors: was trained on another {path} than"):
        predict.main(PARAMS.predict)
    assert contents(PREDICTIONS) == before


def hide_item_from_valid(item: int) -> None:
    """Put the item after it in its place, in every history and as a target."""
    rows = Split.load("valid").rows.copy()
    items = rows[:, : 1 - len(Split.TAIL)]  # a view: the history and the target
    items[items == item] = item + 1
    write_array(paths.split_path("valid"), rows)


def first_test_row_with(item: int) -> int:
    """The first row of test whose target, or the part of the history that is read, holds it."""
    columns = PARAMS.train.history + len(Split.TAIL)
    read = torch.tensor(Split.load("test").rows[:, -columns:])
    items = read[:, : 1 - len(Split.TAIL)]
    return int((items == item).any(1).nonzero()[0])


def test_a_score_that_is_not_finite_is_refused_and_nothing_is_written() -> None:
    predict.main(PARAMS.predict)
    before = contents(PREDICTIONS)
    item = next(item for item in range(1, ITEMS) if first_test_row_with(item) > 0)
    hide_item_from_valid(item)
    weights = load_file(paths.MAIN.weights)
    weights["item.id.weight"][item] = torch.nan
    save_file(weights, paths.MAIN.weights)
    row = first_test_row_with(item)
    with pytest.raises(
        InputError, match=rf"model\.safetensors: the score of test row {row} is not"
    ):
        predict.main(PARAMS.predict)
    assert contents(PREDICTIONS) == before
    assert {path.name for path in PREDICTIONS[0].parent.iterdir()} == {p.name for p in before}


class TestTrees:
    FILES = paths.model_files("trees")
    PREDICTIONS = tuple(paths.logits_path("trees", split) for split in ("valid", "test"))

    @pytest.fixture(autouse=True)
    def _grown(self, cpu: torch.device, world: Path) -> None:
        assert cpu
        assert world
        train.main(self.settings(), "trees")

    def settings(self) -> Train:
        base = tiny_params().train
        features = base.features.model_dump() | {"profile": False}
        sizes = base.lightgbm.model_dump() | {"trees": 30}
        return tiny_params(model="lightgbm", features=features, lightgbm=sizes).train

    @pytest.mark.parametrize("split", ["valid", "test"])
    def test_logits_are_the_saved_trees(self, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the features that they were trained with, whatever the settings say today."""
        monkeypatch.setattr("ctr.boosting.model.ROWS_AT_A_TIME", 7)
        with bars() as shown:
            predict.main(PARAMS.predict, "trees")
        scored = [(bar.n, bar.total) for bar in shown if bar.desc == "scoring"]
        assert scored == [(VALID_ROWS, VALID_ROWS), (TEST_ROWS, TEST_ROWS)]
        table = pd.read_parquet(paths.logits_path("trees", split))
        assert table.columns.tolist() == ["ID", "logit"]
        assert table["logit"].dtype == np.float32
        booster = lightgbm.Booster(model_file=self.FILES.trees)
        expected = booster.predict(read_rows(split, self.settings().features), raw_score=True)
        assert isinstance(expected, np.ndarray)
        assert expected.std() > 0.5
        np.testing.assert_allclose(table["logit"], expected, rtol=1e-6)
        ids = read_array(paths.TEST_ID) if split == "test" else np.arange(VALID_ROWS)
        assert table["ID"].tolist() == list(ids)

    def test_the_auc_of_valid_is_that_of_training(self) -> None:
        predict.main(PARAMS.predict, "trees")
        logits = pd.read_parquet(self.PREDICTIONS[0])["logit"].to_numpy()
        found = auc(Split.load("valid").label, logits)
        assert found == pytest.approx(read_json(self.FILES.metrics)["auc"], abs=NEARLY_TIED)

    @pytest.mark.parametrize("path", [paths.ITEM, paths.TAGS, paths.ROW_FEATURES])
    def test_trees_of_other_items_or_numbers_are_refused(self, path: Path) -> None:
        predict.main(PARAMS.predict, "trees")
        before = contents(self.PREDICTIONS)
        if path == paths.ROW_FEATURES:
            write_json(path, read_json(path) | {"mean": {}})
        else:
            write_array(path, np.array(read_array(path))[::-1])
        with pytest.raises(InputError, match=f"model.txt: was trained on another {path} than"):
            predict.main(PARAMS.predict, "trees")
        assert contents(self.PREDICTIONS) == before

    def test_a_file_that_is_no_model_is_refused(self) -> None:
        """Of a text that is cut LightGBM would end the process."""
        whole = self.FILES.trees.read_bytes()
        cut = (whole[: len(whole) // 2], whole[: whole.index(b"end of trees")])
        for content in (*cut, b"tree\nversion=v4\n\nend of trees\n", b"\xff", b""):
            self.FILES.trees.write_bytes(content)
            with pytest.raises(InputError, match=r"model.txt: is no model that LightGBM can read"):
                predict.main(PARAMS.predict, "trees")
