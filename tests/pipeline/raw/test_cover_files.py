import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.files import InputError
from pipeline.ingest import raw_folder
from pipeline.raw.cover_files import Covers, files_below, find_covers, item_of, locate
from pipeline.raw.ids import DenseIds
from pipeline.settings.data import Data
from tests.pipeline.download.archives import Files, rar_of, tar_of, zip_of

IDS = DenseIds.of(np.array([2, 5, 11]))


def put(folder: Path, *names: str) -> Path:
    """Files below `folder`, each with its name as content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def contents(covers: Covers) -> dict[int, bytes]:
    return {item: path.read_bytes() for item, path in covers.files.items()}


def test_covers_of_known_items_by_dense_id(tmp_path: Path) -> None:
    images = put(tmp_path / "item_images", "11.jpg", "2.jpg", "7.jpg", "5.txt", "notes.txt")
    covers = find_covers(tmp_path, IDS)
    assert covers == Covers({1: images / "2.jpg", 3: images / "11.jpg"}, unused=3)
    assert list(covers.files) == [1, 3]


@pytest.mark.parametrize(
    ("name", "item"),
    [
        *(("5.jpg", 5), ("5.jpeg", 5), ("5.JPG", 5), ("5.Png", 5), ("5.webp", 5), ("5", 5)),
        *(("005.avif", 5), (f"{2**62}.gif", 2**62)),
        *(("0.jpg", 0), ("-5.jpg", 0), ("5.txt", 0), ("5.jpg.txt", 0), ("5.jpg.jpg", 0)),
        *(("5 (1).jpg", 0), ("cover_5.jpg", 0), ("5.0.jpg", 0), ("\u0665.jpg", 0), ("5.jpg\n", 0)),
    ],
)
def test_a_covers_item_is_the_stem_of_its_name(name: str, item: int) -> None:
    assert item_of(name) == item


def test_folders_are_descended_and_what_systems_leave_is_no_cover(tmp_path: Path) -> None:
    put(
        tmp_path / "item_images",
        *("item_images/2.jpeg", "more/5/5.PNG", "item_images/._11.jpg", ".hidden/11.jpg"),
        *("__MACOSX/item_images/._2.jpeg", "__MACOSX/2.jpg", ".DS_Store", "Thumbs.db"),
    )
    covers = find_covers(tmp_path, IDS)
    assert contents(covers) == {1: b"item_images/2.jpeg", 2: b"more/5/5.PNG"}
    assert covers.unused == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [("2.jpg", "2.png"), ("2.jpg", "002.jpg"), ("a/2.jpg", "b/2.jpg"), ("2", "2.JPG")],
)
def test_two_covers_of_one_item_are_refused(first: str, second: str, tmp_path: Path) -> None:
    put(tmp_path / "item_images", first, second, "5.jpg")
    with pytest.raises(InputError, match="two covers of one item; keep one") as caught:
        find_covers(tmp_path, IDS)
    for name in (first, second):
        assert str(tmp_path / "item_images" / name) in str(caught.value)


def test_of_no_item_two_files_are_no_matter(tmp_path: Path) -> None:
    put(tmp_path / "item_images", "7.jpg", "7.png", "5.jpg")
    assert find_covers(tmp_path, IDS).unused == 2


def test_files_of_which_none_is_a_cover_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "item_images", *(f"cover_{item}.jpg" for item in range(20)))
    message = (
        r"item_images: none of its 20 files is an item's cover: found cover_0\.jpg, cover_1\.jpg, "
        r".* and 16 more; expected 2\.jpg, 5\.jpg, 11\.jpg, "
    )
    with pytest.raises(InputError, match=message):
        find_covers(tmp_path, IDS)


def test_an_empty_folder_means_no_covers(tmp_path: Path) -> None:
    put(tmp_path / "item_images", ".gitkeep", ".DS_Store")
    assert find_covers(tmp_path, IDS) == Covers({}, 0)


def test_what_is_there_in_place_of_covers_is_named(tmp_path: Path) -> None:
    put(tmp_path, "images/2.jpg", "item_images.tar.gz", "item_feature.parquet")
    message = "item_images: not found, nor item_images.rar, .zip or .tar beside it; there is images"
    with pytest.raises(InputError, match=f"{message}, item_feature.parquet, item_images.tar.gz"):
        locate(tmp_path)


@pytest.mark.parametrize(
    "names", [("item_images.rar", "item_images.zip"), ("item_images/2.jpg", "ITEM_IMAGES/2.jpg")]
)
def test_two_places_of_covers_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    put(tmp_path, *names)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("a disk that does not tell capitals")
    with pytest.raises(InputError, match="each of which may be the covers; keep one"):
        locate(tmp_path)


def test_a_folder_may_be_in_capitals(tmp_path: Path) -> None:
    put(tmp_path / "ITEM_IMAGES", "2.jpg")
    assert contents(find_covers(tmp_path, IDS)) == {1: b"2.jpg"}


def test_a_folder_goes_before_an_archive(tmp_path: Path) -> None:
    put(tmp_path, "item_images/2.jpg", "item_images.rar")
    assert contents(find_covers(tmp_path, IDS)) == {1: b"item_images/2.jpg"}


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("ending", "make"), [(".rar", rar_of), (".zip", zip_of), (".tar", tar_of), (".RAR", rar_of)]
)
@pytest.mark.parametrize("top", ["", "item_images/", "covers/", "MicroLens/item_images/"])
def test_archives_of_any_kind_and_top_folder(
    ending: str, make: Callable[[Files], bytes], top: str, tmp_path: Path
) -> None:
    files = {f"{top}2.jpg": b"two", f"{top}5.PNG": b"five", f"__MACOSX/{top}._2.jpg": b"macOS"}
    (put(tmp_path / "source") / f"item_images{ending}").write_bytes(make(files))
    covers = find_covers(tmp_path / "source", IDS)
    assert contents(covers) == {1: b"two", 2: b"five"}
    assert covers.unused == 0


@pytest.mark.usefixtures("workspace")
def test_an_archive_is_unpacked_once_into_the_users_cache(tmp_path: Path) -> None:
    source = put(tmp_path / "source")
    archive = source / "item_images.rar"
    archive.write_bytes(rar_of({"item_images/5.jpg": b"five"}))
    covers = find_covers(source, IDS)
    assert contents(covers) == {2: b"five"}
    assert covers.files[2].is_relative_to(tmp_path / "cache" / "mmctr" / "unpacked")
    assert [path.name for path in source.iterdir()] == ["item_images.rar"]
    assert list(Path.cwd().iterdir()) == []
    assert find_covers(source, IDS) == covers
    archive.write_bytes(rar_of({"item_images/2.jpg": b"two", "item_images/5.jpg": b"new"}))
    assert contents(find_covers(source, IDS)) == {1: b"two", 2: b"new"}


@pytest.mark.usefixtures("workspace")
def test_a_bad_archive_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "item_images.rar").write_bytes(b"not an archive")
    with pytest.raises(InputError, match=r"item_images\.rar"):
        find_covers(tmp_path, IDS)


@pytest.mark.usefixtures("workspace")
def test_an_archive_without_the_library_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise InputError("libarchive cannot be loaded")

    monkeypatch.setattr("pipeline.raw.cover_files.load_libarchive", missing)
    put(tmp_path, "item_images.rar")
    data = Data(source=str(tmp_path), history=4, tags=5, seed=1)
    with pytest.raises(InputError, match="libarchive cannot be loaded"), raw_folder(data):
        pass


def test_the_challenges_number_of_covers_takes_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def scandir(path: Path) -> object:
        looks.append(path)
        return original(path)

    original = os.scandir
    images = put(tmp_path / "item_images", *(f"{item}.jpg" for item in range(1, 300)))
    monkeypatch.setattr("pipeline.raw.cover_files.os.scandir", scandir)
    monkeypatch.setattr("os.stat", lambda *_, **__: pytest.fail("looks at each file"))
    assert len(list(files_below(images))) == 299
    assert looks == [images]
