"""What clicks say of an item where there are many; where there are few, what its content tells."""

import numpy as np

from embed.vectors.behaviour import Behaviour


def learned(told: np.ndarray, present: np.ndarray, seen: Behaviour, balance: float) -> np.ndarray:
    """float32 (N + 1, dim + 1): n / (n + balance) of what clicks say of an item shown n times, the
    rest of it what content tells.

    `told` (N + 1, dim + 1) is what `align` gives, of the items that are `present`; without columns
    nothing is told. Both are of the same mean over the items that have both. No columns where train
    knows no item.
    """
    own = np.column_stack([seen.company, seen.appeal])
    if not seen.known.any():
        return np.zeros((len(own), 0), np.float32)
    told = told if told.shape[1] else np.zeros_like(own)
    both = seen.known & present
    common = both if both.any() else seen.known
    own = own - own[common].mean(axis=0) + told[common].mean(axis=0)
    share = (seen.shown / (seen.shown + balance))[:, None]
    weight = np.repeat(share, own.shape[1], axis=1)
    weight[~seen.known, :-1] = 0  # of its company nothing is known; its appeal may be all the same
    return np.asarray(weight * own + (1 - weight) * told, dtype=np.float32)
