import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from ctr import companions
from pipeline.common import paths, stage
from pipeline.common.files import InputError, read_array, read_json, write_array, write_json
from pipeline.tables.split import LEVEL_COLUMNS, Split
from serving import package
from serving.scorer import Scorer
from tests.serving.conftest import World
from tests.serving.packaged import FOLDER, IDS, KINDS, TITLES, files_in, params_of
from tests.support.worlds.tiny_world import HISTORY, ITEMS, contents

Copy = Callable[[str], Path]
SHARED = {
    "README.md",
    "SHA256SUMS",
    "config.json",
    "items.parquet",
    "items.safetensors",
    "numbers.json",
}
COUNTED = {
    f"tallies/{name}"
    for name in ("items.safetensors", "earlier.npy", "later.npy", "place.npy", "values.npy")
}


@pytest.fixture
def copied(packaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """A kind's world as the working directory, to change."""

    def copy(kind: str) -> Path:
        folder = shutil.copytree(packaged(kind), tmp_path / "world")
        monkeypatch.chdir(folder)
        return folder

    return copy


def scores() -> list[float]:
    return Scorer.load().score(IDS[5:9], IDS[1:]).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_that_are_written(packaged: World, kind: str) -> None:
    trained = "model.txt" if kind.startswith("lightgbm") else "model.safetensors"
    counted = set() if kind in ("qin without numbers", "lightgbm of levels") else COUNTED
    with chdir(packaged(kind)):
        assert files_in(FOLDER) == SHARED | {trained} | counted
        assert (FOLDER / trained).read_bytes() == (paths.MAIN.config.parent / trained).read_bytes()
        for name in counted:
            assert (FOLDER / name).read_bytes() == (Path("companions") / name).read_bytes()
        assert read_json(FOLDER / "config.json") == read_json(paths.MAIN.config)
        numbers = read_json(FOLDER / "numbers.json")
        assert numbers == read_json(paths.ROW_FEATURES) | {"history": HISTORY}
        arrays = load_file(FOLDER / "items.safetensors")
        assert arrays.keys() == {"content", "tags", "neighbors", "cosine"}
        assert np.array_equal(arrays["content"], read_array(paths.ITEM))
        assert np.array_equal(arrays["tags"], read_array(paths.TAGS))
        with np.load(paths.NEIGHBORS) as file:
            assert np.array_equal(arrays["neighbors"], file["ids"])
            assert np.array_equal(arrays["cosine"], file["cosine"])


def test_ids_titles_and_the_levels_that_an_item_was_shown_with_last(copied: Copy) -> None:
    """In test, or else in valid, or else in train; 0 for one that never was."""
    copied("qin")
    expected = {name: np.zeros(ITEMS + 1, int) for name in LEVEL_COLUMNS}
    for split, hidden in (("train", [3]), ("valid", [3, 4]), ("test", [3, 4, 5])):
        rows = Split(np.array(read_array(paths.split_path(split))))
        rows.target[np.isin(rows.target, hidden)] = 1
        write_array(paths.split_path(split), rows.rows)
        for row in range(len(rows)):
            for name, levels in expected.items():
                levels[rows.target[row]] = rows.column(name)[row]
    package.main()
    found = pq.read_table(FOLDER / "items.parquet")
    assert found.column_names == ["item_id", "title", *LEVEL_COLUMNS]
    assert found["item_id"].to_pylist() == IDS.tolist()
    assert found["title"].to_pylist() == TITLES
    for name, levels in expected.items():
        assert levels[3] == 0
        assert levels[[4, 5]].any()
        assert found[name].to_pylist() == levels.tolist()


@pytest.mark.parametrize("kind", ["qin", "lightgbm"])
@pytest.mark.parametrize("path", [paths.ITEM, paths.TAGS, paths.NEIGHBORS, paths.ROW_FEATURES])
def test_a_model_of_other_items_is_refused(copied: Copy, kind: str, path: Path) -> None:
    copied(kind)
    before = contents(FOLDER.rglob("*"))
    if path == paths.NEIGHBORS:
        with np.load(path) as file:
            np.savez(path, ids=file["ids"][::-1], cosine=file["cosine"])
    elif path == paths.ROW_FEATURES:
        if kind == "qin":
            return  # it is told of its numbers by their names alone
        write_json(path, read_json(path) | {"mean": {}})
    else:
        write_array(path, np.array(read_array(path))[::-1])
    with pytest.raises(InputError, match=f"was trained on another {path} than"):
        package.main()
    assert contents(FOLDER.rglob("*")) == before


def test_of_an_earlier_model_nothing_is_left(copied: Copy, packaged: World) -> None:
    world, other = copied("lightgbm"), packaged("qin without numbers")
    for part in ("models", "metrics/train"):
        shutil.rmtree(world / part)
        shutil.copytree(other / part, world / part)
    (FOLDER / "notes.txt").write_text("of somebody's own")
    package.main()
    assert files_in(FOLDER) == SHARED | {"model.safetensors", "notes.txt"}
    found = scores()
    with chdir(other):
        assert found == pytest.approx(scores(), abs=1e-6)


def test_the_same_bytes_again(copied: Copy) -> None:
    copied("qin")
    before = contents(FOLDER.rglob("*"))
    package.main()
    assert contents(FOLDER.rglob("*")) == before


def test_where_companions_are_not_enabled(copied: Copy) -> None:
    copied("qin without numbers")
    expected = scores()
    section = params_of("qin").companions.model_copy(update={"enabled": False})
    companions.main(section)
    package.main()
    numbers = read_json(FOLDER / "numbers.json")
    assert (numbers["names"], numbers["kinds"], numbers["history"]) == ([], {}, HISTORY)
    assert files_in(FOLDER) == SHARED | {"model.safetensors"}
    assert scores() == pytest.approx(expected, abs=1e-6)


def test_where_tallies_are_not_kept_the_model_is_packaged_but_not_asked(copied: Copy) -> None:
    copied("qin")
    section = params_of("qin").companions
    others = (paths.companions_path("valid"), paths.companions_path("train"), paths.COMPANIONS)
    before = contents(others)
    companions.main(section.model_copy(update={"tallies": False}))
    assert contents(others) == before
    package.main()
    assert files_in(FOLDER) == SHARED | COUNTED | {"model.safetensors"}
    told = "^packages/main/tallies: has nothing, since `companions.tallies` was off, and the model"
    with pytest.raises(InputError, match=told):
        Scorer.load()


def test_sums_that_sha256sum_compares(packaged: World) -> None:
    """Of all files but the card and themselves; those that are mapped as well."""
    folder = packaged("qin") / FOLDER
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    assert {line[66:] for line in lines} == files_in(folder) - {"README.md", "SHA256SUMS"}
    command = ("sha256sum", "--check", "--strict", "SHA256SUMS")
    assert subprocess.run(command, cwd=folder, check=False).returncode == 0


def test_items_that_are_not_those_of_the_arrays_are_refused(copied: Copy) -> None:
    copied("qin")
    pq.write_table(pa.table({"item_id": IDS[:-1], "title": TITLES[:-1]}), paths.ITEMS)
    told = rf"data/items.parquet: has {ITEMS} rows, data/tags.npy has {ITEMS + 1}; run `dvc repro`"
    before = contents(FOLDER.rglob("*"))
    with pytest.raises(InputError, match=told):
        package.main()
    assert contents(FOLDER.rglob("*")) == before


def test_what_it_tells(copied: Copy) -> None:
    copied("transformer_dcn")
    package.main()
    size = sum((FOLDER / name).stat().st_size for name in files_in(FOLDER)) / 1e6
    assert stage._told == [f"packages/main, transformer_dcn and {ITEMS} items, {size:.1f} MB"]
