import errno
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.files import (
    InputError,
    Outputs,
    forget_others,
    read_array,
    read_json,
    replacing,
    some_of,
    write_array,
)
from pipeline.tables.split import Split


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with replacing(path) as partial:
        partial.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError("100 requested and 60 written")],
)
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, error: OSError) -> None:
    expected = r"out/a\.npy: could not be written: .*; free some space"
    with pytest.raises(InputError, match=expected), Outputs() as outputs:
        outputs.path(tmp_path / "first")
        outputs.path(tmp_path / "out/a.npy")
        raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_an_error_that_names_its_file_passes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="input"), replacing(tmp_path / "out"):
        (tmp_path / "input").read_bytes()


def test_outputs_appear_together_or_not_at_all(tmp_path: Path) -> None:
    array, info = tmp_path / "a.npy", tmp_path / "a.npy.json"
    with pytest.raises(ValueError, match="not JSON compliant"), Outputs() as outputs:
        outputs.array(array, np.zeros(2), seed=1)
        assert not array.exists()
        outputs.json(tmp_path / "b.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
    with Outputs() as outputs:
        outputs.array(array, np.zeros(2), seed=1)
    assert read_array(array).tolist() == [0, 0]
    assert read_json(info) == {"shape": [2], "dtype": "float64", "seed": 1}


def test_arrays_are_mapped_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write_array(path, np.arange(3))
    assert isinstance(read_array(path), np.memmap)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy: not an array of numbers: .*objects"):
        read_array(path)


def test_split_names_its_columns() -> None:
    split = Split(np.array([[1, 2, 3, 4, 5, 6, 7]]))
    assert split.history.tolist() == [[1, 2]]
    assert split.target.tolist() == [3]
    assert split.column("likes_level").tolist() == [4]
    assert split.column("views_level").tolist() == [5]
    assert split.label.tolist() == [6]
    assert split.user.tolist() == [7]


def test_some_names_and_how_many_more() -> None:
    assert some_of({"b", "a"}) == "a, b"
    assert some_of(set("abcdefghij")) == "a, b, c, d and 6 more"
    assert some_of([]) == "nothing"


def test_folders_beside_those_that_are_kept_are_removed(tmp_path: Path) -> None:
    for name in ("text/main", "text/kept", "image/main", "image/gone", "vlm"):
        write_array(tmp_path / name / "vectors.npy", np.zeros(2))
    (tmp_path / "image" / "README").touch()
    forget_others(tmp_path / name for name in ("text/main", "text/kept", "image/main"))
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert left == {"text/main", "text/kept", "image/main", "image/README"} | {
        "vlm/vectors.npy",
        "vlm/vectors.npy.json",
    }
