"""What ingest must make of a valid folder, written plainly: one Python value after another."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.common import paths
from pipeline.common.files import read_array
from tests.whole.fuzz.support.folder import EMB, FEATURE, INFO, SPLITS, TEST, Folder

Content = dict[str, Any]
"""By output; arrays as (dtype, shape, nested lists)."""


def expected(folder: Folder) -> Content:
    feature = folder.tables[FEATURE]
    item_ids = sorted(feature["item_id"])
    dense = {0: 0} | {item_id: i for i, item_id in enumerate(item_ids, start=1)}
    titles = [(title or "").strip() for title in by_item(feature, "item_title", item_ids)]
    info = folder.tables.get(INFO, {})
    tags = [last(row, folder.tags) for row in by_item(info or feature, "item_tags", item_ids)]
    distinct_tags = sorted({tag for row in tags for tag in row} - {0})
    tag_number = {0: 0} | {tag: i for i, tag in enumerate(distinct_tags, start=1)}
    users = sorted({user for split in SPLITS for user in folder.tables[split]["user_id"]})
    user_number = {user: i for i, user in enumerate(users, start=1)}
    covers = {
        dense[item_id]: folder.covers[item_id] for item_id in item_ids if item_id in folder.covers
    }
    no_tags = [0] * folder.tags
    content: Content = {
        "items": {
            "item_id": [0, *item_ids],
            "title": ["", *titles],
            "tags": [no_tags, *tags],
        },
        "tags": array("int32", [no_tags, *([tag_number[tag] for tag in row] for row in tags)]),
        "given_text": given(feature, "txt_emb_BERT", item_ids),
        "given_image": given(feature, "img_emb_CLIPRN50", item_ids),
        "given_item": given(info, "item_emb_d128", item_ids),
        "given_item_emb": given(folder.tables.get(EMB, {}), "item_emb_d128_v3", item_ids),
        "covers": {"item": list(covers), "image": list(covers.values())},
        "test_id": array("int64", folder.tables[TEST].get("ID", list(range(folder.rows(TEST))))),
        "stats": {
            "items": len(item_ids),
            "tags": len(distinct_tags) + 1,
            "titles_empty": titles.count(""),
            "covers_missing": len(item_ids) - len(covers),
            "cover_files_unused": len(folder.covers) - len(covers),
            "users": len(users),
            "history": folder.history,
        },
    }
    for name, split in zip(paths.SPLITS, SPLITS, strict=True):
        content[name] = array("int32", click_rows(folder.tables[split], dense, user_number))
        content["stats"][f"rows_{name}"] = folder.rows(split)
    return content


def found(stats: dict[str, Any]) -> Content:
    """The outputs in the working directory, in the same form."""
    arrays = {
        "tags": paths.TAGS,
        "given_text": paths.GIVEN_TEXT,
        "given_image": paths.GIVEN_IMAGE,
        "given_item": paths.GIVEN_ITEM,
        "given_item_emb": paths.GIVEN_ITEM_EMB,
        "test_id": paths.TEST_ID,
        **{split: paths.split_path(split) for split in paths.SPLITS},
    }
    read = {name: read_array(path) for name, path in arrays.items()}
    return {
        "items": pq.read_table(paths.ITEMS).to_pydict(),
        "covers": pq.read_table(paths.COVERS).to_pydict(),
        "stats": stats,
        **{name: (str(each.dtype), each.shape, each.tolist()) for name, each in read.items()},
    }


def array(dtype: str, rows: list[Any]) -> tuple[str, tuple[int, ...], list[Any]]:
    made = np.array(rows, dtype)
    return dtype, made.shape, made.tolist()


def by_item(columns: dict[str, list[Any]], name: str, item_ids: list[int]) -> list[Any]:
    value = dict(zip(columns["item_id"], columns[name], strict=True))
    return [value[item_id] for item_id in item_ids]


def last(tags: list[int] | None, width: int) -> list[int]:
    """The last `width` real tags, padded on the left."""
    real = [tag for tag in tags or [] if tag]
    return ([0] * width + real)[-width:]


def given(
    columns: dict[str, list[Any]], name: str, item_ids: list[int]
) -> tuple[str, tuple[int, ...], list[Any]]:
    if name not in columns:
        return array("float32", [[] for _ in range(len(item_ids) + 1)])
    rows = by_item(columns, name, item_ids)
    return array("float32", [[0.0] * len(rows[0]), *rows])


def click_rows(
    columns: dict[str, list[Any]], dense: dict[int, int], user_number: dict[int, int]
) -> list[list[int]]:
    labels = columns.get("label", [-1] * len(columns["item_id"]))
    return [
        [*(dense[item] for item in history), dense[target], likes, views, label, user_number[user]]
        for history, target, likes, views, label, user in zip(
            columns["item_seq"],
            columns["item_id"],
            columns["likes_level"],
            columns["views_level"],
            labels,
            columns["user_id"],
            strict=True,
        )
    ]
