"""What the report shows of an item: its id in the source, its title and its cover."""

import unicodedata
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from PIL.Image import Image

from gallery.pictures.thumbnails import Pictures, data_uri
from pipeline.common.paths import ITEMS

LONGEST = 200
"""Characters of a title that the page has; it shows two lines of them."""


@dataclass(frozen=True)
class Card:
    """One item as the page draws it."""

    item_id: int
    """The source's own."""
    title: str
    """'' where there is none."""
    picture: str | None
    """A data URI; None where the cover is missing or unreadable."""


@dataclass(frozen=True)
class Catalogue:
    """The items by their dense ids 0..N, of which 0 is padding."""

    item_ids: np.ndarray
    """int64 (N + 1,)."""
    titles: list[str]

    @staticmethod
    def load() -> "Catalogue":
        table = pq.read_table(ITEMS, columns=["item_id", "title"])
        return Catalogue(table["item_id"].to_numpy(), table["title"].to_pylist())

    def cards(self, pictures: Pictures) -> dict[int, Card]:
        """A card for every item of `pictures`, which has None for one without a readable cover."""
        return {item: self._card(item, picture) for item, picture in pictures.items()}

    def _card(self, item: int, picture: Image | None) -> Card:
        uri = None if picture is None else data_uri(picture)
        return Card(int(self.item_ids[item]), printable(self.titles[item]), uri)


def printable(text: str) -> str:
    """The first LONGEST characters of `text` on one line, with an ellipsis where there are more.

    Control characters, which HTML has no place for, become spaces.
    """
    spaced = (" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text)
    line = " ".join("".join(spaced).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
