from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctr import companions
from ctr.companions import moments, unit_vectors
from ctr.covisitation.describe import KINDS, LARGEST, NAMES, Describer
from ctr.covisitation.pairs import recent
from ctr.engine.data import ClickLog
from pipeline.common import paths, stage
from pipeline.common.files import Outputs, read_array, read_json, write_array
from pipeline.settings.ctr.training import NUMBERS
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import (
    ITEMS,
    TEST_ROWS,
    TRAIN_ROWS,
    VALID_ROWS,
    contents,
    one_batch,
    tiny_params,
    write_clicks_and_items,
)

SECTION = tiny_params().companions
ROWS = {"train": TRAIN_ROWS, "valid": VALID_ROWS, "test": TEST_ROWS}
OUTPUTS = (
    *(paths.companions_path(split) for split in paths.SPLITS),
    *(paths.array_info(paths.companions_path(split)) for split in paths.SPLITS),
    paths.ROW_FEATURES,
    paths.COMPANIONS,
    paths.metrics_path("companions"),
)

pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with all that the stage reads; it has one core."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(companions, "available_cores", lambda: 1)
    write_clicks_and_items()
    yield tmp_path
    assert [path.name for path in Path("scratch/companions").glob("*")] == []


def describer() -> Describer:
    return Describer(Split.load("train"), read_array(paths.TAGS), unit_vectors(), SECTION)


def raw_numbers(split: str) -> np.ndarray:
    """Of every row, one by one: those of train without their folds."""
    counted, rows = describer(), Split.load(split)
    history = recent(rows, np.arange(len(rows)), counted.window)
    own = counted.folds[rows.user] if split == "train" else np.full(len(rows), counted.none)
    found = [
        counted(int(target), history[row : row + 1], own[row : row + 1].astype(int))[0]
        for row, target in enumerate(rows.target)
    ]
    return np.stack(found)


def changed(split: str, **columns: np.ndarray) -> None:
    """Some columns of a split replaced."""
    rows = Split(np.array(read_array(paths.split_path(split))))
    for name, values in columns.items():
        getattr(rows, name)[:] = values
    write_array(paths.split_path(split), rows.rows)


def test_a_row_of_numbers_for_every_row_standardised_over_train() -> None:
    companions.main(SECTION)
    mean, deviation = (
        np.array([read_json(paths.ROW_FEATURES)[key][name] for name in NAMES])
        for key in ("mean", "deviation")
    )
    for split, rows in ROWS.items():
        written = read_array(paths.companions_path(split))
        assert written.dtype == np.float16
        assert written.shape == (rows, len(NAMES))
        expected = (raw_numbers(split) - mean) / deviation
        np.testing.assert_allclose(written.astype(float), expected, rtol=2e-3, atol=2e-3)
        told = read_json(paths.array_info(paths.companions_path(split)))
        assert (told["shape"], told["dtype"]) == ([rows, len(NAMES)], "float16")
        assert set(told["versions"]) == {"numpy", "scipy"}
    train = read_array(paths.companions_path("train")).astype(float)
    np.testing.assert_allclose(train.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(train.std(0), 1, atol=2e-3)


def test_what_the_columns_are() -> None:
    companions.main(SECTION)
    told = read_json(paths.ROW_FEATURES)
    assert told["names"] == [*NAMES]
    assert told["kinds"] == {kind: [*names] for kind, names in KINDS.items()}
    raw = raw_numbers("train")
    for key, expected in (("mean", raw.mean(0)), ("deviation", raw.std(0))):
        assert set(told[key]) == set(NAMES)
        found = [told[key][name] for name in NAMES]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_is_told_of_new_items_is_what_is_written_of_them() -> None:
    """One that train has nowhere, in all rows of valid."""
    for name in ("history", "target"):
        found = np.array(getattr(Split.load("train"), name))
        changed("train", **{name: np.where(found == ITEMS, 1, found)})
    changed("valid", target=np.full(VALID_ROWS, ITEMS))
    companions.main(SECTION)
    written, told = read_array(paths.companions_path("valid")), read_json(paths.ROW_FEATURES)
    same = {name: x for name, x in zip(NAMES, written.T, strict=True) if len({*x.tolist()}) == 1}
    assert told["new"].keys() == same.keys() - {"tag_rate"}  # its tags are the same in all rows
    for name, value in told["new"].items():
        assert same[name][0] == pytest.approx(value, rel=2e-3, abs=2e-3), name


def test_each_items_strongest_companions() -> None:
    companions.main(SECTION)
    with np.load(paths.COMPANIONS, allow_pickle=False) as file:
        ids, information = file["ids"], file["information"]
    assert (ids.dtype, information.dtype) == (np.int32, np.float32)
    assert ids.shape == information.shape == (ITEMS + 1, SECTION.kept)
    assert ids.min() == 0 < ids.max() <= ITEMS
    assert not ids[0].any()
    assert (np.diff(information) <= 0).all()
    assert ((ids == 0) == (information == 0)).all()
    counted = describer()
    for item in range(1, ITEMS + 1):
        expected, value = counted.pairs_of(item).strongest(SECTION.kept)
        assert ids[item, ids[item] > 0].tolist() == expected.tolist()
        np.testing.assert_allclose(information[item, : len(value)], value, rtol=1e-6)
    assert (ids > 0).sum(1)[1:].mean() > 3


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_the_same_bytes_again_whatever_the_number_of_processes(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    companions.main(SECTION)
    expected = contents(OUTPUTS)
    monkeypatch.setattr(companions, "available_cores", lambda: cores)
    companions.main(SECTION)
    assert contents(OUTPUTS) == expected


@pytest.mark.parametrize("targets", ["all", "one"])
def test_the_parts_are_all_targets_once(targets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[tuple[int, int]] = []

    def describe(span: tuple[int, int]) -> int:
        parts.append(span)
        return 0

    if targets == "one":
        for split, rows in ROWS.items():
            changed(split, target=np.full(rows, 3))
    monkeypatch.setattr(companions, "describe", describe)
    companions.main(SECTION)
    assert [target for part in parts for target in range(*part)] == list(range(ITEMS + 1))
    assert (len(parts) > 10) == (targets == "all")


def test_a_process_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Pool(ProcessPoolExecutor):
        def __init__(self, processes: int, *arguments: Any) -> None:
            asked.append(processes)
            super().__init__(processes, *arguments)

    monkeypatch.setattr(companions, "ProcessPoolExecutor", Pool)
    for cores in (1, 2):
        monkeypatch.setattr(companions, "available_cores", lambda cores=cores: cores)
        companions.main(SECTION)
    assert asked == [2]


def test_numbers_that_never_differ_are_zero() -> None:
    """One target, no histories, no vectors."""
    for split, rows in ROWS.items():
        changed(split, target=np.full(rows, 3), history=np.zeros((rows, 1)))
    write_array(paths.ITEM, np.zeros_like(read_array(paths.ITEM)))
    companions.main(SECTION)
    train = read_array(paths.companions_path("train")).astype(float)
    varying = {*KINDS["target"]}
    for place, name in enumerate(NAMES):
        if name not in varying:
            assert np.abs(train[:, place]).max() < 1e-3, name
            assert read_json(paths.ROW_FEATURES)["deviation"][name] == 1.0
    for split in paths.SPLITS:
        assert np.isfinite(read_array(paths.companions_path(split))).all()


def test_what_lies_far_beyond_train_stays_a_number(world: Path) -> None:
    path = paths.companions_path("valid")
    rows = np.array([[1.0, -5.0, 0.5]], np.float32)
    with Outputs() as outputs:
        mean, deviation = np.zeros(3), np.array([1e-7, 1e-7, 1.0])
        companions.write_standardised(outputs, "valid", rows, mean, deviation)
    assert (world / path).is_file()
    assert read_array(path).tolist() == [[LARGEST, -LARGEST, 0.5]]


@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
def test_mean_and_deviation_by_parts(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "ROWS_AT_A_TIME", at_a_time)
    rows = np.random.default_rng(1).normal([1, -2, 50], [1, 3, 0.1], (90, 3)).astype(np.float32)
    rows = np.column_stack([rows, np.full(90, 0.1, np.float32)])
    mean, deviation = moments(rows)
    np.testing.assert_allclose(mean, rows.mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(deviation[:3], rows[:, :3].std(0, dtype=float), rtol=1e-9)
    assert deviation[3] == 1.0


def test_vectors_of_length_one_or_none() -> None:
    vectors = np.array(read_array(paths.ITEM))
    vectors[5] = 0
    write_array(paths.ITEM, vectors)
    found = unit_vectors()
    assert found.dtype == np.float64
    length = np.linalg.norm(found, axis=1)
    assert length[[0, 5]].tolist() == [0, 0]
    np.testing.assert_allclose(np.delete(length, [0, 5]), 1, rtol=1e-6)


def test_what_it_tells(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        companions.main(SECTION)
    assert caplog.messages[0].startswith("companions: on ")
    metrics = read_json(paths.metrics_path("companions"))
    train = Split.load("train")
    read = np.minimum((train.history > 0).sum(1), SECTION.window)
    assert metrics["pairs_of_clicks"] == read[train.label == 1].sum()
    _, first = np.unique(train.user, return_index=True)
    length = (train.history[first] > 0).sum(1)
    within = [np.maximum(length - age, 0).sum() for age in range(1, SECTION.within + 1)]
    assert metrics["pairs_within_histories"] == sum(within)
    assert metrics["items"] == ITEMS
    known = [raw_numbers(split)[:, NAMES.index("known")].mean() for split in paths.SPLITS]
    assert [metrics["known"][split] for split in paths.SPLITS] == pytest.approx(known, rel=1e-5)
    pairs = metrics["pairs_of_clicks"] + metrics["pairs_within_histories"]
    kept = len(read_array(paths.TALLIES / "earlier.npy"))
    assert metrics["pairs_in_tallies"] == kept
    assert stage._told == [
        f"{len(NAMES)} numbers a row from {pairs:,} pairs, which know "
        f"{known[0]:.1%} of train's histories; {kept:,} different ones are kept"
    ]


def test_what_a_killed_run_has_left_is_cleared() -> None:
    left = Path("scratch/companions/tmpabc/train.npy")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of it")
    companions.main(SECTION)
    assert not left.exists()


def test_without_pairs_within_histories() -> None:
    companions.main(SECTION.model_copy(update={"within": 0}))
    assert read_json(paths.metrics_path("companions"))["pairs_within_histories"] == 0
    assert np.isfinite(read_array(paths.companions_path("train"))).all()


def test_where_it_is_not_enabled_every_output_is_there_and_empty() -> None:
    companions.main(SECTION.model_copy(update={"enabled": False}))
    for split, rows in ROWS.items():
        written = read_array(paths.companions_path(split))
        assert written.shape == (rows, 0)
        assert written.dtype == np.float16
        assert read_json(paths.array_info(paths.companions_path(split)))["shape"] == [rows, 0]
    section = SECTION.model_dump() | {"enabled": False}
    nothing: dict[str, Any] = {"names": [], "kinds": {}, "mean": {}, "deviation": {}, "new": {}}
    nothing["settings"] = section
    assert read_json(paths.ROW_FEATURES) == nothing
    with np.load(paths.COMPANIONS, allow_pickle=False) as file:
        assert file["ids"].shape == file["information"].shape == (ITEMS + 1, 0)
    assert read_json(paths.metrics_path("companions")) == {"items": ITEMS}
    assert stage._told == ["none: companions.enabled is false"]
    off = dict.fromkeys(NUMBERS, False)
    features = tiny_params().train.features.model_copy(update=off)
    log = ClickLog.load("valid", 3, features, torch.device("cpu"))
    clicks, _ = one_batch(log, torch.arange(4))
    assert clicks.numbers.shape == (4, 0)
