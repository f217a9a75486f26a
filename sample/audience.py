"""The users: interests that drift, histories that grow, and the items they are shown."""

import numpy as np

from sample.config import WorldConfig
from sample.items import Items, unit

HISTORY = 100
"""Ids in each history, as the competition distributes them."""


class Audience:
    """All U users at one moment.

    `interest` (U, topic_dim) are unit vectors; `history` (U, HISTORY) int32 holds item ids, padded
    left with 0, the most recent last.
    """

    def __init__(self, config: WorldConfig, items: Items, rng: np.random.Generator) -> None:
        self._config, self._items, self._rng = config, items, rng
        self.interest = unit(rng.normal(size=(config.users, config.topic_dim)))
        self.history = np.zeros((config.users, HISTORY), np.int32)
        warm = np.flatnonzero(~items.cold)[1:]
        self._cold = np.flatnonzero(items.cold)
        self._warm = warm[np.argsort(items.topic[warm], kind="stable")]
        self._mass = np.cumsum(items.weight[self._warm])
        self._ends = np.searchsorted(
            items.topic[self._warm], np.arange(config.topics), side="right"
        )
        self._read_first_items()

    def show(self, *, cold: bool) -> np.ndarray:
        """(U,) int64: one item each, drawn by popularity, by interest, or uniformly.

        With `cold`, a share `cold_targets` is drawn from the cold items instead.
        """
        config, users = self._config, self._config.users
        popular = config.popular_candidates
        source = self._rng.random(users)
        shown = np.where(source < popular, self._by_popularity(), self._uniformly())
        by_interest = (source >= popular) & (source < popular + config.interest_candidates)
        shown = np.where(by_interest, self._by_interest(), shown)
        new = cold & (self._rng.random(users) < config.cold_targets)
        return np.where(new, self._rng.choice(self._cold, users), shown)

    def append(self, items: np.ndarray, where: np.ndarray) -> None:
        """Let the users marked in `where` (U,) bool add their item of `items` (U,)."""
        longer = np.concatenate([self.history[where, 1:], items[where, None]], axis=1)
        self.history[where] = longer

    def drift(self) -> None:
        noise = unit(self._rng.normal(size=self.interest.shape))
        share = self._config.drift
        self.interest = unit(np.sqrt(1 - share**2) * self.interest + share * noise)

    def _read_first_items(self) -> None:
        config, rng = self._config, self._rng
        length = rng.lognormal(np.log(config.history_median), config.history_sigma, config.users)
        length = np.clip(np.rint(length), 1, config.history_longest)
        length[rng.random(config.users) < config.empty_history] = 0
        for age in reversed(range(config.history_longest)):
            self.append(self._by_interest(), where=length > age)
            self.drift()

    def _uniformly(self) -> np.ndarray:
        return self._rng.choice(self._warm, self._config.users)

    def _by_popularity(self) -> np.ndarray:
        return self._at_mass(self._rng.random(self._config.users) * self._mass[-1])

    def _by_interest(self) -> np.ndarray:
        """A topic by softmax (Gumbel-max) of its nearness to the interest, then by popularity."""
        nearness = self.interest @ self._items.latent.T  # (U, T)
        score = self._config.interest_sharpness * nearness + self._rng.gumbel(size=nearness.shape)
        topic = score.argmax(axis=1)
        upper = self._mass[self._ends - 1]
        lower = np.concatenate([[0.0], upper[:-1]])
        share = self._rng.random(len(topic))
        return self._at_mass(lower[topic] + share * (upper - lower)[topic])

    def _at_mass(self, mass: np.ndarray) -> np.ndarray:
        """The warm items whose stretch of the cumulated weights holds `mass`."""
        return self._warm[np.searchsorted(self._mass[:-1], mass, side="right")]
