import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from embed.covers.decode import MAX_ASPECT, MAX_SCANS, CoverError, decode

SIZE = (24, 16)


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def gradient() -> Image.Image:
    """24 x 16 RGB: red grows to the right, green downwards."""
    columns, rows = np.meshgrid(np.arange(24) * 10, np.arange(16) * 15)
    return Image.fromarray(np.stack([columns, rows, rows * 0 + 77], axis=2).astype(np.uint8))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG that claims a size, whatever pixels follow."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


JPEG = saved(gradient(), "JPEG", quality=95)
PNG = saved(gradient(), "PNG")
WEBP = saved(gradient(), "WEBP", lossless=True)
GIF = saved(gradient(), "GIF")
TIFF = saved(gradient(), "TIFF")
BMP = saved(gradient(), "BMP")

DAMAGED = {
    "no bytes": b"",
    "one byte": b"\xff",
    "zeros": bytes(4096),
    "text": b"file not found",
    "web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
    "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "zip": b"PK\x03\x04" + bytes(60),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "JPEG signature alone": JPEG[:4],
    "JPEG header alone": JPEG[:160],
    "JPEG cut in half": JPEG[: len(JPEG) // 2],
    "JPEG without its last quarter": JPEG[: len(JPEG) * 3 // 4],
    "PNG cut in half": PNG[: len(PNG) // 2],
    "PNG signature alone": PNG[:8],
    "PNG whose pixel data fail the checksum": flipped(PNG, len(PNG) - 20),
    "PNG whose header fails the checksum": flipped(PNG, 18),
    "PNG with too few pixels": png_of(64, 64, bytes(100)),
    "PNG of no size": png_of(0, 0, b""),
    "GIF header alone": GIF[:13],
    "GIF cut in half": GIF[: len(GIF) // 2],
    "WebP cut in half": WEBP[: len(WEBP) // 2],
    "TIFF header alone": TIFF[:8],
    "TIFF without its last bytes": saved(gradient(), "TIFF")[:200],
    "BMP cut in half": BMP[: len(BMP) // 2],
    "sound picture in a format that covers do not have": saved(gradient(), "PPM"),
    "bomb of 10 gigapixels": png_of(100_000, 100_000, b""),
    "bomb below Pillow's own limit": png_of(7_000, 7_000, b""),
    "ribbon": saved(Image.new("RGB", (MAX_ASPECT + 1, 1)), "PNG"),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_cover_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(CoverError, match=r"\S"):
        decode(data)


def test_what_no_reader_knows_is_told_without_an_address() -> None:
    with pytest.raises(CoverError, match=r"^not a picture in JPEG, PNG, WEBP, "):
        decode(DAMAGED["web page"])


def test_refusal_names_size_and_limit() -> None:
    with pytest.raises(CoverError, match=r"7000 x 7000 is more than 40,000,000 pixels"):
        decode(DAMAGED["bomb below Pillow's own limit"])


def test_pillows_own_warning_of_a_bomb_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 16 - 1)
    with pytest.raises(CoverError, match="DecompressionBombWarning"):
        decode(PNG)


def test_cover_that_ingest_did_not_read() -> None:
    with pytest.raises(CoverError, match="no file, or too large"):
        decode(None)


def test_scans_without_end_are_refused_before_they_are_decoded() -> None:
    progressive = saved(gradient(), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    few, many = (progressive[:-2] + scan * times + progressive[-2:] for times in (20, MAX_SCANS))
    assert decode(few).size == SIZE
    with pytest.raises(CoverError, match=r"\d+ scans are more than 100"):
        decode(many)
    film_behind_it = progressive + b"\xff\xda" * 2 * MAX_SCANS
    assert decode(film_behind_it).size == SIZE


def rotated_by_exif() -> bytes:
    turned = gradient().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    return saved(turned, "PNG", exif=exif.tobytes())


def with_damaged_exif() -> bytes:
    return saved(gradient(), "PNG", exif=b"Exif\x00\x00garbage!")


def animated() -> bytes:
    black = Image.new("RGB", SIZE)
    return saved(gradient(), "PNG", save_all=True, append_images=[black, black])


def see_through() -> bytes:
    """Opaque gradient; `transparent` has the same alpha of zero everywhere."""
    return saved(gradient().convert("RGBA"), "PNG")


EXACT: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: PNG,
    "WebP": lambda: WEBP,
    "BMP": lambda: BMP,
    "TIFF": lambda: TIFF,
    "opaque alpha": see_through,
    "EXIF orientation": rotated_by_exif,
    "damaged EXIF": with_damaged_exif,
    "animation": animated,
}


@pytest.mark.parametrize("data", EXACT.values(), ids=EXACT.keys())
def test_lossless_picture_is_exact(data: Callable[[], bytes]) -> None:
    image = decode(data())
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(gradient()))


def test_jpeg_kinds_are_close() -> None:
    cmyk = saved(gradient().convert("CMYK"), "JPEG", quality=95)
    for data in (JPEG, cmyk):
        difference = np.asarray(decode(data), int) - np.asarray(gradient(), int)
        assert np.abs(difference).mean() < 6


def grey_ramp() -> np.ndarray:
    return np.arange(24, dtype=np.uint8)[None, :].repeat(16, axis=0) * 11


def deep(scale: float, dtype: str, file_format: str) -> bytes:
    return saved(Image.fromarray((grey_ramp().astype(float) * scale).astype(dtype)), file_format)


def spread_ramp() -> np.ndarray:
    """The ramp over the whole of 0..255, as pictures without a nominal range are shown."""
    return np.round(grey_ramp() * (255 / (23 * 11))).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(Image.fromarray(grey_ramp()), "PNG"), grey_ramp()),
        (saved(Image.fromarray(grey_ramp()).convert("LA"), "PNG"), grey_ramp()),
        (saved(Image.fromarray(grey_ramp()).convert("P"), "PNG"), grey_ramp()),
        (saved(Image.fromarray(grey_ramp()).convert("P"), "GIF"), grey_ramp()),
        (deep(257, "uint16", "PNG"), grey_ramp()),
        (deep(257, "uint16", "TIFF"), grey_ramp()),
        (deep(70_000, "int32", "TIFF"), spread_ramp()),
        (deep(0.001, "float32", "TIFF"), spread_ramp()),
        (saved(Image.fromarray(grey_ramp() > 99), "PNG"), (grey_ramp() > 99) * np.uint8(255)),
    ],
    ids=["L", "LA", "P", "GIF", "16-bit PNG", "16-bit TIFF", "32-bit", "float", "1-bit"],
)
def test_grey_is_repeated_over_the_channels(data: bytes, expected: np.ndarray) -> None:
    pixels = np.asarray(decode(data))
    for channel in range(3):
        np.testing.assert_array_equal(pixels[:, :, channel], expected)


def test_clear_colour_of_a_deep_picture_is_white_or_refused() -> None:
    grey, rgb = (
        PNG[:8]
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, colour, 0, 0, 0))
        + chunk(b"tRNS", b"\x12\x34" * channels)
        + chunk(b"IDAT", zlib.compress(b"\0" + b"\x12\x34" * channels + b"\x56\x56" * channels))
        + chunk(b"IEND", b"")
        for colour, channels in ((0, 1), (2, 3))
    )
    assert np.asarray(decode(grey)).tolist() == [[[255] * 3, [0x56] * 3]]
    with pytest.raises(CoverError, match="transparent colour of 16 bits"):
        decode(rgb)


def test_float_picture_with_nan_is_refused() -> None:
    values = np.ones((4, 4), np.float32)
    values[1, 1] = np.nan
    with pytest.raises(CoverError, match="not finite"):
        decode(saved(Image.fromarray(values), "TIFF"))


def test_transparency_shows_white() -> None:
    half_seen = gradient().convert("RGBA")
    half_seen.putalpha(Image.new("L", SIZE, 0))
    palette = Image.new("P", SIZE)
    data = [saved(half_seen, "PNG"), saved(palette, "PNG", transparency=0)]
    for pixels in map(np.asarray, map(decode, data)):
        assert (pixels == 255).all()


@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", JPEG, PNG, WEBP, GIF, TIFF, BMP]))
def test_any_bytes_give_a_picture_or_are_refused(data: bytes, prefix: bytes) -> None:
    with suppress(CoverError):
        assert decode(prefix[: len(prefix) // 2] + data).mode == "RGB"


@given(whole=st.sampled_from([JPEG, PNG, WEBP, GIF, TIFF, BMP]), where=st.integers(0, 10_000))
def test_any_flipped_byte_gives_a_picture_or_is_refused(whole: bytes, where: int) -> None:
    with suppress(CoverError):
        assert decode(flipped(whole, where % len(whole))).mode == "RGB"
