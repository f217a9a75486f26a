"""The sample's world: a catalogue, users, and clicks drawn from a known probability.

Time runs in slates: every user is shown `slate` items, then the clicked ones enter the history. The
first slates are train, the next valid, the last test, so a split's histories hold no label of the
same split as long as valid and test are one slate each, and the oracle is what it claims to be.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.common.paths import SPLITS
from pipeline.tables.auc import auc
from sample.audience import Audience
from sample.clicks import click_probability
from sample.config import WorldConfig
from sample.items import Items, make_items

__all__ = ["Impressions", "World", "WorldConfig", "build"]


@dataclass(frozen=True)
class Impressions:
    """The n rows of one split, in the order of time."""

    user_id: np.ndarray
    """(n,) int64 in 1..U."""
    history: np.ndarray
    """(n, HISTORY) int32 item ids, padded left with 0, the most recent last."""
    target: np.ndarray
    """(n,) int64 item ids."""
    probability: np.ndarray
    """(n,) float64: the click's."""
    label: np.ndarray
    """(n,) int64, 1 for a click."""

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class World:
    config: WorldConfig
    seed: int
    items: Items
    splits: dict[str, Impressions]
    """By name: train, valid and test."""
    train_history: np.ndarray
    """(U, HISTORY) int32: each user's history when train ends; row u is user u + 1."""

    def oracle_auc(self, split: str) -> float:
        """AUC of the true probabilities: no model of the rows can be expected to beat it.

        Raises ValueError where the split's labels are all alike.
        """
        rows = self.splits[split]
        found = auc(rows.label, rows.probability)
        if found is None:
            raise ValueError(f"{split}: all labels are alike, so there is no AUC")
        return found


def build(config: WorldConfig, seed: int) -> World:
    """The world of `config` and `seed`, the same on every machine with the same versions."""
    of_items, of_audience, of_clicks = np.random.default_rng(seed).spawn(3)
    items = make_items(config, of_items)
    audience = Audience(config, items, of_audience)
    counts = (config.train_slates, config.valid_slates, config.test_slates)
    splits: dict[str, Impressions] = {}
    histories: dict[str, np.ndarray] = {}
    for split, slates in zip(SPLITS, counts, strict=True):
        cold = split != "train"
        shown = [_play_slate(config, items, audience, of_clicks, cold) for _ in range(slates)]
        splits[split] = _joined([rows for slate in shown for rows in slate])
        histories[split] = audience.history.copy()
    return World(config, seed, items, splits, histories["train"])


def _play_slate(
    config: WorldConfig,
    items: Items,
    audience: Audience,
    rng: np.random.Generator,
    cold: bool,
) -> list[Impressions]:
    """Show every user a slate, then let the clicks enter the histories; one entry a place in it."""
    rows = [_impressions(config, items, audience, rng, cold) for _ in range(config.slate)]
    for shown in rows:
        audience.append(shown.target, where=shown.label == 1)
    audience.drift()
    return rows


def _impressions(
    config: WorldConfig,
    items: Items,
    audience: Audience,
    rng: np.random.Generator,
    cold: bool,
) -> Impressions:
    """One item for every user, and whether it is clicked."""
    history, target = audience.history.copy(), audience.show(cold=cold)
    probability = click_probability(config, items, history, target)
    label = (rng.random(len(target)) < probability).astype(np.int64)
    return Impressions(1 + np.arange(len(target)), history, target, probability, label)


def _joined(parts: list[Impressions]) -> Impressions:
    return Impressions(
        user_id=np.concatenate([part.user_id for part in parts]),
        history=np.concatenate([part.history for part in parts]),
        target=np.concatenate([part.target for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
        label=np.concatenate([part.label for part in parts]),
    )
