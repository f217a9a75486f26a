"""The ground truth: how likely a user with a history is to click a target."""

import numpy as np

from sample.config import WorldConfig
from sample.items import Items
from sample.vocabulary import GRADES


def click_probability(
    config: WorldConfig, items: Items, history: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """(n,) float64 for item ids `history` (n, L), padded left with 0, and `target` (n,)."""
    parts = logit_parts(config, items, history, target)
    logit = sum(parts.values(), np.float64(config.bias))
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def logit_parts(
    config: WorldConfig, items: Items, history: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    """What adds up to the logit, but for the bias: each (n,) float64, in the order of the sum."""
    grades = np.arange(len(GRADES))
    grade = (items.grade[target] - grades.mean()) / grades.std()
    return {
        "match": config.match_weight * match(config, items, history, target),
        "grade": config.grade_weight * grade,
        "appeal": config.appeal_weight * items.appeal[target],
        "popularity": config.popularity_weight * items.popularity[target],
    }


def match(config: WorldConfig, items: Items, history: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(n,) float64 in 0..1: mean affinity of the target's topic to those of the recent history.

    Younger items weigh a little more, and `match_smoothing` items of affinity 0 join each history.
    """
    recent = history[:, -config.match_window :]
    age = np.arange(recent.shape[1])[::-1]
    weight = np.where(recent > 0, config.match_decay**age, 0.0)
    affinity = items.affinity[items.topic[target][:, None], items.topic[recent]]
    total = (weight * affinity).sum(axis=1)
    return np.asarray(total / (weight.sum(axis=1) + config.match_smoothing))
