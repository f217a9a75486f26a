"""What is no picture, no whole one, or claims too much."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from tests.whole.fuzz.support.pictures import Picture, chunk, png, saved, scene, whole_files


def damaged_pictures() -> list[Picture]:
    return [*truncated(), *wrong_files(), *claims()]


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
        "PNG of 7000 x 7000, whole": png(7_000, 7_000, bytes(7_000 * 7_001), 8, 0),
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
