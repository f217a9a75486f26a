from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.semantic_ids import BITS, LEVELS, semantic_ids, tagged
from pipeline.common.files import read_array, read_json, write_array, write_json
from pipeline.common.paths import STATS, TAGS

WORDS = 1 << BITS


def test_words_are_of_the_vectors_coarse_to_fine() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(600, 8)).astype(np.float32)
    vectors[[0, 7]], vectors[9] = 0, vectors[8]
    codes = semantic_ids(vectors)
    assert codes.shape == (600, LEVELS)
    assert not codes[[0, 7]].any()
    rows = vectors.any(axis=1)
    assert codes[rows].min() == 1
    assert codes[rows].max() <= WORDS
    assert codes[8].tolist() == codes[9].tolist()
    left = vectors[rows].astype(float)
    for level in range(LEVELS):  # what the means by the words so far do not tell gets less
        before = (left**2).sum()
        for word in {*codes[rows, level]}:
            same = codes[rows, level] == word
            left[same] -= left[same].mean(axis=0)
        assert (left**2).sum() < 0.8 * before


def test_words_are_tags_of_their_own_in_a_world_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TAGS.parent.mkdir()
    tags = np.array([[0, 0], [1, 4], [2, 0]], np.int32)
    write_array(TAGS, tags)
    write_json(STATS, {"tags": 5, "items": 2})
    codes = np.array([[0] * LEVELS, [1] * LEVELS, [WORDS] * LEVELS], np.int32)
    with tagged(codes):
        found = read_array(TAGS)
        assert found[:, :2].tolist() == tags.tolist()
        assert found[0, 2:].tolist() == [0] * LEVELS
        assert found[1, 2:].tolist() == [5 + level * WORDS for level in range(LEVELS)]
        assert found[2, 2:].tolist() == [4 + (level + 1) * WORDS for level in range(LEVELS)]
        assert read_json(STATS) == {"tags": 5 + LEVELS * WORDS, "items": 2}
    assert read_array(TAGS).tolist() == tags.tolist()
    assert read_json(STATS)["tags"] == 5
