"""Section `evaluate` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from pipeline.common.section import Section


class Evaluate(Section):
    """`evaluate`: how the metrics are cut."""

    calibration_bins: Annotated[int, Field(ge=2, le=1000)]
    short_history: Annotated[int, Field(ge=1, le=10_000)]
    """Histories of fewer items count as short."""
