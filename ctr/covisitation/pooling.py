"""What a number of each item of a history is worth together: means, the largest, the last."""

import numpy as np

SHORT, MIDDLE = 3, 10
"""Items of the history over which is pooled, besides all of them."""
POOLED = ("mean_3", "mean_10", "mean", "max_10", "max", "last", "decayed")


def pooled(values: np.ndarray, real: np.ndarray, decay: float) -> np.ndarray:
    """(..., n, 7), in the order of POOLED, of `values` (..., n, W), the youngest first.

    `real` (n, W) is false where there is no item; 0 where there is none at all. `decayed` is the
    mean weighted by decay^age.
    """
    values = np.where(real, values, values.dtype.type(0))
    weight = (decay ** np.arange(real.shape[1])).astype(values.dtype)
    greatest = np.where(real, values, values.dtype.type(-np.inf))
    tiny = np.finfo(values.dtype).tiny
    columns = [
        *(
            values[..., :end].sum(-1) / np.maximum(real[:, :end].sum(1), 1)
            for end in (SHORT, MIDDLE, None)
        ),
        *(np.where(real[:, :end].any(1), greatest[..., :end].max(-1), 0) for end in (MIDDLE, None)),
        values[..., 0],
        (values * weight).sum(-1) / np.maximum((real * weight).sum(-1), tiny),
    ]
    return np.stack(columns, axis=-1)
