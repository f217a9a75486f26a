import numpy as np
import pytest

from sample.items import Items, _tags
from sample.vocabulary import GRADES, TOPIC_NAMES, TOPICS
from sample.world import World, WorldConfig


@pytest.fixture(scope="module")
def items(world: World) -> Items:
    return world.items


def within_sampling_error(share: float, expected: float, trials: int) -> bool:
    """Whether `share` of `trials` lies within 4 standard deviations of `expected`."""
    return bool(abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / trials))


def test_row_zero_is_padding(items: Items) -> None:
    assert len(items) == 2000
    columns = (items.topic, items.grade, items.appeal, items.weight, items.likes_level)
    assert [column[0] for column in (*columns, items.cold)] == [0] * 6
    assert (items.tags[0], items.title[0], items.cover[0]) == ([], "", None)


def test_topics_are_of_equal_size_and_so_are_their_cold_parts(items: Items) -> None:
    for chosen, expected in ((items.topic[1:], 2000 / 24), (items.topic[items.cold], 200 / 24)):
        assert set(np.bincount(chosen, minlength=24)) <= {int(expected), int(expected) + 1}


def test_related_topics_are_the_groups(items: Items) -> None:
    affinity, group = items.affinity, np.arange(24) // 4
    same = (group[:, None] == group) & ~np.eye(24, dtype=bool)
    other = group[:, None] != group
    np.testing.assert_allclose(np.diag(affinity), 1.0)
    assert affinity.min() >= 0
    assert affinity[same].mean() > affinity[other].mean() + 0.3


def test_titles_and_covers_are_missing_at_their_rates(world: World, items: Items) -> None:
    untitled = np.mean([not title for title in items.title[1:]])
    uncovered = np.mean([cover is None for cover in items.cover[1:]])
    assert within_sampling_error(float(untitled), world.config.missing_titles, len(items))
    assert within_sampling_error(float(uncovered), world.config.missing_covers, len(items))


def test_covers_mislead_in_one_facet_at_their_rate(world: World, items: Items) -> None:
    wrong = [
        (cover.colour_topic != topic)
        + (cover.shape_topic != topic)
        + (cover.name_topic != topic)
        + (cover.grade != grade)
        for cover, topic, grade in zip(items.cover, items.topic, items.grade, strict=True)
        if cover is not None
    ]
    still_true_by_chance = (3 / 24 + 1 / 5) / 4
    expected = world.config.misleading * (1 - still_true_by_chance)
    assert set(wrong) == {0, 1}
    assert within_sampling_error(float(np.mean(wrong)), expected, len(wrong))


def test_titles_mislead_in_one_facet_at_their_rate(world: World, items: Items) -> None:
    titled = [item for item, title in enumerate(items.title) if title]
    words = {item: set(items.title[item].split()) for item in titled}
    off_topic = {
        item for item in titled if not words[item] & set(TOPICS[TOPIC_NAMES[items.topic[item]]])
    }
    off_grade = {item for item in titled if not words[item] & set(GRADES[items.grade[item]])}
    half = world.config.misleading / 2
    assert not off_topic & off_grade
    assert within_sampling_error(len(off_topic) / len(titled), half * 23 / 24, len(titled))
    assert within_sampling_error(len(off_grade) / len(titled), half * 4 / 5, len(titled))


def test_tags_are_few_different_and_only_hint_at_the_group(items: Items) -> None:
    hits = draws = 0
    for tags, topic in zip(items.tags[1:], items.topic[1:], strict=True):
        assert 1 <= len(tags) == len(set(tags)) <= 8
        assert set(tags) <= set(range(1, 61))
        hits += sum(tag % 6 == topic // 4 for tag in tags)
        draws += len(tags)
    assert {len(tags) for tags in items.tags[1:]} == set(range(1, 9))
    assert 1.5 / 6 < hits / draws < 3 / 6


@pytest.mark.parametrize("tags", [60, 8])
@pytest.mark.parametrize("at_a_time", [1, 130, 2**20])
@pytest.mark.parametrize("strength", [1.0, 0.0, -3.0])
def test_tags_are_those_of_the_highest_scores(
    monkeypatch: pytest.MonkeyPatch, tags: int, at_a_time: int, strength: float
) -> None:
    monkeypatch.setattr("sample.items.SCORES_AT_A_TIME", at_a_time)
    config = WorldConfig(tags=tags, tag_strength=strength, most_tags=8)
    topic = np.arange(31) % 24
    rng = np.random.default_rng(5)
    score = rng.gumbel(size=(31, tags))
    score += config.tag_strength * (np.arange(1, tags + 1) % 6 == topic[:, None] // 4)
    ranked = 1 + np.argsort(-score, axis=1)
    count = [0, *rng.integers(1, config.most_tags, 30, endpoint=True)]
    expected = [row[:n].tolist() for row, n in zip(ranked, count, strict=True)]
    assert _tags(config, topic, np.random.default_rng(5)) == expected


def test_levels_are_noisy_views_of_appeal_and_popularity(items: Items) -> None:
    for level in (items.likes_level[1:], items.views_level[1:]):
        assert (level.min(), level.max()) == (0, 10)
        assert abs(level.mean() - 5) < 0.2
    seen = np.corrcoef(
        [items.appeal[1:], items.popularity[1:], items.likes_level[1:], items.views_level[1:]]
    )
    assert 0.4 < seen[0, 2] < 0.65
    assert 0.4 < seen[1, 3] < 0.65
    assert abs(seen[0, 3]) < 0.1


def test_popularity_is_zipf(world: World, items: Items) -> None:
    ranked = np.sort(items.weight[1:])[::-1]
    np.testing.assert_allclose(ranked[[0, 1, 99]], np.array([1, 2, 100]) ** -world.config.zipf)
    assert (items.popularity[1:].argsort() == items.weight[1:].argsort()).all()
    np.testing.assert_allclose(items.popularity[1:].std(), 1.0)
