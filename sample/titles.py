"""Titles: words of the topic, an adjective for the grade, and words that say nothing."""

import numpy as np

from sample.vocabulary import COMMON, GRADES, TOPIC_NAMES, TOPICS

LENGTHS = (4, 9)
"""Fewest and most words of a title."""
MOST_TOPIC_WORDS = 3


def compose(topic: int, grade: int, rng: np.random.Generator) -> str:
    """A title of 4 to 9 words in random order, 1 to 3 of them from the topic's vocabulary."""
    length = int(rng.integers(LENGTHS[0], LENGTHS[1], endpoint=True))
    of_topic = int(rng.integers(1, MOST_TOPIC_WORDS, endpoint=True))
    words = [
        *rng.choice(TOPICS[TOPIC_NAMES[topic]], of_topic, replace=False),
        rng.choice(GRADES[grade]),
        *rng.choice(COMMON, length - of_topic - 1, replace=False),
    ]
    return " ".join(rng.permutation(words))
