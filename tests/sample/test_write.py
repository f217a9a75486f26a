from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.files import InputError
from sample import write
from sample.covers import Facets
from sample.world import World, WorldConfig, build
from sample.write import write_raw

INTEGERS = pa.list_(pa.int64())
SPLIT_COLUMNS = [
    ("user_id", pa.int64()),
    ("item_seq", INTEGERS),
    ("item_id", pa.int64()),
    ("likes_level", pa.int64()),
    ("views_level", pa.int64()),
]
SCHEMAS = {
    "item_feature.parquet": [
        ("item_id", pa.int64()),
        ("item_title", pa.string()),
        ("item_tags", INTEGERS),
        ("likes_level", pa.int64()),
        ("views_level", pa.int64()),
    ],
    "item_seq.parquet": [("user_id", pa.int64()), ("item_seq", INTEGERS)],
    "MicroLens_1M_x1/train.parquet": [*SPLIT_COLUMNS, ("label", pa.int64())],
    "MicroLens_1M_x1/valid.parquet": [*SPLIT_COLUMNS, ("label", pa.int64())],
    "MicroLens_1M_x1/test.parquet": [("ID", pa.int64()), *SPLIT_COLUMNS],
}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def raw(small_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "raw"
    write_raw(small_world, folder)
    return folder


def test_the_files_are_those_of_the_competition(raw: Path, small_world: World) -> None:
    covered = [item for item, cover in enumerate(small_world.items.cover) if cover is not None]
    assert 50 <= len(covered) < 60
    assert set(contents(raw)) == {*SCHEMAS, *(f"item_images/{item}.jpg" for item in covered)}


def test_pieces_and_processes_change_nothing_that_is_read(
    raw: Path, small_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "COVERS_AT_A_TIME", 25)
    monkeypatch.setattr(write, "ROW_GROUP", 7)
    write_raw(small_world, tmp_path / "raw")
    whole, pieces = contents(raw), contents(tmp_path / "raw")
    covers = {name for name in whole if name.endswith(".jpg")}
    assert {name: pieces[name] for name in covers} == {name: whole[name] for name in covers}
    assert set(pieces) == set(whole)
    for split in ("train", "valid", "test"):
        name = f"MicroLens_1M_x1/{split}.parquet"
        assert pq.ParquetFile(tmp_path / "raw" / name).num_row_groups > 1
        assert pq.read_table(tmp_path / "raw" / name) == pq.read_table(raw / name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(raw: Path, name: str) -> None:
    assert pq.read_schema(raw / name) == pa.schema(SCHEMAS[name])


def test_the_catalogue_holds_the_items(raw: Path, small_world: World) -> None:
    table = pq.read_table(raw / "item_feature.parquet").to_pydict()
    items = small_world.items
    assert table == {
        "item_id": list(range(1, 61)),
        "item_title": items.title[1:],
        "item_tags": items.tags[1:],
        "likes_level": items.likes_level[1:].tolist(),
        "views_level": items.views_level[1:].tolist(),
    }


def test_the_sequences_end_with_train(raw: Path, small_world: World) -> None:
    table = pq.read_table(raw / "item_seq.parquet").to_pydict()
    assert table["user_id"] == list(range(1, 41))
    for written, history in zip(table["item_seq"], small_world.train_history, strict=True):
        assert written == [item for item in history.tolist() if item]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_click_logs_hold_the_impressions(raw: Path, small_world: World, split: str) -> None:
    table = pq.read_table(raw / "MicroLens_1M_x1" / f"{split}.parquet").to_pydict()
    rows, items = small_world.splits[split], small_world.items
    outcome = {"ID": list(range(len(rows)))} if split == "test" else {"label": rows.label.tolist()}
    assert table == {
        "user_id": rows.user_id.tolist(),
        "item_seq": rows.history.tolist(),
        "item_id": rows.target.tolist(),
        "likes_level": items.likes_level[rows.target].tolist(),
        "views_level": items.views_level[rows.target].tolist(),
        **outcome,
    }


def test_bytes_follow_the_seed(raw: Path, small_config: WorldConfig, tmp_path: Path) -> None:
    first = contents(raw)
    write_raw(build(small_config, 3), tmp_path / "again")
    write_raw(build(small_config, 4), tmp_path / "other")
    assert contents(tmp_path / "again") == first
    other = contents(tmp_path / "other")
    assert [name for name, data in other.items() if first.get(name) == data] == []


def test_the_seed_also_draws_the_pictures(raw: Path, small_world: World, tmp_path: Path) -> None:
    write_raw(replace(small_world, seed=small_world.seed + 1), tmp_path / "raw")
    first, other = contents(raw), contents(tmp_path / "raw")
    assert {name for name in first if first[name] != other[name]} == {
        name for name in first if name.startswith("item_images/")
    }


def test_an_empty_folder_is_filled_and_a_full_one_refused(
    small_world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    write_raw(small_world, folder)
    kept = contents(folder)
    with pytest.raises(InputError, match="raw: the sample needs an empty or a new folder"):
        write_raw(small_world, folder)
    assert contents(folder) == kept


def test_a_failure_beside_processes_that_draw_covers_leaves_nothing(
    small_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("sample.write.COVERS_AT_A_TIME", 1)
    monkeypatch.setattr("sample.write._write_click_log", full)
    with pytest.raises(OSError, match="no space"):
        write_raw(small_world, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(small_world: World, tmp_path: Path) -> None:
    unknown_topic = Facets(colour_topic=0, shape_topic=0, name_topic=999, grade=0)
    cover = [*small_world.items.cover[:-1], unknown_topic]
    broken = replace(small_world, items=replace(small_world.items, cover=cover))
    with pytest.raises(IndexError):
        write_raw(broken, tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []
