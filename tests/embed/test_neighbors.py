from pathlib import Path

import numpy as np
import pytest

from embed import neighbors
from embed.vectors.nearest import nearest_items
from pipeline.common.files import read_json, write_array
from pipeline.common.paths import ITEM, NEIGHBORS, array_info, metrics_path
from pipeline.settings.params import Params

ROWS = 60


def with_neighbors(params: Params, **changes: object) -> Params:
    section = params.neighbors.model_copy(update=changes)
    return params.model_copy(update={"neighbors": section})


@pytest.fixture
def vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.chdir(tmp_path)
    vectors = np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float32)
    vectors[[0, 30]] = 0
    write_array(ITEM, vectors)
    return vectors


def test_stage_writes_ids_cosines_and_metrics(vectors: np.ndarray, params: Params) -> None:
    neighbors.main(with_neighbors(params, k=5).neighbors)
    expected = nearest_items(vectors, 5, 10**9, 0)
    with np.load(NEIGHBORS) as arrays:
        np.testing.assert_array_equal(arrays["ids"], expected.ids)
        np.testing.assert_allclose(arrays["cosine"], expected.cosine, atol=1e-6)
    real = np.delete(expected.cosine, [0, 30], axis=0)
    assert read_json(metrics_path("neighbors")) == {
        "items": ROWS - 1,
        "k": 5,
        "index": "exact",
        "mean_cosine": pytest.approx(real.mean()),
        "recall": 1.0,
    }


def test_shape_dtype_and_provenance_stand_beside_it(vectors: np.ndarray, params: Params) -> None:
    neighbors.main(with_neighbors(params, k=100).neighbors)
    info = read_json(array_info(NEIGHBORS))
    assert info["ids"] == {"shape": [len(vectors), 100], "dtype": "int32"}
    assert info["cosine"] == {"shape": [len(vectors), 100], "dtype": "float32"}
    assert info["versions"].keys() == {"faiss", "numpy"}
    with np.load(NEIGHBORS) as arrays:
        assert (arrays["ids"][1] > 0).sum() == ROWS - 3


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("exact_below", [0, 1000])
def test_bytes_are_the_same_twice(
    params: Params, exact_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for time in (1_000_000_000.0, 1_700_000_000.0):
        monkeypatch.setattr("time.time", lambda now=time: now)
        neighbors.main(with_neighbors(params, exact_below=exact_below).neighbors)
        runs.append([path.read_bytes() for path in (NEIGHBORS, array_info(NEIGHBORS))])
    assert runs[0] == runs[1]


def test_disabled_writes_no_columns(vectors: np.ndarray, params: Params) -> None:
    neighbors.main(with_neighbors(params, enabled=False).neighbors)
    with np.load(NEIGHBORS) as arrays:
        assert arrays["ids"].shape == arrays["cosine"].shape == (len(vectors), 0)
    metrics = read_json(metrics_path("neighbors"))
    assert metrics["k"] == metrics["mean_cosine"] == 0
