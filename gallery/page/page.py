"""The page: one HTML file that needs no other file, no network and no script."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gallery.page.attention import Attention
from gallery.page.catalogue import Card
from gallery.page.charts import Chart
from gallery.page.companions import STRONGEST
from gallery.page.tables import Figure, Table
from gallery.pictures.neighbor_sheet import FAILURE, Entry

TEMPLATES = Path(__file__).parent


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
    headline: list[Figure]
    tables: list[Table]
    charts: list[Chart]
    map: Map | None
    """None where no item has a vector."""
    sheet: list[Entry]
    attention: Attention | None
    """None where the model is no QIN."""
    cards: Mapping[int, Card]
    """Of every item that the sheets show."""


def render(page: Page) -> str:
    """The page as HTML; every text of the source is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    return template.render(page=page, failure=FAILURE, strongest=STRONGEST) + "\n"
