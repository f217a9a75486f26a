from typing import Any

import numpy as np
import pytest
import torch

from ctr.boosting.rows import column_names, load_data, read_rows
from ctr.engine.new_targets import drawn
from pipeline.common import paths
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.settings.ctr.training import NUMBERS, Features
from pipeline.tables.split import LEVEL_COLUMNS, Split
from tests.support.worlds.tiny_world import tiny_params

pytestmark = pytest.mark.usefixtures("cpu", "world")


def features(**changes: bool) -> Features:
    return tiny_params().train.features.model_copy(update=changes)


def numbers_of(split: str) -> dict[str, np.ndarray]:
    """Each column of what `companions` wrote, by its name."""
    names = read_json(paths.ROW_FEATURES)["names"]
    return dict(zip(names, np.array(read_array(paths.companions_path(split))).T, strict=True))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_row_is_its_numbers_and_its_levels(split: str) -> None:
    found, names = read_rows(split, features()), column_names(features())
    expected: dict[str, Any] = numbers_of(split)
    expected |= {name: Split.load(split).column(name) for name in LEVEL_COLUMNS}
    assert names == list(expected)
    assert found.dtype == np.float32
    for place, column in enumerate(expected.values()):
        np.testing.assert_array_equal(found[:, place], column.astype(np.float32))


def test_rows_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_rows("train", features())
    monkeypatch.setattr("ctr.boosting.rows.BLOCK", 7)
    np.testing.assert_array_equal(read_rows("train", features()), whole)


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_kind_that_is_switched_off_is_not_read(kind: str) -> None:
    off = features(**{kind: False})
    before, names = read_rows("valid", off), column_names(off)
    its_own = read_json(paths.ROW_FEATURES)["kinds"][kind]
    assert set(names) == {*numbers_of("valid"), *LEVEL_COLUMNS} - {*its_own}
    numbers = np.array(read_array(paths.companions_path("valid")))
    numbers[:, [name in its_own for name in numbers_of("valid")]] = np.nan
    write_array(paths.companions_path("valid"), numbers)
    np.testing.assert_array_equal(read_rows("valid", off), before)
    assert np.isnan(read_rows("valid", features())).any()


def test_levels_that_are_switched_off_are_not_read() -> None:
    off = features(levels=False)
    assert column_names(off) == list(numbers_of("valid"))
    np.testing.assert_array_equal(read_rows("valid", off), read_rows("valid", features())[:, :-2])


def test_without_numbers_their_files_need_not_be_there() -> None:
    for path in (paths.ROW_FEATURES, paths.companions_path("valid")):
        path.unlink()
    off = features(**dict.fromkeys(NUMBERS, False))
    assert column_names(off) == list(LEVEL_COLUMNS)
    assert read_rows("valid", off).shape == (len(Split.load("valid")), 2)


def test_label_user_target_history_and_place_are_no_features() -> None:
    before = read_rows("train", features())
    clicks = Split.load("train").rows.copy()
    kept = {name: Split(clicks).column(name).copy() for name in LEVEL_COLUMNS}
    clicks[:] = 1
    for name, column in kept.items():
        Split(clicks).column(name)[:] = column
    write_array(paths.split_path("train"), clicks)
    np.testing.assert_array_equal(read_rows("train", features()), before)


def test_data_are_rows_with_their_labels_and_users() -> None:
    data = load_data(tiny_params(new_targets=0.0).train)
    for split in ("train", "valid"):
        np.testing.assert_array_equal(data.read(split), read_rows(split, features()))
        np.testing.assert_array_equal(data.label[split], Split.load(split).label)
    np.testing.assert_array_equal(data.user, Split.load("valid").user)


def test_some_targets_of_train_are_shown_as_new_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctr.boosting.rows.BLOCK", 64)
    settings = tiny_params(new_targets=0.3, seed=5).train
    data, before = load_data(settings), read_rows("train", features())
    np.testing.assert_array_equal(data.read("valid"), read_rows("valid", features()))
    found, of_new = data.read("train"), read_json(paths.ROW_FEATURES)["new"]
    new = drawn(torch.arange(len(before)), 0.3, 5).numpy()
    assert 0.2 < new.mean() < 0.4
    np.testing.assert_array_equal(found[~new], before[~new])
    for place, name in enumerate(data.names):
        if name in of_new:
            np.testing.assert_allclose(found[new, place], of_new[name], rtol=1e-3, atol=1e-3)
        else:
            np.testing.assert_array_equal(found[new, place], before[new, place])


def test_numbers_of_other_rows_are_refused() -> None:
    path = paths.companions_path("valid")
    write_array(path, np.array(read_array(path))[:-1])
    with pytest.raises(InputError, match=r"differ in rows: data/valid.npy has 150, .* has 149"):
        read_rows("valid", features())
