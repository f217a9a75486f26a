"""Unusual ways to lay out the same covers, none of which may make a difference."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from tests.pipeline.download.archives import rar_of, tar_of, zip_of
from tests.whole.fuzz.support.folder import Folder, as_files

CoverDress = Callable[[Folder, st.DrawFn], bool]
ENDINGS = (
    *(".jpeg", ".JPG", ".JpEg", ".png", ".PNG", ".webp", ".gif"),
    *(".bmp", ".tif", ".tiff", ".avif", ".jfif", ""),
)
LEFTOVERS = ("._{}", "__MACOSX/{}", "__MACOSX/._{}", ".DS_Store", "Thumbs.db", "desktop.ini")
ARCHIVES = {".rar": rar_of, ".zip": zip_of, ".tar": tar_of, ".RAR": rar_of, ".Zip": zip_of}


def named(change: Callable[[str, int, st.DrawFn], str]) -> CoverDress:
    """Each cover under another name: `change` of the one it has, and its item."""

    def dress(folder: Folder, draw: st.DrawFn) -> bool:
        usual = folder.cover_name
        names = {item: change(usual(item), item, draw) for item in folder.covers}
        folder.cover_name = names.__getitem__
        return bool(names)

    return dress


def another_ending(name: str, _: int, draw: st.DrawFn) -> str:
    return name.rpartition(".")[0] + draw(st.sampled_from(ENDINGS))


def leading_zeros(name: str, item: int, draw: st.DrawFn) -> str:
    return name.replace(str(item), "0" * draw(st.integers(1, 4)) + str(item))


def deeper(folder: Folder, draw: st.DrawFn) -> bool:
    """In folders in the folder: the same for all covers, or one for each ending of the item's."""
    prefix = draw(st.sampled_from(["item_images/", "covers/", "a/b/c/", "7/", "part{}/"]))
    usual = folder.cover_name
    folder.cover_name = lambda item: prefix.format(item % 10) + usual(item)
    return bool(folder.covers)


def archived(folder: Folder, draw: st.DrawFn) -> bool:
    """In an archive, whose top folder may be there, and may have another name."""
    if folder.cover_store or not folder.covers:
        return False
    ending = draw(st.sampled_from(list(ARCHIVES)))
    top = draw(st.sampled_from(["", "item_images/", "ITEM_IMAGES/", "MicroLens/item_images/"]))

    def write(path: Path, covers: dict[str, bytes]) -> None:
        content = ARCHIVES[ending]({top + name: data for name, data in covers.items()})
        (path / f"item_images{ending}").write_bytes(content)

    folder.cover_store = write
    return True


def in_capitals(folder: Folder, draw: st.DrawFn) -> bool:
    if folder.cover_store:
        return False
    folder.cover_store = as_files(draw(st.sampled_from(["ITEM_IMAGES", "Item_Images"])))
    return True


def links_to_files(folder: Folder, _: st.DrawFn) -> bool:
    if folder.cover_store or not folder.covers:
        return False

    def write(path: Path, covers: dict[str, bytes]) -> None:
        as_files("elsewhere")(path, covers)
        as_files("item_images")(path, covers)
        for name in covers:
            (path / "item_images" / name).unlink()
            (path / "item_images" / name).symlink_to(path / "elsewhere" / name)

    folder.cover_store = write
    return True


def leftovers(folder: Folder, draw: st.DrawFn) -> bool:
    """What systems leave beside covers."""
    chosen = draw(st.sets(st.sampled_from(LEFTOVERS), min_size=1))
    store = folder.cover_store or as_files("item_images")

    def write(path: Path, covers: dict[str, bytes]) -> None:
        names = [name.rpartition("/")[2] for name in covers]
        left = {pattern.format(name) for pattern in chosen for name in [*names, "1.jpg"]}
        store(path, covers | dict.fromkeys(left, b"\0\5\x16\7"))

    folder.cover_store = write
    return True


COVER_DRESSES: dict[str, CoverDress] = {
    "covers of other endings": named(another_ending),
    "covers with leading zeros": named(leading_zeros),
    "covers in deeper folders": deeper,
    "covers in an archive": archived,
    "covers in a folder in capitals": in_capitals,
    "covers as links": links_to_files,
    "covers beside leftovers": leftovers,
}
