from typing import Any

import pytest

from sample.world import WorldConfig


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"topics": 25}, "topics must be 1 to 24, found 25"),
        ({"items": 26}, "found 26 with 3 cold"),
        ({"cold_items": 0.0}, "found 2000 with 0 cold"),
        ({"tags": 7}, "tags .* found 7"),
        ({"valid_slates": 0}, "slates of each split"),
        ({"popular_candidates": 0.8}, "must not exceed 1"),
    ],
)
def test_impossible_worlds_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldConfig(**sizes)


@pytest.mark.parametrize(("topics", "groups"), [(24, 6), (5, 2), (4, 1), (1, 1)])
def test_four_topics_form_a_group(topics: int, groups: int) -> None:
    assert WorldConfig(topics=topics).groups == groups
