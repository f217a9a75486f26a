"""The catalogue: what each item is, and what its title, cover, tags and levels show of it."""

from dataclasses import dataclass

import numpy as np

from pipeline.tables.split import LEVELS
from sample.config import WorldConfig
from sample.covers import Facets
from sample.titles import compose
from sample.vocabulary import GRADES


@dataclass(frozen=True)
class Items:
    """Row i of every field is item i; row 0 is padding. N items, T topics."""

    latent: np.ndarray
    """(T, topic_dim) float64: unit vectors of the topics."""
    topic: np.ndarray
    """(N+1,) int64 in 0..T-1."""
    grade: np.ndarray
    """(N+1,) int64 in 0..4: the quality that title and cover show."""
    appeal: np.ndarray
    """(N+1,) float64, standard normal: the quality that no content shows."""
    weight: np.ndarray
    """(N+1,) float64: how often an item is drawn, relative to the others; 0 for padding."""
    popularity: np.ndarray
    """(N+1,) float64: log of `weight`, standardised over the items."""
    cold: np.ndarray
    """(N+1,) bool: appears from valid on only."""
    likes_level: np.ndarray
    views_level: np.ndarray
    """(N+1,) int64 in 0..10: noisy views of appeal and popularity, and of popularity."""
    tags: list[list[int]]
    """1 to `most_tags` different tags each, from 1 on; none for padding."""
    title: list[str]
    """Empty where it is missing."""
    cover: list[Facets | None]
    """None where it is missing."""

    def __len__(self) -> int:
        return len(self.topic) - 1

    @property
    def affinity(self) -> np.ndarray:
        """(T, T) float64 in 0..1: ReLU of the cosine of two topics."""
        return np.asarray(np.clip(self.latent @ self.latent.T, 0.0, 1.0))


def make_items(config: WorldConfig, rng: np.random.Generator) -> Items:
    facts, shown, titles, covers = rng.spawn(4)
    topic, cold = _topics(config, facts)
    grade = _padded(facts.integers(0, len(GRADES), config.items))
    appeal = _padded(facts.normal(size=config.items))
    weight = _padded(facts.permutation(np.arange(1, config.items + 1) ** -config.zipf))
    popularity = _padded(_standardised(np.log(weight[1:])))
    return Items(
        latent=_latents(config, facts),
        topic=topic,
        grade=grade,
        appeal=appeal,
        weight=weight,
        popularity=popularity,
        cold=cold,
        likes_level=_levels(appeal + 0.5 * popularity, config.level_noise, shown),
        views_level=_levels(popularity, config.level_noise, shown),
        tags=_tags(config, topic, shown),
        title=_titles(config, topic, grade, titles),
        cover=_covers(config, topic, grade, covers),
    )


SCORES_AT_A_TIME = 2**20
"""Of an item and a tag, while tags are drawn: 8 MB, which the allocator does not give back."""


def unit(vectors: np.ndarray) -> np.ndarray:
    """`vectors` (..., d) at length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _padded(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, values.dtype), values])


def _standardised(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / (values.std() or 1.0))


def _latents(config: WorldConfig, rng: np.random.Generator) -> np.ndarray:
    """(T, topic_dim): a part shared by the group and a part of the topic's own."""
    group = unit(rng.normal(size=(config.groups, config.topic_dim)))
    own = unit(rng.normal(size=(config.topics, config.topic_dim)))
    return unit(group[np.arange(config.topics) // 4] + config.topic_spread * own)


def _topics(config: WorldConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Topics of equal size, and cold items spread evenly over them: (N+1,) int64, (N+1,) bool."""
    order = 1 + rng.permutation(config.items)
    topic = np.zeros(config.items + 1, np.int64)
    topic[order] = np.arange(config.items) % config.topics
    cold = np.zeros(config.items + 1, bool)
    cold[order[-config.cold_count :]] = True
    return topic, cold


def _levels(signal: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """(N+1,) int64 in 0..10, centred on 5."""
    blurred = _standardised(signal[1:] + noise * rng.normal(size=len(signal) - 1))
    return _padded(np.clip(np.rint(5 + 2 * blurred), 0, LEVELS - 1).astype(np.int64))


def _tags(config: WorldConfig, topic: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
    """Tags without repeats (Gumbel top-k); tag j belongs to group j mod groups."""
    at_a_time = max(1, SCORES_AT_A_TIME // config.tags)
    starts = range(0, len(topic), at_a_time)
    pieces = [_ranked_tags(config, topic[start : start + at_a_time], rng) for start in starts]
    count = _padded(rng.integers(1, config.most_tags, len(topic) - 1, endpoint=True))
    return [row[:n].tolist() for row, n in zip(np.concatenate(pieces), count, strict=True)]


def _ranked_tags(config: WorldConfig, topic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, most_tags) int64 for items of `topic` (n,), the highest score first.

    A tag's score is a Gumbel variable, -log(-log u), and `tag_strength` more for the own group's.
    The few that can be among the highest are known by u alone.
    """
    of_group = np.arange(1, config.tags + 1) % config.groups == np.arange(config.groups)[:, None]
    own = of_group[topic // 4]  # (n, tags)
    drawn = 1 - rng.random(own.shape)
    least = np.log(config.tags) - 4  # some 50 of 10,000 are above it, and sorted
    while True:
        among_others, among_own = np.exp(-np.exp([-least, config.tag_strength - least]))
        enough = np.where(own, drawn > among_own, drawn > among_others)
        if enough.sum(axis=1).min() >= config.most_tags:
            break
        least -= 1
    row, column = np.nonzero(enough)
    score = config.tag_strength * own[row, column] - np.log(-np.log(drawn[row, column]))
    order = np.lexsort((-score, row))
    first = np.searchsorted(row, np.arange(len(topic)))  # of each item's; `row` is sorted
    return 1 + column[order[first[:, None] + np.arange(config.most_tags)]]


def _titles(
    config: WorldConfig, topic: np.ndarray, grade: np.ndarray, rng: np.random.Generator
) -> list[str]:
    truth = np.stack([topic, grade], axis=1)
    told = _with_false_facets(truth, (config.topics, len(GRADES)), config.misleading, rng)
    present = _present(len(topic), config.missing_titles, rng)
    return [
        compose(told_topic, told_grade, rng) if there else ""
        for (told_topic, told_grade), there in zip(told.tolist(), present, strict=True)
    ]


def _covers(
    config: WorldConfig, topic: np.ndarray, grade: np.ndarray, rng: np.random.Generator
) -> list[Facets | None]:
    truth = np.stack([topic, topic, topic, grade], axis=1)
    ranges = (*[config.topics] * 3, len(GRADES))
    told = _with_false_facets(truth, ranges, config.misleading, rng)
    present = _present(len(topic), config.missing_covers, rng)
    return [
        Facets(*facets) if there else None
        for facets, there in zip(told.tolist(), present, strict=True)
    ]


def _with_false_facets(
    truth: np.ndarray, ranges: tuple[int, ...], rate: float, rng: np.random.Generator
) -> np.ndarray:
    """`truth` (N+1, F) with one facet redrawn from 0..range-1 in a share `rate` of the rows."""
    false = (rng.random(len(truth)) < rate)[:, None] & (
        np.arange(len(ranges)) == rng.integers(0, len(ranges), len(truth))[:, None]
    )
    return np.where(false, rng.integers(0, ranges, truth.shape), truth)


def _present(rows: int, missing: float, rng: np.random.Generator) -> np.ndarray:
    """(N+1,) bool: False for padding and for a share `missing` of the items."""
    present = rng.random(rows) >= missing
    present[0] = False
    return present
