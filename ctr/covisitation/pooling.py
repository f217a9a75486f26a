"""What a number of each item of a history is worth together: means, the largest, the last.

Sums are taken in float64, so that in whichever order and on whichever processor they are taken,
what is rounded of them to fewer bits is the same: an online scorer computes the numbers of a row
one history at a time (`serving/row_numbers.py`) and finds what the stage has written.
"""

import numpy as np

SHORT, MIDDLE = 3, 10
"""Items of the history over which is pooled, besides all of them."""
POOLED = ("mean_3", "mean_10", "mean", "max_10", "max", "last", "decayed")


def pooled(values: np.ndarray, real: np.ndarray, decay: float) -> np.ndarray:
    """float64 (..., n, 7), in the order of POOLED, of `values` (..., n, W), the youngest first.

    `real` (n, W) is false where there is no item; 0 where there is none at all. `decayed` is the
    mean weighted by decay^age.
    """
    if real.all() and real.size:  # one history that is full, or cut to its length
        return of_all(values, decay)
    values = np.where(real, values, values.dtype.type(0))
    weight = mean_weights(values.shape[-1], decay)
    total = np.maximum(real.astype(np.float64) @ weight, np.finfo(np.float64).tiny)  # (n, 4)
    greatest = np.where(real, values, values.dtype.type(-np.inf))
    largest = [
        np.where(real[:, :end].any(1), greatest[..., :end].max(-1), 0) for end in (MIDDLE, None)
    ]
    return ordered(values, weight, total, largest)


def of_all(values: np.ndarray, decay: float) -> np.ndarray:
    """`pooled` of `values` (..., n, W) of which every one counts."""
    weight = mean_weights(values.shape[-1], decay)
    largest = [values[..., :end].max(-1) for end in (MIDDLE, None)]
    return ordered(values, weight, weight.sum(0), largest)


def ordered(
    values: np.ndarray, weight: np.ndarray, total: np.ndarray, largest: list[np.ndarray]
) -> np.ndarray:
    """(..., n, 7) of sums by `weight` (W, 4), of which `total` is the whole, and the `largest`."""
    means = values.astype(np.float64) @ weight / total
    short, middle, whole, decayed = np.moveaxis(means, -1, 0)
    return np.stack([short, middle, whole, *largest, values[..., 0], decayed], axis=-1)


def mean_weights(window: int, decay: float) -> np.ndarray:
    """float64 (W, 4): each age's weight in `mean_3`, `mean_10`, `mean` and `decayed`."""
    age = np.arange(window)
    return np.column_stack([age < SHORT, age < MIDDLE, age >= 0, decay**age]).astype(np.float64)
