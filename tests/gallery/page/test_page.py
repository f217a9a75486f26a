"""The page of the tiny run, as HTML and in Chromium."""

import dataclasses
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir, nullcontext
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gallery import report
from gallery.page.attention import Attention
from gallery.page.calibration import Calibration, Point
from gallery.page.catalogue import Card, printable
from gallery.page.features import Features
from gallery.page.page import Page, Part, render
from gallery.page.tables import Bar, Bars
from gallery.page.verdict import Figure, Verdict
from gallery.pictures.encoder_neighbors import Strip
from gallery.pictures.neighbor_sheet import AT_RANDOM, Entry, Near
from pipeline.common import paths
from pipeline.common.files import read_json, write_json
from tests.support.browser import (
    CHROMIUM,
    assert_good_page,
    chromium,
    needs_chromium,
    opened,
    painted,
    scrolls_sideways,
    texts_on_first_screen,
)
from tests.support.worlds.report_world import (
    NASTY,
    RIGHT_TO_LEFT,
    report_params,
    write_models,
)

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


NO_BARS = Bars("", (), [])
VERDICT = Verdict("", "", [], "", NO_BARS, Calibration("", "", "", []))


class Read(HTMLParser):
    """The titles that a browser would show, and the attributes of what is on the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.titles: list[str] = []
        self.inside = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("class") == "title"
        if self.inside:
            self.titles.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "span"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.titles[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(title: str, picture: str | None = PIXEL, attention: Attention | None = None) -> Page:
    entry = Entry(1, AT_RANDOM, [Near(1, 0.5, None)], None)
    card = Card(71, printable(title), picture)
    part = Part([], [])
    features = Features("", NO_BARS, [])
    cards = {1: card}
    return Page(VERDICT, features, [entry], {1: []}, None, part, part, part, attention, cards, {})


@cache
def plain_tags() -> list[str]:
    return [tag for tag, _ in Read(render(page_of("plain"))).tags]


@settings(deadline=None)  # the machine may be busy
@given(st.text(min_size=1))
def test_any_title_is_shown_as_it_is_and_is_no_markup(title: str) -> None:
    shown = printable(title)
    read = Read(render(page_of(title)))
    assert [tag for tag, _ in read.tags] == plain_tags() or not shown
    if shown:
        assert read.titles == [shown, shown]
        spans = [span for span in read.all("span") if span.get("class") == "title"]
        assert [(span["title"], span["dir"]) for span in spans] == [(shown, "auto")] * 2
        assert read.all("img")[0]["alt"] == f"cover of {shown}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (NASTY, NASTY),
        (RIGHT_TO_LEFT, RIGHT_TO_LEFT),
        ("a\x00b\r\nc\t d", "a b c d"),
        (" \x07 ", ""),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_titles_stand_on_one_line_without_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_title_of_any_length_takes_little_of_the_page() -> None:
    at_most = "x" * 200
    assert printable(at_most) == at_most
    assert printable(at_most + "y") == "x" * 199 + "…"
    assert printable("x" * 198 + " yz") == "x" * 198 + "…"
    plain, long = (len(render(page_of(title))) for title in ("", "\U0001f600" * 100_000))
    assert long - plain < 2_000


def test_what_is_missing_is_said_in_words() -> None:
    html = render(page_of("", picture=None))
    assert "no title" in html
    assert 'aria-label="item 71 has no cover"' in html
    assert Read(html).all("img") == []
    assert "No item has a vector" in html
    assert "it has no sparse attention to show" in html
    assert "The model read no history" in render(
        page_of("a", attention=Attention([], 5, None, None, 50))
    )


def test_the_first_screen_is_all_of_the_verdict() -> None:
    points = [Point(0.25, 0.5, 0.125), Point(0.9, 1.0, 0.1)]
    verdict = Verdict(
        "<a> title",
        "subject",
        [Figure("AUC", "0.7500", "± 0.0125", "a note"), Figure("gAUC", "-", "", "another")],
        "groups",
        Bars("compared", ("AUC", "logloss"), [Bar("a & b", ("0.1", "0.2"), 0.5, "ours")], "told"),
        Calibration("Nearly", "0.0400", "reading", points),
    )
    html = render(dataclasses.replace(page_of("t"), verdict=verdict))
    screen = html[html.index("<h1>") : html.index("<nav")]
    assert "<h1>&lt;a&gt; title</h1>" in screen
    found = [" ".join(part.split()) for part in re.sub(r"<[^>]*>", "\n", screen).split("\n")]
    assert [part for part in found if part] == [
        *("&lt;a&gt; title", "subject", "How good?"),
        *("AUC", "0.7500", "± 0.0125", "a note", "gAUC", "-", "another"),
        "± standard error, over users. groups",
        *("compared", "compared", "AUC", "logloss", "a &amp; b", "0.1", "0.2", "told"),
        *("Is it calibrated?", "Nearly", "0.0400", "reading"),
    ]
    assert '<tr class="ours">' in screen
    assert 'style="--share: 0.5000"' in screen
    drawn = re.findall(r'<circle cx="(.*?)" cy="(.*?)"', screen)
    assert drawn == [("25.0", "50.0"), ("90.0", "0.0")]
    lines = re.findall(r'<line x1="(.*?)" x2="(.*?)" y1="(.*?)" y2="(.*?)"', screen)
    assert lines == [("25.0", "25.0", "50.5", "99.5"), ("90.0", "90.0", "0", "29.6")]


def test_an_encoders_strip_stands_below_the_item() -> None:
    strip = Strip("cover: dino", "timm vit", [Near(2, 0.25, 0.5)], 0.5)
    page = page_of("first")
    small = {2: Card(72, "second", None)}
    html = render(dataclasses.replace(page, strips={1: [strip]}, small=small))
    assert "<strong>cover: dino</strong> is timm vit." in html
    article = html[html.index("<article") : html.index("</article>")]
    below = article[article.index('class="strips"') :]
    assert "cover: dino 50%" in below
    assert 'aria-label="item 72 has no cover"' in below
    assert '<span class="cosine">0.250</span>' in below
    assert "each encoder alone" not in render(page)


def test_the_page_needs_no_script_and_no_other_file(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    read = Read(html)
    assert read.all("script") == []
    assert read.all("link") == []
    assert all(str(image["src"]).startswith("data:image/webp;base64,") for image in read.all("img"))
    assert all(image["alt"] for image in read.all("img"))
    (policy,) = (meta for meta in read.all("meta") if "http-equiv" in meta)
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:; ")
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [str(link["href"]).removeprefix("#") for link in read.all("a")]
    assert targets == [section["id"] for section in read.all("section")]
    assert targets[:2] == ["features", "neighbors"]


@pytest.fixture(scope="module")
def page(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("page") / "run")
    with chdir(folder):
        report.main(*report_params().arguments("report"))
    return folder / paths.REPORT


@needs_chromium
def test_the_page_is_painted_in_chromium(page: Path) -> None:
    html = Read(page.read_text(encoding="utf-8"))
    assert_good_page(page, pictures=8 + len(html.all("img")))


@needs_chromium
def test_titles_are_text_in_chromium_and_long_ones_are_clipped(page: Path) -> None:
    with chromium() as browser, opened(browser, page, 390, "light") as (shown, _):
        titles = shown.locator(".title").all_text_contents()
        assert shown.locator(".title script, .title b").count() == 0
        heights = shown.locator(".title").evaluate_all("all => all.map(e => e.offsetHeight)")
    assert NASTY in titles
    assert max(heights) < 80


@pytest.fixture(scope="module", autouse=True)
def _one_browser() -> Iterator[None]:
    with chromium() if CHROMIUM else nullcontext():
        yield


FACTS = ("How good?", "AUC", "0.", "±", "Compared with what?", "main (QIN)", "best feature alone")
"""Some of what the first screen shows; its last words are those of the calibration."""


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("models", [1, 3])
def test_the_first_screen_is_seen_without_scrolling(run: Path, width: int, models: int) -> None:
    """Also where there is most to compare with: several models, their blend, the best possible."""
    if models > 1:
        write_models({"main": 0.7, "seed_7": 0.72, "trees": 0.71}, "seed_7 + main + trees")
        path = paths.valid_metrics_path("all")
        write_json(path, read_json(path) | {"oracle_auc": 0.9066, "oracle_share": 0.9364})
    report.main(*report_params().arguments("report"))
    with chromium() as browser, opened(browser, run / paths.REPORT, width, "light") as (shown, _):
        seen = " ".join(texts_on_first_screen(shown, ".verdict, header"))
        words = " ".join(shown.locator("header, .verdict").all_inner_texts())
        assert not scrolls_sideways(shown)
    for fact in (*FACTS, "Is it calibrated?", "calibration error", "on average, clicked"):
        assert fact in seen
    assert len(seen.split()) == len(words.split())
    assert ("blend: seed_7 + main + trees" in seen) == (models > 1)
    assert ("the best possible" in seen) == (models > 1)


@needs_chromium
def test_the_map_scrolls_in_its_window(page: Path) -> None:
    with chromium() as browser, opened(browser, page, 390, "light") as (shown, _):
        window = shown.locator(".window")
        sizes = [window.evaluate("e => [e.scrollWidth, e.clientWidth]")]
        shown.locator("label[for=zoom-2]").click()
        sizes.append(window.evaluate("e => [e.scrollWidth, e.clientWidth]"))
        assert not scrolls_sideways(shown)
    assert sizes[0][0] == sizes[0][1]
    assert sizes[1][0] == 2 * sizes[1][1]


@needs_chromium
@pytest.mark.parametrize(
    "fault",
    [
        "<img src='data:image/webp;base64,AAAA' alt='broken' width=20 height=20>",
        f"<img src='{PIXEL}' alt='one colour' width=20 height=20>",
        "<div style='width: 2000px'>wide</div>",
        "<script>console.error('loud')</script>",
        "<img src='other.png' alt='another file'>",
        "<p style='color: #888; background: #999'>grey on grey</p>",
        "<div class='scroll' style='overflow: auto'><p style='width: 2000px'>cut off</p></div>",
    ],
)
def test_a_faulty_page_is_found(tmp_path: Path, fault: str) -> None:
    faulty = tmp_path / "index.html"
    faulty.write_text(f"<!doctype html><title>faulty</title>{fault}", encoding="utf-8")
    with pytest.raises(AssertionError):
        assert_good_page(faulty, pictures=0)


@needs_chromium
def test_a_blameless_page_passes(tmp_path: Path) -> None:
    plain = tmp_path / "index.html"
    plain.write_text("<!doctype html><title>plain</title><p>text</p>", encoding="utf-8")
    with chromium() as browser, opened(browser, plain, 390, "light") as (shown, _):
        assert painted(shown) == 0
    assert_good_page(plain, pictures=0)
