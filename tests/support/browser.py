"""A page in headless Chromium: what it paints, asks for, complains of, and whether it can be read.

The system's Chromium is driven by playwright, which downloads none.
"""

import itertools
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no Chromium is installed: none of {', '.join(NAMES)} on the PATH"
)
OPTIONS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
EVERY_VIEW = tuple(itertools.product(WIDTHS, SCHEMES))
EACH_ONCE = tuple(zip(WIDTHS, reversed(SCHEMES), strict=True))
"""Every width and both schemes, in half as many views."""
TEXT_CONTRAST = 4.5
"""The least of WCAG 2 for text of usual size (level AA)."""
FEW_COLORS = 8
"""What no picture has is painted with."""

PICTURES = """
() => [...document.querySelectorAll("img, .chart svg")].map(picture => {
    const box = picture.getBoundingClientRect();
    return {
        width: picture.naturalWidth ?? 1,
        box: [box.left, box.top + scrollY, box.right, box.bottom + scrollY],
        name: picture.alt ?? picture.getAttribute("aria-label"),
    };
})
"""
LOW_CONTRAST = """
(least) => {
    const channels = color => (color.match(/[\\d.]+/g) ?? []).map(Number);
    const luminance = color => {
        const [r, g, b] = channels(color).map(c => c / 255).map(
            c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const background = element => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if ((channels(color)[3] ?? 1) > 0) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
        if (!own || element.closest("style")) continue;
        const style = getComputedStyle(element);
        const text = luminance(element.closest("svg") ? style.fill : style.color);
        const behind = luminance(background(element));
        const ratio = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
        if (!(ratio >= least)) found.push([element.textContent.trim().slice(0, 40), ratio]);
    }
    return found;
}
"""


CUT_OFF = """
() => [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).map(
    e => e.textContent.trim().slice(0, 40))
"""
ON_FIRST_SCREEN = """
(within) => {
    const found = [];
    for (const part of document.querySelectorAll(within)) {
        const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
            const range = document.createRange();
            range.selectNodeContents(texts.currentNode);
            const boxes = [...range.getClientRects()];
            const seen = boxes.length && boxes.every(
                box => box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth);
            const shown = texts.currentNode.parentElement.checkVisibility();
            if (seen && shown) found.push(texts.currentNode.data.trim());
        }
    }
    return found.filter(text => text);
}
"""


_running: list[Browser] = []


@dataclass
class Seen:
    """What a page did while it was looked at."""

    problems: list[str] = field(default_factory=list)
    """Console errors and warnings, and errors of the page."""
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Within another it is that one."""
    if _running:
        yield _running[0]
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=OPTIONS
        )
        _running.append(browser)
        try:
            yield browser
        finally:
            _running.clear()
            browser.close()


@contextmanager
def opened(browser: Browser, path: Path, width: int, scheme: Any) -> Iterator[tuple[Page, Seen]]:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, device_scale_factor=1
    )
    page, seen = context.new_page(), Seen()

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.problems.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: seen.problems.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    try:
        page.goto(path.resolve().as_uri(), wait_until="load")
        yield page, seen
    finally:
        context.close()


def assert_good_page(
    path: Path, pictures: int, views: Iterable[tuple[int, str]] = EVERY_VIEW
) -> None:
    """In all `views` (width and scheme); it has at least so many `pictures`."""
    with chromium() as browser:
        for width, scheme in views:
            with opened(browser, path, width, scheme) as (page, seen):
                assert painted(page) >= pictures
                assert scrolls_sideways(page) is False
                assert page.evaluate(LOW_CONTRAST, TEXT_CONTRAST) == []
                assert page.evaluate(CUT_OFF) == []
            assert seen.problems == []
            assert [url for url in seen.requests if not url.startswith("data:")] == [
                path.resolve().as_uri()
            ]


def scrolls_sideways(page: Page) -> bool:
    root = page.evaluate(
        "(({scrollWidth, clientWidth}) => [scrollWidth, clientWidth])(document.documentElement)"
    )
    return bool(root[0] > root[1])


def texts_on_first_screen(page: Page, within: str) -> list[str]:
    """The texts of what `within` selects that are seen in full before anything is scrolled."""
    found: list[str] = page.evaluate(ON_FIRST_SCREEN, within)
    return found


def painted(page: Page) -> int:
    """How many pictures the page has, each of which is seen in a screenshot of all of it."""
    found = page.evaluate(PICTURES)
    with Image.open(BytesIO(page.screenshot(full_page=True))) as screenshot:
        image = screenshot.convert("RGB")
    for picture in found:
        assert picture["width"] > 0, picture["name"]
        left, top, right, bottom = map(round, picture["box"])
        assert 0 <= left < right <= image.width, picture["name"]
        part = image.crop((left + 1, top + 1, right - 1, bottom - 1))
        assert part.getcolors(FEW_COLORS) is None, f"{picture['name']} is not painted"
    return len(found)
