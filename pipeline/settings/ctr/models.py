"""Section `models` of `params.yaml`."""

from typing import Annotated, Any

from pydantic import AfterValidator

from pipeline.common.paths import ENCODER, MAIN_MODEL, MODEL_NAME


def fit_for_files(models: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if MAIN_MODEL not in models:
        raise ValueError(f"models: found no {MAIN_MODEL!r}, the model that is reported on; add it")
    for name in models:
        if not MODEL_NAME.fullmatch(name) or name == ENCODER.name:
            raise ValueError(
                f"models: found the name {name!r}; expected lower-case letters, digits and _, a "
                f"letter first, and not {ENCODER.name!r}"
            )
    return models


Models = Annotated[dict[str, dict[str, Any]], AfterValidator(fit_for_files)]
"""The ranking models that are trained and blended: a name, and what it has other than `train`."""
