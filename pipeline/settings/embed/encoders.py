"""Sections `text_encoders` and `image_encoders` of `params.yaml`."""

from typing import Annotated, Any

from pydantic import AfterValidator

from pipeline.common.paths import MAIN_MODEL, MODEL_NAME


def fit_for_files(encoders: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if MAIN_MODEL not in encoders:
        raise ValueError(f"found no {MAIN_MODEL!r}, the encoder that the section itself names")
    for name in encoders:
        if not MODEL_NAME.fullmatch(name):
            raise ValueError(
                f"found the name {name!r}; expected lower-case letters, digits and _, a letter "
                "first"
            )
    return encoders


Encoders = Annotated[dict[str, dict[str, Any]], AfterValidator(fit_for_files)]
"""Encoders of one modality: a name, and what it has other than `embed_text` or `embed_image`."""
