from pathlib import Path

import numpy as np
import pytest

from benchmarks.support.training_world import CHUNK_ROWS, TOPICS, Items, clicks, write_world, zipf
from pipeline.common import paths
from pipeline.common.files import read_array, read_json
from pipeline.tables.split import LEVELS, Split

ITEMS, TAGS, HISTORY, CONTENT = 300, 40, 12, 6
ROWS = {"train": CHUNK_ROWS + 500, "valid": 900}  # train in two chunks


def write(seed: int = 3) -> None:
    write_world(ITEMS, TAGS, ROWS["train"], ROWS["valid"], HISTORY, CONTENT, seed)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write()
    return folder


@pytest.fixture(autouse=True)
def _inside(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


@pytest.mark.parametrize("name", ["train", "valid"])
def test_splits_keep_to_the_layout(name: str) -> None:
    split = Split.load(name)
    assert split.rows.dtype == np.int32
    assert split.rows.shape == (ROWS[name], HISTORY + len(Split.TAIL))
    real = split.history > 0
    assert (np.sort(real, axis=1) == real).all()  # padded on the left
    assert set(real.sum(axis=1)) == set(range(HISTORY + 1))
    assert real.mean() == pytest.approx(2 / 3, abs=0.03)
    assert (split.history.min(), split.history.max()) == (0, ITEMS)
    assert split.target.min() >= 1
    assert split.target.max() <= ITEMS
    assert split.user.min() > 0
    for level in ("likes_level", "views_level"):
        assert set(split.column(level)) == set(range(LEVELS))
    assert set(split.label) == {0, 1}
    assert split.label.mean() == pytest.approx(1 / 4, abs=0.05)


def test_item_tables() -> None:
    tags, content = np.load(paths.TAGS), np.load(paths.ITEM)
    assert (tags.dtype, tags.shape) == (np.int32, (ITEMS + 1, 5))
    real = tags > 0
    assert (np.sort(real, axis=1)[:, ::-1] == real).all()  # padded on the right
    assert set(tags[1:].flat) == set(range(TAGS))
    assert real[1:].sum(axis=1).mean() == pytest.approx(3.5, abs=0.2)
    assert (content.dtype, content.shape) == (np.float32, (ITEMS + 1, CONTENT))
    assert np.linalg.norm(content[1:], axis=1).mean() == pytest.approx(1)
    assert not tags[0].any()
    assert not content[0].any()
    with np.load(paths.NEIGHBORS) as neighbors:
        assert {name: (str(a.dtype), a.shape) for name, a in neighbors.items()} == {
            "ids": ("int32", (ITEMS + 1, 0)),
            "cosine": ("float32", (ITEMS + 1, 0)),
        }
    assert read_json(paths.STATS) == {"items": ITEMS, "tags": TAGS}


def test_arrays_are_described_beside_them() -> None:
    for path in (paths.split_path("train"), paths.split_path("valid"), paths.TAGS, paths.ITEM):
        array, info = read_array(path), read_json(paths.array_info(path))
        assert (info["shape"], info["dtype"]) == (list(array.shape), str(array.dtype))


def test_content_shows_the_topic() -> None:
    content = np.load(paths.ITEM)[1:]
    centred = content - content.mean(axis=0)
    cosine = np.corrcoef(centred)
    topic = np.arange(1, ITEMS + 1) % TOPICS
    same = topic[:, None] == topic
    assert cosine[same & ~np.eye(ITEMS, dtype=bool)].mean() > cosine[~same].mean() + 0.2


def test_clicks_follow_appeal_and_topic() -> None:
    by_popularity = 1 + np.arange(ITEMS)
    appeal = np.where(np.arange(ITEMS + 1) % 2, 0.5, -0.5)
    rows = clicks(np.random.default_rng(5), Items(by_popularity, appeal), 2 * CHUNK_ROWS, HISTORY)
    split = Split(np.concatenate(list(rows)))
    appealing = split.target % 2 == 1
    topic = split.target[:, None] % TOPICS
    fits = ((split.history % TOPICS == topic) & (split.history > 0)).any(axis=1)
    label = split.label.astype(bool)
    assert label[appealing & fits].mean() > label[appealing & ~fits].mean() + 0.05
    assert label[appealing & fits].mean() > label[~appealing & fits].mean() + 0.1


def test_zipf_draws_by_a_power_of_the_rank() -> None:
    drawn = zipf(np.random.default_rng(1), 1000, (400, 1000))
    share = np.bincount(drawn.ravel(), minlength=1001) / drawn.size
    assert len(share) == 1001
    # The integral of x ** -0.8 over [k, k + 1), as a share of that over [1, 1001).
    edges = np.arange(1, 1002) ** 0.2
    np.testing.assert_allclose(share[1:], np.diff(edges) / (edges[-1] - 1), atol=1e-3)
    assert share[0] == 0


def contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_a_seed_gives_the_same_bytes(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write()
    assert len(contents(world)) == 10
    assert contents(tmp_path) == contents(world)
    write(seed=4)
    for name in (paths.split_path("train"), paths.split_path("valid"), paths.TAGS, paths.ITEM):
        assert name.read_bytes() != (world / name).read_bytes()
