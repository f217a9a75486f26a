import shutil
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
from pipeline.tables.split import Split
from serving import package
from serving.scorer import Scorer
from tests.serving.conftest import World
from tests.serving.packaged import FOLDER, IDS, KINDS, TITLES, params_of
from tests.support.worlds.tiny_world import HISTORY, ITEMS, contents

Copy = Callable[[str], Path]
SHARED = {"README.md", "config.json", "items.parquet", "items.safetensors", "numbers.json"}


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
    counted = set() if kind in ("qin without numbers", "lightgbm of levels") else {paths.TALLIES}
    with chdir(packaged(kind)):
        found = {path.name for path in FOLDER.iterdir()}
        assert found == SHARED | {trained} | {path.name for path in counted}
        for path in (paths.MAIN.config.with_name(trained), *counted):
            assert (FOLDER / path.name).read_bytes() == path.read_bytes()
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
    expected = {name: np.zeros(ITEMS + 1, int) for name in package.LEVELS}
    for split, hidden in (("train", [3]), ("valid", [3, 4]), ("test", [3, 4, 5])):
        rows = Split(np.array(read_array(paths.split_path(split))))
        rows.target[np.isin(rows.target, hidden)] = 1
        write_array(paths.split_path(split), rows.rows)
        for row in range(len(rows)):
            for name, levels in expected.items():
                levels[rows.target[row]] = rows.column(name)[row]
    package.main()
    found = pq.read_table(FOLDER / "items.parquet")
    assert found.column_names == ["item_id", "title", *package.LEVELS]
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
    before = contents(FOLDER.iterdir())
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
    assert contents(FOLDER.iterdir()) == before


def test_of_an_earlier_model_nothing_is_left(copied: Copy, packaged: World) -> None:
    world, other = copied("lightgbm"), packaged("qin without numbers")
    for part in ("models", "metrics/train"):
        shutil.rmtree(world / part)
        shutil.copytree(other / part, world / part)
    (FOLDER / "notes.txt").write_text("of somebody's own")
    package.main()
    kept = {path.name for path in FOLDER.iterdir()}
    assert kept == SHARED | {"model.safetensors", "notes.txt"}
    found = scores()
    with chdir(other):
        assert found == pytest.approx(scores(), abs=1e-6)


def test_the_same_bytes_again(copied: Copy) -> None:
    copied("qin")
    before = contents(FOLDER.iterdir())
    package.main()
    assert contents(FOLDER.iterdir()) == before


def test_where_companions_are_not_enabled(copied: Copy) -> None:
    copied("qin without numbers")
    expected = scores()
    section = params_of("qin").companions.model_copy(update={"enabled": False})
    companions.main(section)
    package.main()
    numbers = read_json(FOLDER / "numbers.json")
    assert (numbers["names"], numbers["kinds"], numbers["history"]) == ([], {}, HISTORY)
    assert not (FOLDER / "tallies.safetensors").exists()
    assert scores() == pytest.approx(expected, abs=1e-6)


def test_where_there_are_too_many_pairs_the_model_is_packaged_but_not_asked(
    copied: Copy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied("qin")
    before = read_array(paths.companions_path("valid")).tolist()
    with np.load(paths.COMPANIONS) as file:
        strongest = file["information"].tolist()
    monkeypatch.setattr("ctr.covisitation.tallies.MOST_PAIRS", 3)
    companions.main(params_of("qin").companions)
    assert "which is too many for a package" in caplog.text
    assert read_array(paths.companions_path("valid")).tolist() == before
    with np.load(paths.COMPANIONS) as file:
        assert file["information"].tolist() == strongest
    package.main()
    told = r"^packages/main/tallies.safetensors: is empty, since train has more than \S+ pairs"
    with pytest.raises(InputError, match=told):
        Scorer.load()


def test_items_that_are_not_those_of_the_arrays_are_refused(copied: Copy) -> None:
    copied("qin")
    pq.write_table(pa.table({"item_id": IDS[:-1], "title": TITLES[:-1]}), paths.ITEMS)
    told = rf"data/items.parquet: has {ITEMS} rows, data/tags.npy has {ITEMS + 1}; run `dvc repro`"
    before = contents(FOLDER.iterdir())
    with pytest.raises(InputError, match=told):
        package.main()
    assert contents(FOLDER.iterdir()) == before


def test_what_it_tells(copied: Copy) -> None:
    copied("transformer_dcn")
    package.main()
    size = sum(path.stat().st_size for path in FOLDER.iterdir()) / 1e6
    assert stage._told == [f"packages/main, transformer_dcn and {ITEMS} items, {size:.1f} MB"]
