"""Section `companions` of `params.yaml`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.common.section import Count, Section, Seed

MOST_FOLDS = 50


class Companions(Section):
    """`companions`: what people took together, counted over the clicks of train."""

    enabled: bool
    """Off, no row has numbers, and `train.features` may read none of them."""
    window: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of a history that are paired with its target, and read of each row."""
    within: Annotated[int, Field(ge=0, le=10_000)]
    """Likewise among the items that a user's first history holds already, of which no row is the
    click; 0 leaves them out."""
    decay: Annotated[float, Field(gt=0, le=1)]
    """Weight of an item of the history relative to the next younger one."""
    smoothing: Annotated[float, Field(gt=0)]
    """Pairs, of no meaning, that join those of each item."""
    shrinkage: Annotated[float, Field(ge=0)]
    """Pairs that join those of two items, both what is seen and what chance expects, where pairs
    are weighted by age: what is told by few pairs comes near 0."""
    prior: Annotated[float, Field(gt=0)]
    """Rows, at the mean click rate, that join those of each item."""
    folds: Annotated[int, Field(ge=2, le=MOST_FOLDS)]
    """Parts of train's users. A row of train is described by the clicks of the other parts."""
    kept: Count
    """Companions of each item that are written for reading, the strongest ones."""
    tallies: bool
    """What is counted of all pairs is written, 28 bytes each: by it a packaged model computes the
    numbers of any history."""
    seed: Seed

    @model_validator(mode="after")
    def _within_is_in_the_window(self) -> Self:
        if self.within > self.window:
            raise ValueError(
                f"companions.within is {self.within}, more than companions.window, {self.window}"
            )
        return self
