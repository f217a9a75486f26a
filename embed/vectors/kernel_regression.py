"""Kernel ridge regression whose prediction for a row that it was fitted on ignores that row.

A Gaussian kernel, through the features of landmark rows (Nyström) where there are many rows; with
all rows as landmarks it is exact. Leave-one-out predictions have a closed form, so the kernel's
width and the penalty are chosen by them, for each target column on its own.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from pipeline.common.outlook import A_WHILE, Watch, duration

WIDTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Of the kernel: exp(-width * squared distance / mean squared distance)."""
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
NEGLIGIBLE = 1e-10
"""Eigenvalue of the landmarks' kernel over the largest, below which it is rounding."""
BLOCK = 1 << 13
"""Rows at a time: beside the features there is no second array of their size."""

Done = Callable[[int], object]
"""Told the number of rows that are done."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """Predictions by the best width and penalty of each of t target columns."""

    left_out: np.ndarray
    """float64 (n, t), for the rows fitted on, each as if it had been left out, but for the column's
    mean, which all rows share."""
    predicted: np.ndarray
    """float64 (m, t), for the other rows."""
    r2: np.ndarray
    """float64 (t,): 1 - weighted squared error of `left_out` over the targets' weighted variance;
    0 for a column that does not vary or that the inputs do not explain, predicted by its mean."""


def fit_leaving_out(
    inputs: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    others: np.ndarray,
    landmarks: int,
    seed: int,
) -> Fitted:
    """Fit `targets` (n, t) on `inputs` (n, d), and predict for `others` (m, d) too.

    Each row counts by `weights` (n,), which are positive. At most `landmarks` rows, drawn by
    `seed`, carry the kernel.
    """
    weights = weights / weights.mean()
    mean = np.average(targets, axis=0, weights=weights)
    centred = targets - mean
    variance = weights @ centred**2
    varies = variance > np.finfo(float).eps * (weights @ targets**2)  # more than rounding does
    best = Fitted(
        np.tile(mean, (len(inputs), 1)), np.tile(mean, (len(others), 1)), np.zeros(len(mean))
    )
    tried = candidates(inputs, centred, weights, others, landmarks, seed)
    for left_out, predicted in tried:
        error = weights @ (centred - left_out) ** 2
        r2 = 1 - np.divide(error, variance, out=np.ones_like(error), where=varies)
        better = r2 > best.r2
        best.left_out[:, better] = mean[better] + left_out[:, better]
        best.predicted[:, better] = mean[better] + predicted[:, better]
        best.r2[better] = r2[better]
    return best


def candidates(
    inputs: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    others: np.ndarray,
    landmarks: int,
    seed: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Left-out predictions (n, t) and those for `others` (m, t), by width and penalty."""
    drawn = np.random.default_rng(seed).permutation(len(inputs))[:landmarks]
    chosen = inputs[np.sort(drawn)]
    scale = mean_squared_distance(inputs)
    watch = Watch(
        len(WIDTHS),
        lambda seconds: log.info("the regression takes about %s", duration(seconds)),
        A_WHILE,
        warm_up=0,
        watched=1,
    )
    with progress(len(inputs), len(others)) as bar:
        for width in WIDTHS:
            features, of_others, values = rotated(
                chosen, inputs, others, weights, width / scale, bar.update
            )
            moments = features.T @ (weights[:, None] * targets)  # (r, t)
            for penalty in PENALTIES:
                shrunk = 1 / (values.clip(min=0) + penalty)  # (r,)
                fitted = features @ (shrunk[:, None] * moments)  # (n, t)
                squared = np.concatenate([features[few] ** 2 @ shrunk for few in blocks(features)])
                leverage = weights * squared  # (n,), below 1
                left_out = targets - (targets - fitted) / (1 - leverage)[:, None]
                yield left_out, of_others @ (shrunk[:, None] * moments)
            watch.after_batch()
            del features, of_others  # or they would be there beside the next width's


def progress(rows: int, others: int) -> Any:
    """A bar over what takes the time: each width computes features of all rows and rotates them,
    and takes those fitted on a third time. The rate is the mean since the start, as these differ.
    """
    return tqdm(
        total=len(WIDTHS) * (3 * rows + 2 * others),
        desc="regression",
        unit="row",
        unit_scale=True,
        smoothing=0,
        leave=False,
        disable=None,
    )


def rotated(
    landmarks: np.ndarray,
    inputs: np.ndarray,
    others: np.ndarray,
    weights: np.ndarray,
    gamma: float,
    done: Done,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, r) and (m, r) whose products are the kernel, with orthogonal columns.

    And of each column the sum of the weighted squares over `inputs`, (r,).
    """
    if len(landmarks) == len(inputs):
        return rotated_at_once(inputs, others, weights, gamma, done)
    features, of_others = kernel_features(landmarks, (inputs, others), gamma, done)
    values, rotation = np.linalg.eigh(weighted_gram(features, weights, done))
    for part in (features, of_others):  # (n, r), (m, r)
        for block in blocks(part, done):
            part[block] = part[block] @ rotation
    return features, of_others, values


def rotated_at_once(
    inputs: np.ndarray, others: np.ndarray, weights: np.ndarray, gamma: float, done: Done
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `rotated` with all rows as landmarks, by one decomposition in the place of two."""
    root = np.sqrt(weights)[:, None]
    values, rotation = np.linalg.eigh(root * kernel(inputs, inputs, gamma) * root.T)
    done(3 * len(inputs))
    kept = values > NEGLIGIBLE * values[-1]
    values, rotation = values[kept], rotation[:, kept]
    features = rotation * np.sqrt(values) / root
    of_others = nystroem(others, inputs, gamma, root * rotation / np.sqrt(values), done)
    done(len(others))  # the second decomposition's share
    return features, of_others, values


def kernel_features(
    landmarks: np.ndarray, rows: tuple[np.ndarray, ...], gamma: float, done: Done
) -> list[np.ndarray]:
    """For each of `rows` (n, d) features (n, r) whose products are the kernel, by Nyström."""
    values, vectors = np.linalg.eigh(kernel(landmarks, landmarks, gamma))
    kept = values > NEGLIGIBLE * values[-1]
    root = vectors[:, kept] / np.sqrt(values[kept])
    return [nystroem(part, landmarks, gamma, root, done) for part in rows]


def nystroem(
    rows: np.ndarray, landmarks: np.ndarray, gamma: float, root: np.ndarray, done: Done
) -> np.ndarray:
    """(n, r) of `rows` (n, d), by the `root` (l, r) of the landmarks' inverse kernel."""
    features = np.empty((len(rows), root.shape[1]))
    for block in blocks(rows, done):
        features[block] = kernel(rows[block], landmarks, gamma) @ root
    return features


def weighted_gram(rows: np.ndarray, weights: np.ndarray, done: Done) -> np.ndarray:
    """sum_i w_i x_i x_i^T of rows x_i, (r, r) of (n, r)."""
    result = np.zeros((rows.shape[1], rows.shape[1]))
    for block in blocks(rows, done):
        part = np.sqrt(weights[block, None]) * rows[block]
        result += part.T @ part  # of itself, so that BLAS computes one triangle alone
    return result


def blocks(rows: np.ndarray, done: Done = lambda _: None) -> Iterator[slice]:
    """Of BLOCK rows each, the last one of what is left; `done` hears of each when it is."""
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        yield block
        done(len(rows[block]))


def kernel(left: np.ndarray, right: np.ndarray, gamma: float) -> np.ndarray:
    """exp(-gamma * squared distance), (n, m) of rows (n, d) and (m, d)."""
    result = left @ right.T  # changed in place, since this is all the memory there is to it
    result *= -2
    result += (left**2).sum(axis=1)[:, None]
    result += (right**2).sum(axis=1)
    np.maximum(result, 0, out=result)
    result *= -gamma
    return np.exp(result, out=result)


def mean_squared_distance(rows: np.ndarray) -> float:
    """Over all pairs of `rows` (n, d); 1 where they are all the same."""
    distance = 2 * ((rows**2).sum(axis=1).mean() - (rows.mean(axis=0) ** 2).sum())
    return float(distance) if distance > 0 else 1.0
