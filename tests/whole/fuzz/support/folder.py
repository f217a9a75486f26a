"""A raw folder as plain Python values, how hypothesis draws one, and how it is written."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from pipeline.settings.data import Data

TRAIN, VALID, TEST = (f"MicroLens_1M_x1/{split}" for split in ("train", "valid", "test"))
SPLITS = (TRAIN, VALID, TEST)
FEATURE, INFO = "item_feature", "MicroLens_1M_x1/item_info"
EMB = "item_emb"
OPTIONAL = {INFO, EMB}

INT, TEXT = pa.int64(), pa.string()
INTS, FLOATS = pa.list_(INT), pa.list_(pa.float32())
KINDS = {
    "item_title": TEXT,
    "item_seq": INTS,
    "item_tags": INTS,
    "txt_emb_BERT": FLOATS,
    "img_emb_CLIPRN50": FLOATS,
    "item_emb_d128": FLOATS,
    "item_emb_d128_v3": FLOATS,
}
"""The competition's types; every other column is INT."""


class Place(NamedTuple):
    """A column of a table, the table by its file name without ending."""

    table: str
    column: str


@dataclass
class Folder:
    """Faults change values and types, dresses only how they are stored."""

    history: int
    tags: int
    tables: dict[str, dict[str, list[Any]]]
    """Values by table and column."""
    covers: dict[int, bytes]
    """By raw item id."""
    kinds: dict[Place, pa.DataType] = field(default_factory=dict)
    """Types other than the competition's."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """The columns of a table in the order they are written, if not as in `tables`."""
    groups: dict[str, list[int]] = field(default_factory=dict)
    """Rows in each row group, if not one group."""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the parquet writer, by table."""
    cover_name: Callable[[int], str] = "{}.jpg".format
    """Where an item's cover lies below the folder of covers."""
    cover_store: Callable[[Path, dict[str, bytes]], object] | None = None
    """Writes the covers, by where they lie, into the raw folder; None makes files of them."""
    damage: list[Callable[[Path], object]] = field(default_factory=list)
    """Done to the folder once it is written."""

    def values(self, place: Place) -> list[Any]:
        return self.tables[place.table][place.column]

    def kind(self, place: Place) -> pa.DataType:
        return self.kinds.get(place, KINDS.get(place.column, INT))

    def rows(self, table: str) -> int:
        return len(next(iter(self.tables[table].values())))

    def places(self) -> list[Place]:
        return [Place(table, column) for table in self.tables for column in self.tables[table]]

    def item_ids(self) -> list[int]:
        return list(self.tables[FEATURE]["item_id"])

    def data(self, path: Path) -> Data:
        return Data(source=str(path), history=self.history, tags=self.tags, seed=1)

    def write(self, path: Path) -> None:
        """Into `path`, an empty folder."""
        (path / "MicroLens_1M_x1").mkdir()
        covers = {self.cover_name(item_id): content for item_id, content in self.covers.items()}
        (self.cover_store or as_files("item_images"))(path, covers)
        for table in self.tables:
            self._write_table(table, path / f"{table}.parquet")
        for spoil in self.damage:
            spoil(path)

    def _write_table(self, table: str, path: Path) -> None:
        names = self.names.get(table, list(self.tables[table]))
        places = [Place(table, name) for name in names]
        arrays = [as_array(self.values(place), self.kind(place)) for place in places]
        whole = pa.Table.from_arrays(arrays, names=names)
        options = self.options.get(table, {})
        with pq.ParquetWriter(path, whole.schema, **options) as writer:
            start = 0
            for rows in self.groups.get(table, [len(whole)]):
                writer.write_table(whole.slice(start, rows))
                start += rows


def as_files(folder: str) -> Callable[[Path, dict[str, bytes]], None]:
    """Covers as files below `folder` of the raw folder."""

    def write(path: Path, covers: dict[str, bytes]) -> None:
        (path / folder).mkdir()
        for name, content in covers.items():
            file = path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    return write


def as_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """pa.array, also of text that is given as bytes because it is not valid UTF-8."""
    if not any(isinstance(value, bytes) for value in values) or pa.types.is_binary(kind):
        return pa.array(values, kind)
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return pa.array(encoded, pa.binary()).view(pa.string()).cast(kind)


IDS = st.one_of(st.integers(1, 40), st.integers(1, 2**31), st.integers(2**62 - 5, 2**62))
TITLES = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(
        [
            " \t\u3000",
            "\x00",
            "cat 🐈‍⬛ 👩🏽‍🚀",
            "مرحبا بالعالم",
            "\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
            "e\u0301\u200b",
            "長い題 " * 30_000,
        ]
    ),
)


@st.composite
def folders(draw: st.DrawFn) -> Folder:
    """A valid folder: two to five items, clicks, and some of what is optional.

    Hypothesis draws what faults and dresses are about, and one seed of the plain rest.
    """
    random = Random(draw(st.integers(0, 2**32 - 1)))
    item_ids = draw(st.lists(IDS, min_size=2, max_size=5, unique=True))
    history = draw(st.integers(2, 5))
    titles = st.lists(TITLES, min_size=len(item_ids), max_size=len(item_ids))
    tables = {FEATURE: item_columns(random, item_ids, draw(titles))}
    for split in SPLITS:
        tables[split] = click_columns(random, item_ids, history, split)
    if draw(st.booleans()):
        tables[INFO] = info_columns(random, item_ids)
    if draw(st.booleans()):
        tables[EMB] = emb_columns(random, item_ids)
    covered = random.sample([*item_ids, 41], random.randrange(len(item_ids)))
    if not set(covered) & set(item_ids):  # which would be refused
        covered = []
    covers = {item_id: random.randbytes(random.randrange(20)) for item_id in covered}
    return Folder(history, draw(st.integers(1, 3)), tables, covers)


def plain_folder() -> Folder:
    """A valid one that is always the same."""
    random, item_ids = Random(1), [3, 5, 9]
    tables = {
        FEATURE: item_columns(random, item_ids, ["three", None, "ninth"]),
        INFO: info_columns(random, item_ids),
        EMB: emb_columns(random, item_ids),
        **{split: click_columns(random, item_ids, 3, split) for split in SPLITS},
    }
    return Folder(3, 2, tables, {})


def item_columns(
    random: Random, item_ids: list[int], titles: list[str | None]
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "item_id": list(item_ids),
        "item_title": titles,
        "item_tags": [some_tags(random) for _ in item_ids],
        "likes_level": levels(random, len(item_ids)),
        "views_level": levels(random, len(item_ids)),
    }
    for name in ("txt_emb_BERT", "img_emb_CLIPRN50"):
        if random.random() < 0.5:
            columns[name] = vectors(random, len(item_ids))
    return columns


def some_tags(random: Random) -> list[int] | None:
    highest = random.choice([9, 9, 2**62])
    return random.choice([None, [random.randint(0, highest) for _ in range(random.randrange(6))]])


def levels(random: Random, rows: int) -> list[int]:
    return random.choices(range(11), k=rows)


def vectors(random: Random, rows: int) -> list[list[float]]:
    """Of values that every float type holds."""
    width = random.randint(1, 3)
    return [[random.randint(-2048, 2048) / 64 for _ in range(width)] for _ in range(rows)]


def info_columns(random: Random, item_ids: list[int]) -> dict[str, list[Any]]:
    """The organisers' table: rows in any order, at times with one of padding."""
    ids = [*item_ids] + [0] * random.randrange(2)
    random.shuffle(ids)
    columns: dict[str, list[Any]] = {
        "item_id": ids,
        "item_tags": [random.choices(range(10), k=5) for _ in ids],
    }
    if random.random() < 0.5:
        columns["item_emb_d128"] = vectors(random, len(ids))
    return columns


def emb_columns(random: Random, item_ids: list[int]) -> dict[str, list[Any]]:
    """The organisers' embeddings alone, in any order."""
    ids = random.sample(item_ids, len(item_ids))
    return {"item_id": ids, "item_emb_d128_v3": vectors(random, len(ids))}


def click_columns(
    random: Random, item_ids: list[int], history: int, split: str
) -> dict[str, list[Any]]:
    """Two to nine rows, labels of both classes."""
    rows = random.randint(2, 9)
    furthest = random.choice([3, 2**62])
    recent = [random.choices(item_ids, k=random.randint(0, history)) for _ in range(rows)]
    columns: dict[str, list[Any]] = {
        "user_id": [random.randint(-furthest, furthest) for _ in range(rows)],
        "item_seq": [[0] * (history - len(items)) + items for items in recent],
        "item_id": random.choices(item_ids, k=rows),
        "likes_level": levels(random, rows),
        "views_level": levels(random, rows),
    }
    if split != TEST:
        labels = [0, 1, *random.choices([0, 1], k=rows - 2)]
        columns["label"] = random.sample(labels, rows)
    elif random.random() < 0.5:
        columns["ID"] = random.sample(range(random.choice([rows, 2**62])), rows)
    return columns
