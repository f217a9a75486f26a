"""A package that is not whole: one message, which names the file."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.common.files import InputError, read_json
from serving.folder import COLUMNS, read_package
from serving.scorer import Scorer
from tests.serving.conftest import World
from tests.serving.packaged import FOLDER, IDS, TITLES
from tests.support.worlds.tiny_world import ITEMS

READ = [
    *(
        ("qin", name)
        for name in (
            "config.json",
            "items.parquet",
            "items.safetensors",
            "model.safetensors",
            "numbers.json",
            "tallies/items.safetensors",
        )
    ),
    ("lightgbm", "model.txt"),
    ("transformer_dcn", "model.safetensors"),
]
"""Into memory, by kind."""
ALWAYS = {"config.json", "items.parquet", "items.safetensors", "numbers.json"}
MAPPED = [("qin", f"tallies/{name}.npy") for name in ("earlier", "later", "place", "values")]
CHANGED = b"\0\xff\x7f" * 7
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def whole(packaged: World, tmp_path: Path) -> Callable[[str], Path]:
    """A package of a kind, to damage."""
    return lambda kind: shutil.copytree(packaged(kind) / FOLDER, tmp_path / "package")


def assert_refused(folder: Path, name: str, told: str = "") -> None:
    with pytest.raises(InputError, match=f"^{re.escape(str(folder / name))}: {told}") as refused:
        Scorer.load(folder)
    remedy = "; copy the package again, whole, or write it anew by `dvc repro package`"
    assert str(refused.value).endswith(remedy)
    assert "\n" not in str(refused.value)


def assert_refused_though_as_summed(folder: Path, name: str, told: str = "") -> None:
    sign(folder, name)
    assert_refused(folder, name, told)


def sign(folder: Path, name: str) -> None:
    """As if the package had been written with this file."""
    sums = (folder / "SHA256SUMS").read_text()
    of_file = re.compile(f"^.*  {re.escape(name)}$", re.MULTILINE)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(of_file.sub(f"{digest}  {name}", sums))


def test_what_is_read(qin: Path) -> None:
    package = read_package(qin / FOLDER)
    assert package.items.keys() == {*COLUMNS}
    assert package.items["item_id"].tolist() == IDS.tolist()
    assert package.items["title"].tolist() == TITLES
    assert {len(column) for column in package.items.values()} == {ITEMS + 1}
    assert package.arrays.keys() == {"content", "tags", "neighbors", "cosine"}
    assert package.config == read_json(qin / FOLDER / "config.json")
    assert package.path("a.txt") == qin / FOLDER / "a.txt"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    with pytest.raises(InputError, match=f"{folder}: no such folder; .* `dvc repro package`"):
        Scorer.load(folder)


def test_the_card_is_not_needed(whole: Callable[[str], Path]) -> None:
    folder = whole("qin")
    (folder / "README.md").unlink()
    assert len(Scorer.load(folder)) == ITEMS


@pytest.mark.parametrize(("kind", "name"), READ + MAPPED)
def test_a_file_that_is_not_there(whole: Callable[[str], Path], kind: str, name: str) -> None:
    folder = whole(kind)
    (folder / name).unlink()
    assert_refused(folder, name, "not there, so the package is not whole")


@pytest.mark.parametrize(("kind", "name"), READ + MAPPED)
@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "noise"])
def test_a_file_that_is_damaged(
    whole: Callable[[str], Path], kind: str, name: str, damage: str
) -> None:
    folder = whole(kind)
    content = (folder / name).read_bytes()
    damaged = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "changed": CHANGED + content[len(CHANGED) :],
        "noise": np.random.default_rng(1).bytes(500),
    }
    (folder / name).write_bytes(damaged[damage])
    if (kind, name) in MAPPED:
        assert_refused(folder, name, "cannot be read: ")
    else:
        assert_refused(folder, name, rf"is another file than {folder}/SHA256SUMS tells of")
        assert_refused_though_as_summed(folder, name, "cannot be read: ")


@pytest.mark.parametrize("name", ["items.parquet", "model.safetensors", "config.json"])
def test_a_file_of_another_package(
    whole: Callable[[str], Path], packaged: World, name: str
) -> None:
    """Which could be read."""
    folder = whole("qin")
    if name == "items.parquet":
        pq.write_table(pq.read_table(folder / name)[::-1], folder / name)
    else:
        other = packaged("qin without history and levels") / FOLDER / name
        (folder / name).write_bytes(other.read_bytes())
    assert_refused(folder, name, rf"is another file than {folder}/SHA256SUMS tells of")


@pytest.mark.parametrize(("kind", "name"), MAPPED)
@pytest.mark.parametrize(
    "change",
    [
        lambda pairs: pairs[:-1],
        lambda pairs: pairs[..., None],
        lambda pairs: pairs.ravel()[0],
        lambda pairs: pairs.astype(np.float64),
    ],
    ids=["fewer", "in a column", "one number", "of another type"],
)
def test_pairs_that_are_other_arrays(
    whole: Callable[[str], Path], kind: str, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    folder = whole(kind)
    pairs = np.load(folder / name)
    np.save(folder / name, change(pairs))
    told = f"is {change(pairs).shape} of {change(pairs).dtype}; expected {pairs.shape} of "
    assert_refused(folder, name, re.escape(told))


def test_sums_that_are_not_there(whole: Callable[[str], Path]) -> None:
    folder = whole("qin")
    (folder / "SHA256SUMS").unlink()
    assert_refused(folder, "SHA256SUMS", "not there, so the package is not whole")


@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_sums_that_are_damaged(whole: Callable[[str], Path], damage: str) -> None:
    folder = whole("qin")
    path = folder / "SHA256SUMS"
    content = path.read_bytes()
    damaged = {
        "cut": content[: content.index(b"\n") + 1],
        "empty": b"",
        "noise": np.random.default_rng(1).bytes(500),
    }
    path.write_bytes(damaged[damage])
    told = {"cut": "tells nothing of items.parquet", "empty": "tells nothing of config.json, items"}
    assert_refused(folder, "SHA256SUMS", told.get(damage, "cannot be read: "))


@pytest.mark.parametrize(
    ("kind", "name"), [*(each for each in READ if each[1] not in ALWAYS), *MAPPED]
)
def test_sums_that_lack_a_file_that_is_there(
    whole: Callable[[str], Path], kind: str, name: str
) -> None:
    folder = whole(kind)
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(x for x in lines if not x.endswith(f"  {name}\n")))
    assert_refused(folder, "SHA256SUMS", f"tells nothing of {name}")


@pytest.mark.parametrize("line", ["", "0  " + "a" * 300, "0  ../../etc/passwd", "0  /", "\0"])
def test_of_no_other_file_a_sum_is_taken(whole: Callable[[str], Path], line: str) -> None:
    folder = whole("qin")
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    assert len(Scorer.load(folder)) == ITEMS


def test_a_table_whose_pages_are_damaged(whole: Callable[[str], Path]) -> None:
    folder = whole("qin")
    path = folder / "items.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(300) + content[304:])
    assert_refused_though_as_summed(folder, "items.parquet", "cannot be read: ")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_table_without_a_column(whole: Callable[[str], Path], column: str) -> None:
    folder = whole("qin")
    path = folder / "items.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    assert_refused_though_as_summed(folder, "items.parquet", "cannot be read: ")


def test_a_table_of_other_items(whole: Callable[[str], Path]) -> None:
    folder = whole("qin")
    pq.write_table(pq.read_table(folder / "items.parquet")[:-1], folder / "items.parquet")
    told = rf"content has {ITEMS + 1} rows, {folder}/items.parquet has {ITEMS};"
    sign(folder, "items.parquet")
    assert_refused(folder, "items.safetensors", told)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("items", "content"),
        ("items", "cosine"),
        ("tallies/items", "start"),
        ("tallies/items", "share"),
        ("model", "qnn.out.bias"),
    ],
)
def test_arrays_of_which_one_is_missing(whole: Callable[[str], Path], file: str, name: str) -> None:
    folder, path = whole("qin"), f"{file}.safetensors"
    arrays = load_file(folder / path)
    del arrays[name]
    save_file(arrays, folder / path)
    assert_refused_though_as_summed(folder, path, "cannot be read: ")


def test_weights_of_another_size(whole: Callable[[str], Path]) -> None:
    path = whole("qin") / "model.safetensors"
    weights = load_file(path)
    weights["item.id.weight"] = weights["item.id.weight"][:-1].copy()
    save_file(weights, path)
    assert_refused_though_as_summed(path.parent, path.name, "cannot be read: ")


def test_weights_that_are_not_finite(whole: Callable[[str], Path]) -> None:
    path = whole("qin") / "model.safetensors"
    weights = load_file(path)
    weights["qnn.out.bias"][:] = np.nan
    save_file(weights, path)
    assert_refused_though_as_summed(
        path.parent, path.name, "cannot be read: some of its weights are not finite"
    )


@pytest.mark.parametrize("content", ["[]", "[1, 2]", '"text"', "3", "{}"])
@pytest.mark.parametrize("name", ["config.json", "numbers.json"])
def test_settings_that_are_none(whole: Callable[[str], Path], name: str, content: str) -> None:
    path = whole("qin") / name
    path.write_text(content)
    assert_refused_though_as_summed(path.parent, name, "cannot be read: ")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda told: told["train"].update(history=0)),
        ("config.json", lambda told: told.update(train=3)),
        ("config.json", lambda told: told["train"].pop("features")),
        ("config.json", lambda told: told["config"].pop("items")),
        ("config.json", lambda told: told.pop("config")),
        ("config.json", lambda told: told.update(model="other")),
        ("numbers.json", lambda told: told.pop("history")),
        ("numbers.json", lambda told: told["mean"].popitem()),
        ("numbers.json", lambda told: told["settings"].update(window=-1)),
    ],
)
def test_settings_that_are_not_whole(
    whole: Callable[[str], Path], name: str, change: Change
) -> None:
    path = whole("qin") / name
    told = read_json(path)
    change(told)
    path.write_text(json.dumps(told))
    assert_refused_though_as_summed(path.parent, name, "cannot be read: ")
