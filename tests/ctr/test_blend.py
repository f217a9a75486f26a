"""The choice of models on made-up logits, and the stage on models of the tiny world."""

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from ctr import blend, predict, train
from ctr.blend import Gain, choose, held_out_gain
from ctr.evaluation.metrics import auc
from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_array
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import (
    NEARLY_TIED,
    TEST_ROWS,
    VALID_ROWS,
    contents,
    forget_accelerator,
    on_cpu,
    tiny_params,
    write_world,
)

ROWS, USERS = 4000, 400
PREDICTIONS = [paths.predictions_path(split) for split in ("valid", "test")]
MODELS: dict[str, dict[str, Any]] = {
    "seed_7": {"seed": 7},
    "two": {"layers": 1, "features": {"levels": False}},
}


def made_up(noise: list[float], seed: int = 3, rows: int = ROWS) -> tuple[np.ndarray, Split]:
    """Logits (M, n) of the truth, each with noise of its own, and valid with its labels."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    valid = Split(np.zeros((rows, 1 + len(Split.TAIL)), np.int32))
    valid.label[:] = rng.random(rows) < expit(2 * truth)
    valid.user[:] = rng.integers(0, USERS, rows)
    return np.stack([truth + scale * rng.normal(size=rows) for scale in noise]), valid


def auc_of_mean(scores: np.ndarray, valid: Split, places: list[int]) -> float:
    found = auc(valid.label, scores[places].mean(0))
    assert found is not None
    return found


def test_the_best_comes_first_and_then_what_adds_most() -> None:
    scores, valid = made_up([1.2, 0.8, 1.0, 30.0])
    chosen = choose(scores, valid.label, min_gain=0.0001)
    assert chosen == [1, 2, 0]
    aucs = [auc_of_mean(scores, valid, chosen[:count]) for count in (1, 2, 3)]
    assert aucs == sorted(aucs)
    assert aucs[1] > auc_of_mean(scores, valid, [1, 0])
    assert auc_of_mean(scores, valid, [1, 2, 0, 3]) < aucs[2]


def test_min_gain_is_what_a_model_must_add() -> None:
    scores, valid = made_up([1.0, 1.0])
    first, *_ = choose(scores, valid.label, min_gain=0.5)
    gain = auc_of_mean(scores, valid, [0, 1]) - auc_of_mean(scores, valid, [first])
    assert choose(scores, valid.label, gain + 1e-9) == [first]
    assert sorted(choose(scores, valid.label, gain - 1e-9)) == [0, 1]


def test_more_of_the_same_adds_nothing() -> None:
    scores, valid = made_up([1.0])
    same = np.repeat(scores, 3, axis=0)
    assert choose(same, valid.label, min_gain=0.0) == [0]
    assert held_out_gain(same, valid, min_gain=0.0) == Gain(0.0, 0.0)


def test_the_held_out_gain_is_that_of_new_rows_within_its_error() -> None:
    """Over many small worlds: the mean is the truth, and the deviation the standard error."""
    scores, valid = made_up([1.5, 1.5], rows=200_000)
    truth = auc_of_mean(scores, valid, [0, 1]) - auc_of_mean(scores, valid, [0])
    found = np.array([held_out_gain(*made_up([1.5, 1.5], seed, 500), 0.0) for seed in range(30)])
    gain, error = found.mean(axis=0)
    assert truth > 0.04
    assert gain == pytest.approx(truth, abs=3 * error / 30**0.5)
    assert found[:, 0].std() == pytest.approx(error, rel=0.4)


def test_what_only_flatters_gains_nothing_held_out() -> None:
    """Models of pure noise: whichever valid likes, other users do not."""
    scores, valid = made_up([1e6] * 8)
    chosen = choose(scores, valid.label, 0.0)
    own = auc_of_mean(scores, valid, chosen) - auc_of_mean(scores, valid, chosen[:1])
    gain = held_out_gain(scores, valid, 0.0)
    assert gain.mean is not None
    assert gain.standard_error is not None
    assert own > 0.008
    assert abs(gain.mean) < min(gain.standard_error, own / 2)


def test_halves_share_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, valid = made_up([1.0, 1.0])
    halves = []

    def seen(*arguments: np.ndarray) -> float:
        halves.append((arguments[2].copy(), arguments[3].copy()))
        return 0.0

    monkeypatch.setattr(blend, "gain_there", seen)
    held_out_gain(scores, valid, 0.0)
    assert len(halves) == 2 * blend.HALVINGS
    for here, there in halves:
        assert (here ^ there).all()
        assert not set(valid.user[here]) & set(valid.user[there])
    assert len({here.tobytes() for here, _ in halves}) == len(halves)


def test_a_valid_that_cannot_be_halved_has_no_held_out_gain() -> None:
    scores, valid = made_up([1.0, 1.0])
    valid.user[:] = 5
    assert held_out_gain(scores, valid, 0.0) == Gain(None, None)


def test_labels_of_one_class_are_refused() -> None:
    scores, valid = made_up([1.0])
    valid.label[:] = 1
    with pytest.raises(InputError, match=r"data/valid\.npy: all labels are the same; AUC"):
        choose(scores, valid.label, 0.0)


STAGE = tiny_params(epochs=2, models=MODELS)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world and what its models have predicted."""
    folder = tmp_path_factory.mktemp("scored")
    with chdir(folder), on_cpu():
        write_world()
        for model in STAGE.ranking_models():
            forget_accelerator()
            train.main(STAGE.ranking_model(model), model)
            predict.main(STAGE.predict, model)
    return folder


class TestStage:
    PARAMS = STAGE

    @pytest.fixture(autouse=True)
    def _copied(self, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(shutil.copytree(scored, tmp_path, dirs_exist_ok=True))

    def test_the_mean_of_the_chosen_logits(self) -> None:
        blend.main(*self.PARAMS.arguments("blend"))
        metrics = read_json(paths.BLEND_METRICS)
        label, chosen = Split.load("valid").label, metrics["chosen"].split(" + ")
        assert set(metrics["model_auc"]) == {"main", "trees", *MODELS}
        for split, rows in (("valid", VALID_ROWS), ("test", TEST_ROWS)):
            logits = [pd.read_parquet(paths.logits_path(name, split)) for name in chosen]
            mean = np.mean([table["logit"].to_numpy(np.float64) for table in logits], axis=0)
            found = pd.read_parquet(paths.predictions_path(split))
            assert found.columns.tolist() == ["ID", "probability"]
            assert found["ID"].tolist() == logits[0]["ID"].tolist()
            assert len(found) == rows
            np.testing.assert_allclose(found["probability"], expit(mean), rtol=1e-12)
        valid = pd.read_parquet(PREDICTIONS[0])["probability"].to_numpy()
        assert metrics["auc"] == pytest.approx(auc(label, valid), abs=1e-12)
        for name, found_auc in metrics["model_auc"].items():
            trained_auc = read_json(paths.model_files(name).metrics)["auc"]
            assert found_auc == pytest.approx(trained_auc, abs=NEARLY_TIED)
        assert metrics["best_model_auc"] == max(metrics["model_auc"].values())
        assert metrics["auc"] >= metrics["best_model_auc"]

    def test_a_model_that_is_not_chosen_has_no_say(self) -> None:
        blend.main(
            *tiny_params(epochs=2, models=MODELS, blend={"min_gain": 0.5}).arguments("blend")
        )
        metrics = read_json(paths.BLEND_METRICS)
        aucs = metrics["model_auc"]
        assert metrics["chosen"] == max(aucs, key=lambda name: aucs[name])
        logits = pd.read_parquet(paths.logits_path(metrics["chosen"], "test"))["logit"]
        found = pd.read_parquet(PREDICTIONS[1])["probability"]
        np.testing.assert_allclose(found, expit(logits.astype(float)), rtol=1e-12)

    def test_models_differ_in_what_their_settings_say(self) -> None:
        trained = {name: read_json(paths.model_files(name).config) for name in ("main", *MODELS)}
        assert [each["train"]["seed"] for each in trained.values()] == [2025, 7, 2025]
        assert [each["config"]["layers"] for each in trained.values()] == [2, 2, 1]
        assert trained["two"]["train"]["features"] == {
            **trained["main"]["train"]["features"],
            "levels": False,
        }
        assert (Path("scratch") / "train@two").is_dir()

    def test_one_model_gives_its_own_probabilities(self) -> None:
        """And a folder that a model has left behind, of which the settings know no more, none."""
        blend.main(self.PARAMS.blend, ["main"])
        logits = torch.tensor(pd.read_parquet(paths.logits_path("main", "test"))["logit"])
        found = pd.read_parquet(PREDICTIONS[1])["probability"].to_numpy()
        np.testing.assert_allclose(found, logits.double().sigmoid().numpy(), rtol=1e-12)
        metrics = read_json(paths.BLEND_METRICS)
        assert metrics["chosen"] == "main"
        assert metrics["auc"] == metrics["best_model_auc"]
        assert metrics["held_out_gain"] == metrics["held_out_gain_se"] == 0
        assert list(metrics["model_auc"]) == ["main"]

    def test_trees_are_blended_as_any_model_is(self) -> None:
        blend.main(self.PARAMS.blend, ["main", "trees"])
        metrics = read_json(paths.BLEND_METRICS)
        assert metrics["best_model_auc"] == metrics["model_auc"]["trees"]  # of two epochs the other
        assert metrics["chosen"].startswith("trees")

    def test_scores_of_models_that_were_taken_out_are_removed(self) -> None:
        blend.main(self.PARAMS.blend, ["main", "trees"])
        left = {path.name for path in Path("predictions/models").iterdir()}
        assert left == {"main", "trees"}

    def test_equal_inputs_equal_bytes(self) -> None:
        outputs = [*PREDICTIONS, paths.BLEND_METRICS]
        blend.main(*self.PARAMS.arguments("blend"))
        before = contents(outputs)
        blend.main(*self.PARAMS.arguments("blend"))
        assert contents(outputs) == before

    @pytest.mark.parametrize(
        ("split", "change", "message"),
        [
            ("valid", "rows", r"models/two/valid\.parquet: has 149 rows, .*main/valid.* has 150"),
            ("test", "rows", r"models/two/test\.parquet: has 100 rows, .*main/test.* has 101"),
            ("test", "id", r"models/two/test\.parquet, row 4: ID -1; .*main/test\.parquet has"),
        ],
    )
    def test_models_out_of_step_are_refused(self, split: str, change: str, message: str) -> None:
        blend.main(*self.PARAMS.arguments("blend"))
        before = contents(PREDICTIONS)
        path = paths.logits_path("two", split)
        table = pd.read_parquet(path)
        if change == "rows":
            table = table[:-1]
        else:
            table.loc[4, "ID"] = -1
        table.to_parquet(path, index=False)
        with pytest.raises(InputError, match=message):
            blend.main(*self.PARAMS.arguments("blend"))
        assert contents(PREDICTIONS) == before

    def test_another_valid_than_the_models_scored_is_refused(self) -> None:
        rows = Split.load("valid").rows[:-1].copy()
        write_array(paths.split_path("valid"), rows)
        with pytest.raises(InputError, match=r"main/valid\.parquet: has 150 rows, valid has 149"):
            blend.main(*self.PARAMS.arguments("blend"))


def test_the_gain_is_to_the_best_model_wherever_it_stands() -> None:
    scores, valid = made_up([1.5, 0.5, 0.8])
    here = valid.user < USERS // 2
    chosen = choose(scores[:, here], valid.label[here], 0.0)
    assert chosen[0] == 1
    there = Split(np.array(valid.rows[~here]))
    expected = auc_of_mean(scores[:, ~here], there, chosen) - auc_of_mean(
        scores[:, ~here], there, [1]
    )
    assert blend.gain_there(scores, valid.label, here, ~here, 0.0) == pytest.approx(expected)
    first = auc_of_mean(scores[:, ~here], there, [0])
    assert first < auc_of_mean(scores[:, ~here], there, [1]) - 0.01
