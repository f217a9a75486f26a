"""Section `blend` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from pipeline.common.section import Section


class Blend(Section):
    """`blend`: which of the `models` are averaged."""

    min_gain: Annotated[float, Field(ge=0, lt=1)]
    """What a model must add to the AUC on valid to be taken into the blend."""
