"""Section `neighbors` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from pipeline.common.section import Section, Seed


class Neighbors(Section):
    """`neighbors`: each item's nearest items by cosine."""

    enabled: bool
    k: Annotated[int, Field(ge=1, le=1024)]
    exact_below: Annotated[int, Field(ge=0)]
    """Catalogues of fewer items are searched exhaustively, larger ones by an inverted file."""
    seed: Seed
