import numpy as np
import pytest

from sample.titles import compose
from sample.vocabulary import COMMON, GRADES, TOPIC_NAMES, TOPICS


@pytest.mark.parametrize("topic", range(len(TOPICS)))
def test_a_title_tells_topic_and_grade_and_adds_common_words(topic: int) -> None:
    rng = np.random.default_rng(topic)
    own = TOPICS[TOPIC_NAMES[topic]]
    lengths = set()
    for _ in range(100):
        grade = int(rng.integers(len(GRADES)))
        words = compose(topic, grade, rng).split()
        lengths.add(len(words))
        assert len(set(words)) == len(words)
        assert sum(word in GRADES[grade] for word in words) == 1
        of_topic = sum(word in own for word in words)
        assert 1 <= of_topic <= 3
        assert sum(word in COMMON for word in words) == len(words) - of_topic - 1
    assert lengths == {4, 5, 6, 7, 8, 9}


def test_words_stand_in_any_order() -> None:
    rng = np.random.default_rng(0)
    first = {compose(0, 0, rng).split()[0] for _ in range(200)}
    assert first & set(TOPICS["noodles"])
    assert first & set(GRADES[0])
    assert first & set(COMMON)
