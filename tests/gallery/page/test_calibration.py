import numpy as np
import pandas as pd
import pytest

from ctr.evaluation.metrics import calibration as bins_of
from ctr.evaluation.metrics import calibration_error
from gallery.page.calibration import (
    answer,
    calibration,
    click_rate,
    deviations,
    gap_by_chance,
    load_bins,
)
from pipeline.common import paths
from pipeline.common.files import InputError, read_json
from tests.support.worlds.report_world import report_params

BINS = pd.DataFrame({"rows": [300, 100], "predicted": [0.1, 0.5], "observed": [0.12, 0.4]})


def test_a_perfect_models_error_is_what_chance_is_said_to_make() -> None:
    rng = np.random.default_rng(2)
    probability = rng.beta(0.5, 1, 4000)
    draws = [
        calibration_error((rng.random(4000) < probability).astype(int), probability, 10)
        for _ in range(800)
    ]
    table = pd.DataFrame(bins_of((probability > 0.5).astype(int), probability, 10))
    expected, most = gap_by_chance(table["rows"].to_numpy(float), deviations(table))
    assert expected == pytest.approx(np.mean(np.array(draws, float)), rel=0.05)
    assert most == pytest.approx(np.quantile(np.array(draws, float), 0.95), rel=0.05)


def test_the_deviation_is_that_of_a_share() -> None:
    assert deviations(BINS).tolist() == pytest.approx([0.3 / 300**0.5, 0.5 / 10])


def test_rates_are_means_over_rows() -> None:
    assert click_rate(BINS) == pytest.approx((300 * 0.12 + 100 * 0.4) / 400)
    assert click_rate(BINS[:0]) is None


def test_what_is_read_has_the_numbers() -> None:
    told = calibration(0.04, BINS)
    expected, most = gap_by_chance(np.array([300.0, 100.0]), deviations(BINS))
    assert most < 0.04
    assert (told.answer, told.error) == ("Nearly", "0.0400")
    assert f"a perfect model has {expected:.4f} by chance" in told.reading
    assert "over 2 bins" in told.reading
    assert "Predicted 20.0% on average, clicked 19.0%." in told.reading
    assert [point[:2] for point in told.points] == [(0.1, 0.12), (0.5, 0.4)]
    assert [point.chance for point in told.points] == deviations(BINS).tolist()


@pytest.mark.parametrize(
    ("error", "most", "told"),
    [(0.02, 0.02, "Yes, as far as chance lets see"), (0.021, 0.02, "Nearly"), (0.051, 0.02, "No")],
)
def test_the_answer(error: float, most: float, told: str) -> None:
    assert answer(error, most) == told


@pytest.mark.parametrize(("error", "bins"), [(None, BINS), (0.5, BINS[:0])])
def test_without_rows_it_is_not_known(error: float | None, bins: pd.DataFrame) -> None:
    told = calibration(error, bins)
    assert told.answer == "Not known"
    assert told.points == []
    assert told.error == ("-" if error is None else "0.5000")


@pytest.mark.usefixtures("run")
def test_the_bins_are_those_of_the_metric() -> None:
    bins = load_bins()
    gap = np.average(abs(bins["observed"] - bins["predicted"]), weights=bins["rows"])
    found = read_json(paths.valid_metrics_path("all"))
    assert gap == pytest.approx(found["calibration_error"])
    assert bins["rows"].sum() == found["rows"]
    assert len(bins) <= report_params().evaluate.calibration_bins


@pytest.mark.usefixtures("run")
def test_a_file_without_the_columns_is_named() -> None:
    paths.CALIBRATION.write_text("rows,predicted\n1,0.5\n")
    with pytest.raises(InputError, match=f"^{paths.CALIBRATION}: .*expected observed"):
        load_bins()
