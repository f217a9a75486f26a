"""Against kernel ridge regression by its textbook formula, fitted anew without each row."""

import logging
import tracemalloc
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from embed.vectors.kernel_regression import (
    PENALTIES,
    WIDTHS,
    Fitted,
    candidates,
    fit_leaving_out,
    mean_squared_distance,
)
from tests.support.terminal import bars

ALL = 10_000
"""More landmarks than there are rows."""


@dataclass(frozen=True)
class Problem:
    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    others: np.ndarray


def problem(rows: int = 25, others: int = 6) -> Problem:
    """Targets: one smooth, one rough, both noisy."""
    rng = np.random.default_rng(3)
    inputs, other_inputs = rng.normal(size=(rows, 3)), rng.normal(size=(others, 3))
    smooth, rough = inputs[:, 0] + 5, np.sin(4 * inputs[:, 1]) * 3
    targets = np.column_stack([smooth, rough]) + rng.normal(0, 0.1, (rows, 2))
    return Problem(inputs, targets, rng.uniform(0.2, 2, rows), other_inputs)


def plain_kernel(left: np.ndarray, right: np.ndarray, gamma: float) -> np.ndarray:
    return np.array([[np.exp(-gamma * ((a - b) ** 2).sum()) for b in right] for a in left])


def plain_mean_squared_distance(rows: np.ndarray) -> float:
    return float(np.mean([((a - b) ** 2).sum() for a in rows for b in rows]))


def plain_ridge(
    kernel: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalty: float
) -> np.ndarray:
    """Coefficients (n, t) of min sum_i w_i (y_i - f(x_i))^2 + penalty |f|^2."""
    system = weights[:, None] * kernel + penalty * np.eye(len(kernel))
    return np.linalg.solve(system, weights[:, None] * targets)


def refitted_without_each(
    kernel: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalty: float
) -> np.ndarray:
    predictions = np.zeros_like(targets)
    for row in range(len(targets)):
        rest = np.arange(len(targets)) != row
        kept = kernel[rest][:, rest]
        coefficients = plain_ridge(kept, targets[rest], weights[rest], penalty)
        predictions[row] = kernel[row, rest] @ coefficients
    return predictions


def tried(given: Problem, landmarks: int = ALL) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(
        candidates(given.inputs, given.targets, given.weights, given.others, landmarks, seed=1)
    )


def test_each_width_and_penalty_is_kernel_ridge_refitted_without_each_row() -> None:
    given = problem()
    scale = plain_mean_squared_distance(given.inputs)
    settings = list(product(WIDTHS, PENALTIES))
    for (width, penalty), (left_out, predicted) in zip(settings, tried(given), strict=True):
        kernel = plain_kernel(given.inputs, given.inputs, width / scale)
        expected = refitted_without_each(kernel, given.targets, given.weights, penalty)
        np.testing.assert_allclose(left_out, expected, atol=1e-6)
        coefficients = plain_ridge(kernel, given.targets, given.weights, penalty)
        of_others = plain_kernel(given.others, given.inputs, width / scale)
        np.testing.assert_allclose(predicted, of_others @ coefficients, atol=1e-6)


def test_leaving_out_is_exact_with_fewer_landmarks_too() -> None:
    given = problem()
    scale = plain_mean_squared_distance(given.inputs)
    drawn = np.sort(np.random.default_rng(1).permutation(len(given.inputs))[:9])
    settings = list(product(WIDTHS, PENALTIES))
    for (width, penalty), (left_out, _) in zip(settings, tried(given, 9), strict=True):
        whole = plain_kernel(given.inputs, given.inputs, width / scale)
        nystrom = whole[:, drawn] @ np.linalg.pinv(whole[drawn][:, drawn]) @ whole[drawn]
        expected = refitted_without_each(nystrom, given.targets, given.weights, penalty)
        np.testing.assert_allclose(left_out, expected, atol=1e-6)


@pytest.mark.parametrize("landmarks", [9, ALL])
def test_a_rows_own_target_is_not_in_its_left_out_prediction(landmarks: int) -> None:
    given = problem()
    before = tried(given, landmarks)
    given.targets[7] += [1000, -1000]
    for (was, predicted), (now, now_predicted) in zip(before, tried(given, landmarks), strict=True):
        np.testing.assert_allclose(now[7], was[7], atol=1e-8)
        assert np.abs(now - was).max() > 0.1  # others do see it
        assert np.abs(now_predicted - predicted).max() > 0.1


def fitted_on(given: Problem, landmarks: int = ALL, seed: int = 1) -> Fitted:
    return fit_leaving_out(
        given.inputs, given.targets, given.weights, given.others, landmarks, seed
    )


def test_a_rows_own_target_moves_its_fit_by_the_mean_that_all_share_at_most() -> None:
    given = problem(rows=60)
    was = fitted_on(given)
    share = given.weights[7] / given.weights.sum()
    given.targets[7] += 0.5
    now = fitted_on(given)
    assert (np.abs(now.left_out[7] - was.left_out[7]) <= 0.5 * share + 1e-9).all()


def test_the_best_by_left_out_error_is_taken_for_each_column() -> None:
    given = problem(rows=120)
    fitted = fitted_on(given)
    weights = given.weights / given.weights.mean()
    mean = (weights @ given.targets) / weights.sum()
    centred = given.targets - mean
    every = tried(Problem(given.inputs, centred, weights, given.others))
    best = []
    for column in range(2):
        errors = [float(weights @ (centred - out)[:, column] ** 2) for out, _ in every]
        best.append(int(np.argmin(errors)))
        left_out, predicted = every[best[-1]]
        np.testing.assert_allclose(fitted.left_out[:, column] - mean[column], left_out[:, column])
        np.testing.assert_allclose(fitted.predicted[:, column] - mean[column], predicted[:, column])
        r2 = 1 - min(errors) / float(weights @ centred[:, column] ** 2)
        assert fitted.r2[column] == pytest.approx(r2)
        assert r2 > 0.3
    assert best[0] != best[1]


def test_a_long_regression_tells_how_long_after_its_first_width(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fitted_on(problem())
    assert caplog.messages == []
    clock = iter(np.arange(100, step=30.0))
    monkeypatch.setattr("pipeline.common.outlook.time.perf_counter", lambda: next(clock))
    fitted_on(problem())
    assert caplog.messages == ["the regression takes about 2 min 30 s"]


def test_only_the_weights_ratios_count() -> None:
    given = problem()
    expected = fitted_on(given)
    found = fitted_on(Problem(given.inputs, given.targets, 7 * given.weights, given.others))
    np.testing.assert_allclose(found.left_out, expected.left_out)


def test_a_column_of_noise_and_one_that_does_not_vary_are_their_means() -> None:
    rng = np.random.default_rng(8)
    inputs, others = rng.normal(size=(60, 20)), rng.normal(size=(4, 20))
    targets = np.column_stack([rng.normal(3, 1, 60), np.full(60, 2.5), 3 * inputs[:, 0]])
    weights = rng.uniform(0.5, 1, 60)
    fitted = fitted_on(Problem(inputs, targets, weights, others))
    assert fitted.r2[:2].tolist() == [0, 0]
    assert fitted.r2[2] > 0.2
    mean = np.average(targets[:, 0], weights=weights)
    np.testing.assert_allclose(fitted.left_out[:, :2], np.tile([mean, 2.5], (60, 1)))
    np.testing.assert_allclose(fitted.predicted[:, :2], np.tile([mean, 2.5], (4, 1)))


def test_fewer_landmarks_than_rows_come_close_on_smooth_targets() -> None:
    rng = np.random.default_rng(8)
    inputs, others = rng.uniform(-1, 1, (300, 2)), rng.uniform(-1, 1, (50, 2))

    def smooth(rows: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(2 * rows[:, :1]) + rows[:, 1:] ** 2)

    given = Problem(inputs, smooth(inputs), np.ones(300), others)
    exact, few = fitted_on(given), fitted_on(given, landmarks=40)
    assert few.r2[0] > 0.99
    np.testing.assert_allclose(few.predicted, exact.predicted, atol=0.03)
    np.testing.assert_allclose(few.predicted, smooth(others), atol=0.15)
    again, other = fitted_on(given, landmarks=40), fitted_on(given, landmarks=40, seed=2)
    np.testing.assert_array_equal(again.predicted, few.predicted)
    assert (other.predicted != few.predicted).any()


def test_in_blocks_of_rows_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tried(problem(), landmarks=9)
    monkeypatch.setattr("embed.vectors.kernel_regression.BLOCK", 4)
    with bars() as shown:
        in_blocks = tried(problem(), landmarks=9)
    assert [(bar.n, bar.total) for bar in shown] == [(5 * (3 * 25 + 2 * 6),) * 2]
    for found, expected in zip(in_blocks, whole, strict=True):
        for part, of_whole in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, of_whole, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("rows", "others"), [(4000, 1000), (64, 4936)])
def test_beside_the_features_there_is_no_second_array_of_their_size(
    monkeypatch: pytest.MonkeyPatch, rows: int, others: int
) -> None:
    """Where some rows are landmarks, and where all are."""
    monkeypatch.setattr("embed.vectors.kernel_regression.BLOCK", 64)
    given, landmarks = problem(rows=rows, others=others), 64
    tracemalloc.start()
    next(candidates(given.inputs, given.targets, given.weights, given.others, landmarks, seed=1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    features = (rows + others) * landmarks * 8
    assert features < peak < 1.6 * features


def test_mean_squared_distance_is_that_over_all_pairs() -> None:
    rows = problem().inputs + 3
    assert mean_squared_distance(rows) == pytest.approx(plain_mean_squared_distance(rows))
    assert mean_squared_distance(np.zeros((4, 2))) == 1.0
