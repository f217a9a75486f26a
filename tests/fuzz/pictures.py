"""Damaged and odd pictures, made here byte by byte or by Pillow, and what each must decode to."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

WIDTH, HEIGHT = 48, 32


@dataclass(frozen=True)
class Picture:
    name: str
    data: bytes
    pixels: np.ndarray | None
    """What it must decode to, uint8 (H, W, 3); None: it must be refused."""
    tolerance: float = 0.0
    """Mean difference of lossy formats."""
    may_be_refused: bool = False
    """Damaged so late in the file that all pixels may have come before."""


def scene() -> np.ndarray:
    """uint8 (32, 48, 3): a slope, so that no turn looks like another, with noise to fill files."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    slope = np.stack([x * 5, y * 7, (x + 2 * y) * 2], axis=2)
    noise = np.random.default_rng(1).integers(0, 8, slope.shape)
    return (slope + noise).astype(np.uint8)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, rows: bytes, bits: int = 8, colour: int = 2, extra: bytes = b""
) -> bytes:
    """A PNG that claims a size, whatever rows follow; `colour` 0 is grey, 2 RGB, 3 palette."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        extra,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def whole_files() -> dict[str, tuple[bytes, np.ndarray, float]]:
    """One ordinary picture in each format: bytes, pixels, tolerance."""
    image = Image.fromarray(scene())
    palette = image.quantize(64)
    return {
        "JPEG": (saved(image, "JPEG", quality=95), scene(), 3.0),
        "progressive JPEG": (saved(image, "JPEG", quality=95, progressive=True), scene(), 3.0),
        "PNG": (saved(image, "PNG"), scene(), 0.0),
        "WebP": (saved(image, "WEBP", lossless=True), scene(), 0.0),
        "GIF": (saved(palette, "GIF"), np.asarray(palette.convert("RGB")), 0.0),
    }


def pictures() -> list[Picture]:
    return [
        *truncated(),
        *wrong_files(),
        *claims(),
        *animations(),
        *turned(),
        *profiles(),
        *modes(),
        *shapes(),
    ]


def truncated() -> Iterator[Picture]:
    """At every tenth of the length, and one byte before the end."""
    for kind, (data, pixels, tolerance) in whole_files().items():
        yield Picture(f"whole {kind}", data, pixels, tolerance)
        for tenth in range(10):
            cut = data[: len(data) * tenth // 10]
            yield Picture(f"{kind} cut at {tenth} tenths", cut, None)
        last = data[:-1]
        yield Picture(f"{kind} without its last byte", last, pixels, tolerance, may_be_refused=True)


def wrong_files() -> Iterator[Picture]:
    """Other things under a cover's name, and pictures under another format's header."""
    files = whole_files()
    jpeg, in_png = files["JPEG"][0], files["PNG"][0]
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
    for name, data in {
        "zero bytes": bytes(4096),
        "text": b"file not found\n",
        "web page": b"<!DOCTYPE html><html><body>404</body></html>",
        "SVG": svg,
        "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "archive": b"PK\x03\x04" + bytes(60),
        "icon": saved(Image.fromarray(scene()), "ICO"),
        "PNG with a JPEG header": jpeg[:4] + in_png[4:],
        "JPEG with a PNG header": in_png[:8] + jpeg[8:],
        "JPEG after a line of text": b"HTTP/1.1 200 OK\r\n\r\n" + jpeg,
        "PNG with a wrong checksum": in_png[:40] + bytes([in_png[40] ^ 255]) + in_png[41:],
    }.items():
        yield Picture(name, data, None)
    yield Picture("PNG named .jpg", in_png, scene())
    yield Picture("JPEG with bytes after its end", jpeg + bytes(5000), scene(), 3.0)


def claims() -> Iterator[Picture]:
    """Sizes beyond reason in few bytes."""
    webp, gif, jpeg = (bytearray(whole_files()[kind][0]) for kind in ("WebP", "GIF", "JPEG"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    canvas = bytes(4) + 2 * (16_383 - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + canvas + bytes(webp[12:])
    unpacked = b"k\0\0" + zlib.compress(bytes(200_000_000))
    for name, data in {
        "PNG of 60000 x 60000": png(60_000, 60_000, b""),
        "PNG of 2^31 - 1 squared": png(2**31 - 1, 2**31 - 1, b""),
        "PNG of no width": png(0, 9, b""),
        "PNG with half its rows": png(6_000, 6_000, bytes(3_000 * 18_001 - 5)),
        "GIF of 60000 x 60000": bytes(gif),
        "JPEG of 60000 x 60000": bytes(jpeg),
        "WebP of 16383 x 16383": b"RIFF"
        + struct.pack("<I", len(extended) + 4)
        + b"WEBP"
        + extended,
        "JPEG of ten thousand scans": many_scans(),
        "text that unpacks to 200 MB": png(1, 1, bytes(4), extra=chunk(b"zTXt", unpacked)),
        "profile that unpacks to 200 MB": png(1, 1, bytes(4), extra=chunk(b"iCCP", unpacked)),
    }.items():
        yield Picture(name, data, None)


def most_pixels() -> bytes:
    """A PNG of 36 million 16-bit pixels in 70 kB: near the limit, and the dearest to convert."""
    return png(6_000, 6_000, bytes(6_000 * 12_001), 16, 0)


def many_scans() -> bytes:
    """A JPEG of 160 kB that takes minutes to decode."""
    whole = saved(Image.new("L", (2_000, 2_000), 77), "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + scan * 10_000 + whole[-2:]


def animations() -> Iterator[Picture]:
    """Only the first frame counts, damaged later ones do not matter."""
    first, black = Image.fromarray(scene()), Image.new("RGB", (WIDTH, HEIGHT))
    for kind, options in {"PNG": {}, "WEBP": {"lossless": True}}.items():
        data = saved(first, kind, save_all=True, append_images=[black, black], **options)
        yield Picture(f"animated {kind}", data, scene())
    palette = first.quantize(64)
    pixels = np.asarray(palette.convert("RGB"))
    data = saved(palette, "GIF", save_all=True, append_images=[black.convert("P")] * 2)
    yield Picture("animated GIF", data, pixels)
    yield Picture("animated GIF cut in a later frame", data[:-40], pixels)


def turned() -> Iterator[Picture]:
    """Every EXIF orientation; what is stored is the scene turned back."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for orientation in (0, *range(1, 10), 65_535):
        image = Image.fromarray(scene())
        if orientation in undo:
            image = image.transpose(undo[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield Picture(f"PNG turned by {orientation}", saved(image, "PNG", exif=exif), scene())
        jpeg = saved(image, "JPEG", quality=95, exif=exif)
        yield Picture(f"JPEG turned by {orientation}", jpeg, scene(), 3.0)
    garbage = saved(Image.fromarray(scene()), "PNG", exif=b"Exif\x00\x00garbage!")
    yield Picture("damaged EXIF", garbage, scene())


def profiles() -> Iterator[Picture]:
    """Colours are taken as they are stored, as image encoders were trained on them."""
    image = Image.fromarray(scene())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, icc in {"": profile, "broken ": b"no profile", "cut ": profile[:100]}.items():
        yield Picture(f"{name}ICC in PNG", saved(image, "PNG", icc_profile=icc), scene())
        jpeg = saved(image, "JPEG", quality=95, icc_profile=icc)
        yield Picture(f"{name}ICC in JPEG", jpeg, scene(), 3.0)
    unpackable = png(1, 1, b"\0\1\2\3", extra=chunk(b"iCCP", b"k\0\0not deflated"))
    yield Picture(
        "ICC that does not unpack", unpackable, np.array([[[1, 2, 3]]], np.uint8), 0, True
    )


def modes() -> Iterator[Picture]:
    """Grey, palettes, transparency, depth, and print colours."""
    image = Image.fromarray(scene())
    grey = np.asarray(image.convert("L"))
    wide = np.repeat(grey[:, :, None], 3, axis=2)
    palette = image.quantize(32)
    in_palette = np.asarray(palette.convert("RGB"))
    bits = grey > 100
    alpha = np.where(bits, 255, 0).astype(np.uint8)
    shown = np.where(bits[:, :, None], scene(), 255).astype(np.uint8)
    cmyk = saved(image.convert("CMYK"), "JPEG", quality=95)
    yield Picture("CMYK JPEG", cmyk, scene(), 4.0)
    yield Picture("grey JPEG", saved(image.convert("L"), "JPEG", quality=95), wide, 3.0)
    yield Picture("grey PNG", saved(Image.fromarray(grey), "PNG"), wide)
    yield Picture("palette PNG", saved(palette, "PNG"), in_palette)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    yield Picture("16-bit PNG", saved(deep, "PNG"), wide)
    one_bit = np.repeat(bits[:, :, None] * np.uint8(255), 3, axis=2)
    yield Picture("1-bit PNG", saved(Image.fromarray(bits), "PNG"), one_bit)
    grey_alpha = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    on_white = np.where(bits[:, :, None], wide, 255).astype(np.uint8)
    yield Picture("grey PNG with alpha", saved(grey_alpha, "PNG"), on_white)
    image.putalpha(Image.fromarray(alpha))
    yield Picture("RGBA PNG", saved(image, "PNG"), shown)
    yield Picture("RGBA WebP", saved(image, "WEBP", lossless=True, exact=True), shown)
    seen = np.where((np.asarray(palette) == 3)[:, :, None], 255, in_palette).astype(np.uint8)
    yield Picture("palette PNG with a clear colour", saved(palette, "PNG", transparency=3), seen)
    yield from clear_colours()


def clear_colours() -> Iterator[Picture]:
    """PNG may name one colour as transparent, in any depth: the first of two pixels has it here."""
    grey, rgb = chunk(b"tRNS", b"\x12\x34"), chunk(b"tRNS", b"\x12\x34" * 3)
    second = bytes([0x56])
    pixels = np.array([[[255] * 3, [0x56] * 3]], np.uint8)
    deep = b"\0\x12\x34" + second * 2
    yield Picture("16-bit grey with a clear colour", png(2, 1, deep, 16, 0, grey), pixels)
    deep = b"\0" + b"\x12\x34" * 3 + second * 6
    yield Picture("16-bit RGB with a clear colour", png(2, 1, deep, 16, 2, rgb), None)
    low = chunk(b"tRNS", b"\x00\x12")
    yield Picture("grey with a clear colour", png(2, 1, b"\0\x12\x56", 8, 0, low), pixels)
    clear = chunk(b"tRNS", b"\x00\x00")
    white = np.full((1, 2, 3), 255, np.uint8)
    yield Picture("1-bit with a clear colour", png(2, 1, b"\0\x40", 1, 0, clear), white)


def shapes() -> Iterator[Picture]:
    for width, height in ((1, 1), (1, 7), (100, 1), (1, 100)):
        pixels = np.full((height, width, 3), 9, np.uint8)
        yield Picture(f"{width} x {height}", saved(Image.fromarray(pixels), "PNG"), pixels)
    for size in ((101, 1), (1, 101), (65_500, 1), (1, 65_500)):
        yield Picture(f"{size[0]} x {size[1]}", saved(Image.new("RGB", size), "PNG"), None)
