"""Whether the click rate is what was predicted, beside what chance makes of a perfect model.

In a bin of n rows with mean prediction p the click rate of a perfect model varies by about
sqrt(p (1 - p) / n), if rows are independent; the mean of the gaps' sizes over bins is the expected
calibration error, which is therefore never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from gallery.page.charts import read
from gallery.page.tables import number
from pipeline.common.paths import CALIBRATION

COLUMNS = ("rows", "predicted", "observed")

NEARLY = 0.05
"""The largest calibration error that is called nearly calibrated: five points of probability."""

SURE = 1.645
"""Standard deviations above the mean that 95 of 100 draws of a normal distribution lie below."""


class Point(NamedTuple):
    """One bin of predicted probability."""

    predicted: float
    observed: float
    chance: float
    """Standard deviation of `observed` if the prediction is right."""


@dataclass(frozen=True)
class Calibration:
    answer: str
    """Of the question whether it is calibrated."""
    error: str
    reading: str
    points: Sequence[Point]


def load_bins() -> pd.DataFrame:
    return read(CALIBRATION, COLUMNS)


def click_rate(bins: pd.DataFrame) -> float | None:
    """Of all rows; None where there are none."""
    return None if bins.empty else float(np.average(bins["observed"], weights=bins["rows"]))


def calibration(error: float | None, bins: pd.DataFrame) -> Calibration:
    """`error` is the expected calibration error over `bins`; None where there are no rows."""
    if error is None or bins.empty:
        return Calibration("Not known", number(error), "Valid has no rows to tell by.", [])
    chance = deviations(bins)
    expected, most = gap_by_chance(bins["rows"].to_numpy(float), chance)
    predicted, observed = (
        np.average(bins[name], weights=bins["rows"]) for name in ("predicted", "observed")
    )
    reading = (
        f"calibration error: the mean gap of click rate and prediction over {len(bins)} bins; a "
        f"perfect model has {expected:.4f} by chance. Predicted {predicted:.1%} on average, "
        f"clicked {observed:.1%}."
    )
    pairs = zip(bins["predicted"], bins["observed"], chance, strict=True)
    return Calibration(
        answer(error, most), number(error), reading, [Point(*map(float, pair)) for pair in pairs]
    )


def deviations(bins: pd.DataFrame) -> np.ndarray:
    """float64 (b,): of each bin's click rate, if the predictions are right."""
    predicted = bins["predicted"].to_numpy(float)
    return np.sqrt(predicted * (1 - predicted) / bins["rows"].to_numpy(float))


def gap_by_chance(rows: np.ndarray, deviation: np.ndarray) -> tuple[float, float]:
    """The mean calibration error of a perfect model, and what 95 in 100 stay below.

    By the mean sqrt(2 / pi) and the variance 1 - 2 / pi of a normal variable's size.
    """
    parts = rows / rows.sum() * deviation
    mean = np.sqrt(2 / np.pi) * parts.sum()
    return float(mean), float(mean + SURE * np.sqrt((1 - 2 / np.pi) * (parts**2).sum()))


def answer(error: float, most: float) -> str:
    if error <= most:
        return "Yes, as far as chance lets see"
    return "Nearly" if error <= NEARLY else "No"
