from dataclasses import replace

import numpy as np

from sample.audience import Audience
from sample.items import make_items
from sample.world import World, WorldConfig

CONFIG = WorldConfig(items=40, users=20_000, topics=4, history_longest=3)


def shown(config: WorldConfig, *, cold: bool = False) -> tuple[Audience, np.ndarray]:
    items = make_items(config, np.random.default_rng(0))
    audience = Audience(config, items, np.random.default_rng(1))
    return audience, audience.show(cold=cold)


def test_popular_items_are_shown_in_proportion_to_their_weight() -> None:
    config = replace(CONFIG, popular_candidates=1.0, interest_candidates=0.0)
    items = make_items(config, np.random.default_rng(0))
    share = np.bincount(shown(config)[1], minlength=41) / config.users
    expected = np.where(items.cold, 0, items.weight)
    np.testing.assert_allclose(share, expected / expected.sum(), atol=0.015)


def test_uniform_items_are_shown_alike_and_cold_ones_not() -> None:
    config = replace(CONFIG, popular_candidates=0.0, interest_candidates=0.0)
    items = make_items(config, np.random.default_rng(0))
    share = np.bincount(shown(config)[1], minlength=41) / config.users
    np.testing.assert_allclose(share[1:], np.where(items.cold[1:], 0, 1 / 36), atol=0.005)
    assert share[0] == 0


def test_cold_items_take_their_share_when_they_may() -> None:
    items = make_items(CONFIG, np.random.default_rng(0))
    share = items.cold[shown(CONFIG, cold=True)[1]].mean()
    assert abs(share - CONFIG.cold_targets) < 0.012


def test_interest_chooses_the_topic_by_softmax_and_the_item_by_popularity() -> None:
    config = replace(CONFIG, popular_candidates=0.0, interest_candidates=1.0)
    items = make_items(config, np.random.default_rng(0))
    audience, item = shown(config)
    odds = np.exp(config.interest_sharpness * audience.interest @ items.latent.T)
    expected = (odds / odds.sum(axis=1, keepdims=True)).mean(axis=0)
    topic = np.bincount(items.topic[item], minlength=4) / config.users
    np.testing.assert_allclose(topic, expected, atol=0.015)
    first = ~items.cold & (items.topic == 0)
    first[0] = False
    within = np.bincount(item, minlength=41)[first] / np.bincount(item, minlength=41)[first].sum()
    np.testing.assert_allclose(within, items.weight[first] / items.weight[first].sum(), atol=0.02)


def test_interest_drifts_by_its_share() -> None:
    audience, _ = shown(replace(CONFIG, drift=0.5))
    before = audience.interest
    audience.drift()
    np.testing.assert_allclose(np.linalg.norm(audience.interest, axis=1), 1.0)
    assert abs((before * audience.interest).sum(axis=1).mean() - np.sqrt(0.75)) < 0.03


def test_first_histories_have_the_configured_lengths(world: World) -> None:
    items = make_items(world.config, np.random.default_rng(0))
    history = Audience(world.config, items, np.random.default_rng(1)).history
    length = (history > 0).sum(axis=1)
    assert abs((length == 0).mean() - world.config.empty_history) < 0.015
    assert abs(np.median(length[length > 0]) - world.config.history_median) <= 1
    assert length.max() == world.config.history_longest
    assert 0.03 < (length > 64).mean() < 0.08
