from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common import paths
from pipeline.common.files import InputError, read_array, read_json
from pipeline.common.stage import refuse_other_data
from pipeline.ingest import closing_line, main
from pipeline.raw import clicks
from pipeline.settings.params import Params, load_params
from pipeline.tables import table as raw_module
from pipeline.tables.split import Split
from pipeline.tables.table import RawTable
from tests.pipeline.conftest import RawFolder

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("workspace")
def test_clicks_become_dense_ids_in_their_columns(raw: RawFolder) -> None:
    stats = raw.write().ingest()
    train = Split.load("train")
    assert train.rows.dtype == np.int32
    assert train.history.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 2, 3, 4], [0, 4, 4, 1]]
    assert train.target.tolist() == [1, 2, 3, 4]
    assert train.column("likes_level").tolist() == [0, 1, 2, 3]
    assert train.column("views_level").tolist() == [10, 9, 8, 7]
    assert train.label.tolist() == [0, 1, 0, 1]
    assert train.user.tolist() == [1, 1, 2, 2]
    assert Split.load("valid").user.tolist() == [1, 1]
    assert Split.load("test").label.tolist() == [-1, -1]
    assert read_array(paths.TEST_ID).tolist() == [0, 1]
    assert stats == {
        "items": 4,
        "tags": 6,
        "titles_empty": 2,
        "covers_missing": 2,
        "cover_files_unused": 1,
        "users": 2,
        "history": 4,
        "rows_train": 4,
        "rows_valid": 2,
        "rows_test": 2,
    }
    info = read_json(paths.array_info(paths.split_path("train")))
    assert info["shape"] == [4, 9]
    assert info["dtype"] == "int32"


@pytest.mark.usefixtures("workspace")
def test_items_stand_in_the_order_of_their_ids(raw: RawFolder) -> None:
    raw.write().ingest()
    table = pq.read_table(paths.ITEMS).to_pydict()
    assert table == {
        "item_id": [0, 2, 3, 5, 8],
        "title": ["", "two", "", "five", ""],
        "tags": [[0] * 5, [2, 3, 9, 4, 7], [0, 0, 0, 0, 9], [0, 0, 0, 7, 9], [0] * 5],
    }
    # Distinct tags 2, 3, 4, 7, 9 are numbered from 1.
    assert read_array(paths.TAGS).tolist() == [
        [0] * 5,
        [1, 2, 5, 3, 4],
        [0, 0, 0, 0, 5],
        [0, 0, 0, 4, 5],
        [0] * 5,
    ]
    assert read_array(paths.GIVEN_TEXT).shape == (5, 0)


@pytest.mark.usefixtures("workspace")
def test_data_are_known_by_the_settings_that_they_were_made_with(raw: RawFolder) -> None:
    data = raw.write().data
    content = load_params(ROOT / "params.yaml").model_dump()
    content["train"]["history"] = content["data"]["history"] = data.history
    params = Params.model_validate(content | {"data": data.model_dump()})
    main(params.data)
    refuse_other_data("fuse", data.model_dump())
    for key, value in (("source", "sample"), ("history", 3), ("tags", 4), ("seed", 2)):
        with pytest.raises(InputError, match=f"params.yaml says data.{key}: {value}. Type"):
            refuse_other_data("fuse", data.model_dump() | {key: value})


@pytest.mark.usefixtures("workspace")
def test_covers_are_packed_as_they_are(raw: RawFolder) -> None:
    raw.write().ingest()
    covers = pq.read_table(paths.COVERS).to_pydict()
    assert covers["item"] == [2, 3]
    assert covers["image"] == [
        b"not a picture",
        (raw.path / "item_images/5.jpg").read_bytes(),
    ]


@pytest.mark.usefixtures("workspace")
def test_given_embeddings_and_the_organisers_item_table(raw: RawFolder) -> None:
    vectors = pa.list_(pa.float32())
    raw.replace("item_feature", "txt_emb_BERT", [[5.0, 1], [2, 1], [8, 1], [3, 1]], vectors)
    raw.tables["MicroLens_1M_x1/item_info"] = {
        "item_id": pa.array([0, 2, 3, 5, 8], pa.int64()),
        "item_tags": pa.array([[0, 0], [0, 6], [1, 6], [0, 1], [0, 0]], pa.list_(pa.int64())),
        "item_emb_d128": pa.array([[i / 2] for i in range(5)], pa.list_(pa.float64())),
    }
    raw.write().ingest()
    assert read_array(paths.GIVEN_TEXT).tolist() == [[0, 0], [2, 1], [3, 1], [5, 1], [8, 1]]
    assert read_array(paths.GIVEN_ITEM).tolist() == [[0], [0.5], [1], [1.5], [2]]
    assert read_array(paths.TAGS)[:, -2:].tolist() == [
        [0, 0],
        [0, 2],
        [1, 2],
        [0, 1],
        [0, 0],
    ]


def item_emb(raw: RawFolder, **columns: list[list[float]]) -> None:
    """An item_emb.parquet in another order than by id."""
    vectors = {name: pa.array(rows, pa.list_(pa.float32())) for name, rows in columns.items()}
    raw.tables["item_emb"] = {"item_id": pa.array([8, 2, 5, 3], pa.int64()), **vectors}


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("name", ["item_emb_d128_v3", "item_emb_d128", "item_emb"])
def test_the_organisers_embeddings_alone_are_read_by_id(raw: RawFolder, name: str) -> None:
    item_emb(raw, **{name: [[8.0, 0.0], [2.0, 0.0], [5.0, 0.0], [3.0, 0.0]]})
    raw.write().ingest()
    expected = [[0, 0], [2, 0], [3, 0], [5, 0], [8, 0]]
    assert read_array(paths.GIVEN_ITEM_EMB).tolist() == expected
    assert read_array(paths.GIVEN_ITEM).shape == (5, 0)


@pytest.mark.usefixtures("workspace")
def test_of_several_embeddings_the_listed_one_is_read(raw: RawFolder) -> None:
    item_emb(raw, item_emb_d128=[[1.0]] * 4, item_emb_d128_v3=[[8.0], [2], [5], [3]])
    raw.write().ingest()
    assert read_array(paths.GIVEN_ITEM_EMB).tolist() == [[0], [2], [3], [5], [8]]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("names", [(), ("vectors",), ("item_emb_v1", "item_emb_v2")])
def test_embeddings_that_cannot_be_told(raw: RawFolder, names: tuple[str, ...]) -> None:
    item_emb(raw, **dict.fromkeys(names, [[1.0]] * 4))
    columns = ", ".join(("item_id", *names))
    message = f"item_emb.parquet: no column item_emb_d128_v3, nor one .* it has {columns}. Name"
    with pytest.raises(InputError, match=message):
        raw.write().ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int32()),
        pa.large_list(pa.int64()),
        pa.list_(pa.uint16()),
        pa.list_(pa.int64(), 4),
        pa.list_view(pa.int64()),
        pa.large_list_view(pa.uint8()),
    ],
    ids=str,
)
def test_unusual_types_mean_the_same(raw: RawFolder, kind: pa.DataType) -> None:
    train = raw.tables["MicroLens_1M_x1/train"]
    train["item_seq"] = pa.array(train["item_seq"].to_pylist(), kind)
    train["label"] = train["label"].cast(pa.int8()).dictionary_encode()
    titles = raw.tables["item_feature"]["item_title"]
    raw.tables["item_feature"]["item_title"] = titles.cast(pa.large_string()).dictionary_encode()
    raw.write().ingest()
    assert Split.load("train").history[2:].tolist() == [[1, 2, 3, 4], [0, 4, 4, 1]]
    assert Split.load("train").label.tolist() == [0, 1, 0, 1]
    assert pq.read_table(paths.ITEMS)["title"].to_pylist() == ["", "two", "", "five", ""]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    "kind", [pa.null(), pa.list_(pa.null()), pa.large_list(pa.null())], ids=str
)
def test_no_tags_and_no_titles_at_all_as_pandas_writes_them(
    raw: RawFolder, kind: pa.DataType
) -> None:
    raw.replace("item_feature", "item_tags", [None, *[None if kind == pa.null() else []] * 3], kind)
    raw.replace("item_feature", "item_title", [None] * 4, pa.null())
    stats = raw.write().ingest()
    assert (stats["tags"], stats["titles_empty"]) == (1, 4)
    assert read_array(paths.TAGS).tolist() == [[0] * 5] * 5
    assert pq.read_table(paths.ITEMS)["title"].to_pylist() == [""] * 5


@pytest.mark.usefixtures("workspace")
def test_levels_of_items_are_not_needed(raw: RawFolder) -> None:
    for name in ("likes_level", "views_level"):
        del raw.tables["item_feature"][name]
    assert raw.write().ingest()["items"] == 4


def test_the_closing_line_counts_what_has_no_cover_and_what_is_none() -> None:
    stats = {"items": 91_717, "covers_missing": 3, "users": 1_000_000, "rows_train": 3_600_000}
    line = "91,717 items (3 without a cover), 1,000,000 users, 3,600,000 rows of train"
    assert closing_line(stats | {"cover_files_unused": 0}) == line
    assert closing_line(stats | {"cover_files_unused": 1_204}) == (
        f"{line}, 1,204 files among the covers that are no item's"
    )


@pytest.mark.usefixtures("workspace")
def test_tests_own_ids_are_kept(raw: RawFolder) -> None:
    raw.replace("MicroLens_1M_x1/test", "ID", [40, 7], pa.int64())
    raw.write().ingest()
    assert read_array(paths.TEST_ID).tolist() == [40, 7]


def test_rows_beyond_one_batch_stay_in_order(
    raw: RawFolder, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tables.table.BATCH_ROWS", 3)
    assert workspace.exists()
    raw.write().ingest()
    assert Split.load("train").target.tolist() == [1, 2, 3, 4]
    assert Split.load("train").user.tolist() == [1, 1, 2, 2]


def test_a_failure_leaves_the_earlier_outputs(
    raw: RawFolder, snapshot: Callable[[], dict[str, bytes]]
) -> None:
    raw.write().ingest()
    before = snapshot()
    raw.replace("MicroLens_1M_x1/test", "item_id", [5, 99], pa.int64())
    raw.write()
    with pytest.raises(InputError, match="row 1, column item_id: found 99"):
        raw.ingest()
    assert snapshot() == before


@pytest.mark.parametrize("merge", [0, 5, 1000])
def test_users_are_all_there_however_often_they_are_merged(
    merge: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks, "MERGE", merge)
    monkeypatch.setattr(raw_module, "BATCH_ROWS", 3)
    users = np.random.default_rng(4).integers(-50, 50, (2, 40))
    tables = []
    for number, ids in enumerate(users):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"user_id": ids}), path)
        tables.append(RawTable(path, ("user_id",)))
    assert clicks.distinct_users(tables).tolist() == np.unique(users).tolist()
