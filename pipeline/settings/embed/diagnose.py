"""Section `diagnose` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from pipeline.common.section import Count, Section, Seed


class Diagnose(Section):
    """`diagnose`: what the item embedding is worth before any model is trained."""

    k: Annotated[int, Field(ge=1, le=10_000)]
    """Items retrieved a row: recall at k."""
    window: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of a history that describe it."""
    sample: Count
    """Rows whose targets are retrieved, and items whose duplicates are looked for, at most."""
    pairs: Count
    """Pairs of items whose distance is taken, at most."""
    near_duplicate: Annotated[float, Field(gt=0, lt=1)]
    """Cosine above which two items count as duplicates."""
    seed: Seed
