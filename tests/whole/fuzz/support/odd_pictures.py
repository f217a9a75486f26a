"""Whole pictures of unusual kinds."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms

from tests.whole.fuzz.support.pictures import HEIGHT, WIDTH, Picture, chunk, png, saved, scene


def odd_pictures() -> list[Picture]:
    return [*animations(), *turned(), *profiles(), *modes(), *shapes()]


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
