"""What valid may tell the ranking model: its AUC, once an epoch, and nothing else.

By it `train` keeps an epoch, stops, and halves the learning rate. Given the same AUCs, or as long
as the rates are the same, curves and weights keep their bytes whatever valid holds.
"""

import shutil
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from ctr import blend, companions, predict
from pipeline import ingest
from pipeline.common import paths
from tests.whole.leakage.changes import LABELS, ROWS, everything, flip_labels
from tests.whole.leakage.worlds import Change, Run, change_splits

AUCS = (0.6, 0.7, 0.65, 0.66, 0.8)
"""Of each epoch: better, and twice no better, after which the rate is halved."""
RATES = ["0.01", "0.01", "0.01", "0.005", "0.0025"]
OF_TRAIN = ["epoch", "learning_rate", "train_loss"]


def weights(run: Run) -> bytes:
    return (run.work / paths.MAIN.weights).read_bytes()


def curve(run: Run) -> pd.DataFrame:
    """Digits as they were written."""
    return pd.read_csv(run.work / paths.MAIN.curve, dtype=str)


@pytest.fixture(scope="module")
def reference(reference: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy to train in."""
    work = tmp_path_factory.mktemp("trained") / "work"
    shutil.copytree(reference.work, work)
    return Run(reference.raw, work, reference.seed)


@pytest.fixture(scope="module")
def trained(reference: Run) -> tuple[bytes, pd.DataFrame]:
    """Weights and curve of the undisturbed world, by the script."""
    reference.train(AUCS, epochs=len(AUCS))
    assert curve(reference)["learning_rate"].tolist() == RATES
    return weights(reference), curve(reference)


@pytest.mark.parametrize("change", [*LABELS, *ROWS, everything], ids=lambda change: change.__name__)
def test_given_its_aucs_valid_changes_no_weight(
    reference: Run,
    trained: tuple[bytes, pd.DataFrame],
    copied: Callable[[Run], Run],
    change: Change,
) -> None:
    run = copied(reference)
    change_splits(run.raw, change)
    run.stages(ingest, companions)
    run.train(AUCS, epochs=len(AUCS))
    pd.testing.assert_frame_equal(curve(run)[OF_TRAIN], trained[1][OF_TRAIN])
    assert not curve(run)["logloss"].equals(trained[1]["logloss"]) or change.__name__ in UNSCORED
    assert weights(run) == trained[0]


UNSCORED = ("swap_users",)
"""Changes that no logloss sees."""


def test_epoch_by_epoch(reference: Run, copied: Callable[[Run], Run], long: bool) -> None:
    """The weights after each epoch, since the last of rising AUCs is the one that is kept."""
    run = copied(reference)
    change_splits(run.raw, everything)
    run.stages(ingest, companions)
    for epochs in range(1, 9 if long else 4):
        rising = [0.5 + 0.01 * epoch for epoch in range(epochs)]
        for each in (reference, run):
            each.train(rising, epochs=epochs)
        assert weights(run) == weights(reference)
        assert len(curve(run)) == epochs


def test_with_its_own_aucs_valid_sets_the_rate_alone(
    reference: Run, copied: Callable[[Run], Run], long: bool
) -> None:
    """Nothing is scripted: losses part in the first epoch that has another rate, not before."""
    reference.train(epochs=8, patience=8)
    before = curve(reference)
    parted = 0
    for seed in range(20 if long else 2):
        run = copied(reference)
        change_splits(run.raw, flip_labels if seed == 0 else everything, seed)
        run.stages(ingest, companions)
        run.train(epochs=8, patience=8)
        after = curve(run)
        same = (after["learning_rate"] == before["learning_rate"]).cummin()
        assert same[1], "the first two epochs have the first rate"
        pd.testing.assert_series_equal(after["train_loss"][same], before["train_loss"][same])
        parted += not same.all()
    assert parted, "no change of valid has reached the schedule"


def test_where_the_rate_is_at_its_floor_valid_chooses_an_epoch_alone(
    reference: Run, copied: Callable[[Run], Run]
) -> None:
    settings: dict[str, Any] = {"learning_rate": 1e-6, "epochs": 4, "patience": 4}
    reference.train(**settings)
    run = copied(reference)
    change_splits(run.raw, flip_labels)
    run.stages(ingest, companions)
    run.train(**settings)
    pd.testing.assert_frame_equal(curve(run)[OF_TRAIN], curve(reference)[OF_TRAIN])
    assert curve(run)["auc"].astype(float).sum() == pytest.approx(
        4 - curve(reference)["auc"].astype(float).sum()
    )


def test_labels_of_valid_and_test_change_no_prediction_of_a_model(
    reference: Run, trained: tuple[bytes, pd.DataFrame], copied: Callable[[Run], Run]
) -> None:
    assert trained
    reference.stages(predict)
    run = copied(reference)
    change_splits(run.raw, flip_labels)
    run.stages(ingest, companions, predict)
    for split in ("valid", "test"):
        path = paths.logits_path("main", split)
        assert (run.work / path).read_bytes() == (reference.work / path).read_bytes()


def test_where_one_model_is_left_to_choose_labels_change_no_prediction(
    reference: Run, trained: tuple[bytes, pd.DataFrame], copied: Callable[[Run], Run]
) -> None:
    """`blend` reads valid's labels to choose models by its AUC, and for nothing else."""
    assert trained
    reference.stages(predict, blend)
    run = copied(reference)
    change_splits(run.raw, flip_labels)
    run.stages(ingest, companions, predict, blend)
    for split in ("valid", "test"):
        path = paths.predictions_path(split)
        assert (run.work / path).read_bytes() == (reference.work / path).read_bytes()
    before, after = ((each.work / paths.BLEND_METRICS).read_bytes() for each in (reference, run))
    assert before != after


def test_the_comparison_sees_a_change_of_train(
    reference: Run, trained: tuple[bytes, pd.DataFrame], copied: Callable[[Run], Run]
) -> None:
    run = copied(reference)
    change_splits(run.raw, flip_labels, splits=("train",))
    run.stages(ingest, companions)
    run.train(AUCS, epochs=len(AUCS))
    assert weights(run) != trained[0]
    assert not curve(run)["train_loss"].equals(trained[1]["train_loss"])
