"""The page: one HTML file that needs no other file, no network and no script."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from gallery.page.attention import Attention
from gallery.page.catalogue import Card
from gallery.page.charts import Chart
from gallery.page.companions import STRONGEST
from gallery.page.features import Features
from gallery.page.tables import Table
from gallery.page.verdict import Verdict
from gallery.pictures.encoder_neighbors import Strip
from gallery.pictures.neighbor_sheet import FAILURE, Entry

TEMPLATES = Path(__file__).parent / "template"


@dataclass(frozen=True)
class Part:
    """Tables beside charts."""

    tables: list[Table]
    charts: list[Chart]


@dataclass(frozen=True)
class Map:
    picture: str
    """A data URI."""
    items: int
    catalogue: int
    """Items in all."""
    without_vector: int
    without_cover: int
    """Of the items on the map."""


@dataclass(frozen=True)
class Page:
    """What it shows, in its order."""

    verdict: Verdict
    features: Features
    sheet: list[Entry]
    strips: Mapping[int, list[Strip]]
    """By item of the sheet; an encoder without a vector of the item has none."""
    map: Map | None
    """None where no item has a vector."""
    rows: Part
    """How the predictions do on which rows."""
    training: Part
    vectors: Part
    """Of Task 1."""
    attention: Attention | None
    """None where the model is no QIN."""
    cards: Mapping[int, Card]
    """Of every item that the sheets show."""
    small: Mapping[int, Card]
    """Of every item of `strips`."""


def render(page: Page) -> str:
    """The page as HTML; every text of the source is escaped."""
    return template().render(page=page, failure=FAILURE, strongest=STRONGEST) + "\n"


@cache
def template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
