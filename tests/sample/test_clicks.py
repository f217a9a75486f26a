import math
from dataclasses import replace

import numpy as np
import pytest

from sample.clicks import click_probability, match
from sample.world import World


def plain_match(world: World, history: list[int], target: int) -> float:
    config, items = world.config, world.items
    recent = [item for item in history if item][-config.match_window :]
    total, weights = 0.0, config.match_smoothing
    for age, item in enumerate(reversed(recent)):
        own, other = items.latent[items.topic[target]], items.latent[items.topic[item]]
        cosine = sum(a * b for a, b in zip(own, other, strict=True))
        total += config.match_decay**age * max(0.0, cosine)
        weights += config.match_decay**age
    return total / weights


def test_match_equals_a_plain_reckoning(world: World) -> None:
    rows = world.splits["train"]
    chosen = np.linspace(0, len(rows) - 1, 200).astype(int)
    history, target = rows.history[chosen], rows.target[chosen]
    expected = [
        plain_match(world, h.tolist(), int(t)) for h, t in zip(history, target, strict=True)
    ]
    assert 0 < np.count_nonzero(history[:, -1] == 0) < 50
    np.testing.assert_allclose(match(world.config, world.items, history, target), expected)


def test_match_is_zero_without_a_history_and_near_one_at_the_most(world: World) -> None:
    target = np.array([5, 5])
    history = np.zeros((2, 100), np.int64)
    history[1] = 5
    empty, full = match(world.config, world.items, history, target)
    config = world.config
    weights = sum(config.match_decay**age for age in range(config.match_window))
    assert empty == 0
    assert full == pytest.approx(weights / (weights + config.match_smoothing))


def test_items_before_the_window_do_not_count(world: World) -> None:
    rows = world.splits["train"]
    window = world.config.match_window
    long = rows.history[:, -window - 1] > 0
    history, target = rows.history[long], rows.target[long]
    older = history.copy()
    older[:, :-window] = 1 + (older[:, :-window] + 7) % len(world.items)
    before = match(world.config, world.items, history, target)
    after = match(world.config, world.items, older, target)
    np.testing.assert_allclose(after, before, rtol=1e-12)


def test_probability_is_the_sigmoid_of_the_terms(world: World) -> None:
    config, items, rows = world.config, world.items, world.splits["valid"]
    row = int(np.flatnonzero(rows.history[:, -1])[0])
    target = int(rows.target[row])
    logit = (
        config.bias
        + config.match_weight * plain_match(world, rows.history[row].tolist(), target)
        + config.grade_weight * (items.grade[target] - 2) / math.sqrt(2)
        + config.appeal_weight * items.appeal[target]
        + config.popularity_weight * items.popularity[target]
    )
    assert rows.probability[row] == pytest.approx(1 / (1 + math.exp(-logit)))


def test_without_weights_only_the_bias_is_left(world: World) -> None:
    rows = world.splits["valid"]
    config = replace(
        world.config, match_weight=0, grade_weight=0, appeal_weight=0, popularity_weight=0, bias=1
    )
    probability = click_probability(config, world.items, rows.history, rows.target)
    np.testing.assert_allclose(probability, 1 / (1 + math.exp(-1)))
