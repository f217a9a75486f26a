"""Section `report` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from pipeline.common.section import Count, Section, Seed


class Report(Section):
    """`report`: the pictures in report/index.html."""

    map_items: Annotated[int, Field(ge=1, le=10_000)]
    """On the map; of a larger catalogue so many at random."""
    tile: Annotated[int, Field(ge=16, le=96)]
    """Pixels of a cover on the map, both ways."""
    perplexity: Annotated[float, Field(ge=2, le=500)]
    """t-SNE's: about how many near items shape an item's surroundings."""
    thumbnail: Annotated[int, Field(ge=32, le=256)]
    """Pixels of a cover on the sheets, both ways."""
    sheet_items: Annotated[int, Field(ge=1, le=200)]
    sheet_neighbors: Annotated[int, Field(ge=1, le=50)]
    """Of each item; no more than `neighbors.k` are there to be shown."""
    users: Annotated[int, Field(ge=1, le=20)]
    """Whose attention is shown."""
    attention_rows: Count
    """Rows of valid over which the attention's zeros are counted, at most."""
    seed: Seed
