import base64
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gallery.pictures import thumbnails
from gallery.pictures.thumbnails import data_uri, shrunk, stored_covers, thumbnail
from pipeline.common.paths import COVERS
from tests.support.worlds.report_world import DAMAGED, UNCOVERED, UNREAD, cover

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def banner() -> Image.Image:
    """30 x 10: a red, a green and a blue square."""
    image = Image.new("RGB", (30, 10), RED)
    image.paste(GREEN, (10, 0, 20, 10))
    image.paste(BLUE, (20, 0, 30, 10))
    return image


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.usefixtures("run")
def test_covers_come_by_item_and_what_cannot_be_read_is_none() -> None:
    sizes = {1: 20, 40: 30, UNCOVERED: 20, DAMAGED: 20, UNREAD: 20}
    found = thumbnails.thumbnails(COVERS, sizes)
    assert found.keys() == sizes.keys()
    for item in (1, 40):
        expected = thumbnail(cover(item), sizes[item])
        picture = found[item]
        assert picture is not None
        assert expected is not None
        assert picture.size == (sizes[item], sizes[item])
        assert picture.tobytes() == expected.tobytes()
    assert [found[item] for item in (UNCOVERED, DAMAGED, UNREAD)] == [None] * 3


@pytest.mark.usefixtures("run")
def test_row_groups_without_a_wanted_cover_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, str]] = []
    original = pq.ParquetFile.read_row_group

    def noted(self: pq.ParquetFile, group: int, columns: list[str], **options: bool) -> pa.Table:
        read.append((group, columns[0]))
        return original(self, group, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    assert [item for item, _ in stored_covers(COVERS, np.array([2, 7, 30]))] == [2, 7, 30]
    assert [group for group, column in read if column == "image"] == [0, 3]


def test_the_middle_square_is_kept() -> None:
    found = thumbnail(png(banner()), 10)
    assert found is not None
    assert found.getcolors() == [(100, GREEN)]


@pytest.mark.parametrize("data", [None, b"", b"<svg/>", png(Image.new("RGB", (2000, 10)))])
def test_hostile_covers_are_refused(data: bytes | None) -> None:
    assert thumbnail(data, 10) is None


def test_a_data_uri_holds_the_picture() -> None:
    kind, data = data_uri(banner()).split(",")
    assert kind == "data:image/webp;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        assert image.format == "WEBP"
        assert image.size == (30, 10)
        assert max(distances(image)) < 60


def distances(image: Image.Image) -> Iterator[int]:
    """How far the middle of each square is from its colour."""
    for x, color in ((5, RED), (15, GREEN), (25, BLUE)):
        pixel = np.array(image.convert("RGB").getpixel((x, 5)), dtype=int)
        yield int(np.abs(pixel - color).max())


def test_a_thumbnail_is_made_smaller_and_never_larger() -> None:
    large = thumbnail(png(banner()), 10)
    assert large is not None
    small = shrunk(large, 5)
    assert small is not None
    assert small.size == (5, 5)
    assert small.getpixel((2, 2)) == GREEN
    assert shrunk(large, 10) is large
    assert shrunk(large, 11) is large
    assert shrunk(None, 5) is None
