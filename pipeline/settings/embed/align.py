"""Section `align` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from pipeline.common.section import Section, Seed


class Align(Section):
    """`align`: what of the clicks in train an item's content tells."""

    dim: Annotated[int, Field(ge=1, le=127)]
    """Columns of which items are clicked in the same company; the appeal takes one more."""
    window: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of a history that a clicked target is paired with."""
    smoothing: Annotated[float, Field(gt=0)]
    """Pairs added to what was seen and to what was expected of two items."""
    prior: Annotated[float, Field(gt=0)]
    """Rows at the mean click rate added to each item's."""
    balance: Annotated[float, Field(gt=0)]
    """Times that an item is shown at which its clicks count half of what those of one shown without
    end do: in the regression, and in the vectors `learned`, where its content makes up the rest."""
    landmarks: Annotated[int, Field(ge=2, le=4096)]
    """Items that carry the kernel; exact where there are no more. Memory is about 30 bytes for each
    of them and each item of the catalogue: 6 GB for 2,048 of 91,717."""
    seed: Seed
