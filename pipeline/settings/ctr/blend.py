"""Section `blend` of `params.yaml`."""

from typing import Annotated, Any

from pydantic import Field, field_validator

from pipeline.common.paths import MAIN_MODEL, MODEL_NAME
from pipeline.common.section import Section


class Blend(Section):
    """`blend`: further models beside `train`'s, and which of all of them are averaged."""

    models: dict[str, dict[str, Any]]
    """A name, and what this model has other than `train`."""
    min_gain: Annotated[float, Field(ge=0, lt=1)]
    """What a model must add to the AUC on valid to be taken into the blend."""

    @field_validator("models")
    @classmethod
    def _names_are_fit_for_files(cls, models: dict[str, Any]) -> dict[str, Any]:
        for name in models:
            if not MODEL_NAME.fullmatch(name) or name == MAIN_MODEL:
                raise ValueError(
                    f"blend.models: found the name {name!r}; expected lower-case letters, digits "
                    f"and _, a letter first, and not {MAIN_MODEL!r}"
                )
        return models
