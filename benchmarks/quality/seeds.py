"""Figures of several seeds, which are the same for what is compared."""

from collections.abc import Sequence

import numpy as np


def paired(left: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Mean of left - right, two of (n,), and its standard error; NaN for a single pair."""
    difference = left - right
    spread = difference.std(ddof=1) if len(difference) > 1 else np.nan
    return float(difference.mean()), float(spread / len(difference) ** 0.5)


def deviation(values: np.ndarray) -> str:
    return f"{values.std(ddof=1):8.4f}" if len(values) > 1 else f"{'':8}"


def difference(own: np.ndarray, other: Sequence[float] | np.ndarray) -> str:
    """Mean difference of the same seeds and its standard error, if they differ at all."""
    mean, error = paired(own, np.array(other))
    if not (own - np.array(other)).any():
        return ""
    return f"{mean:+.4f}" + (f" ± {error:.4f}" if len(own) > 1 else "")
