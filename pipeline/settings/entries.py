"""Sections of `params.yaml` that hold several of a kind: a name, and what each has other than the
section that all of them start from."""

from typing import Annotated, Any

from pydantic import AfterValidator

from pipeline.common.paths import ENCODER, MAIN_MODEL, MODEL_NAME

Entries = dict[str, dict[str, Any]]


def checked(section: str, main: str, reserved: str | None = None) -> AfterValidator:
    """A check of `section`: it has an entry `main`, `main` says what for, and names fit folders."""
    but = f", and not {reserved!r}" if reserved else ""

    def check(entries: Entries) -> Entries:
        if MAIN_MODEL not in entries:
            raise ValueError(f"{section}: found no {MAIN_MODEL!r}, {main}; add it")
        for name in entries:
            if not MODEL_NAME.fullmatch(name) or name == reserved:
                raise ValueError(
                    f"{section}: found the name {name!r}; expected lower-case letters, digits and "
                    f"_, a letter first{but}"
                )
        return entries

    return AfterValidator(check)


Models = Annotated[Entries, checked("models", "the model that is reported on", ENCODER.name)]
"""The ranking models that are trained and blended; they start from `train`."""
TextEncoders = Annotated[Entries, checked("text_encoders", "the encoder of `embed_text`")]
"""They start from `embed_text`."""
ImageEncoders = Annotated[Entries, checked("image_encoders", "the encoder of `embed_image`")]
"""They start from `embed_image`."""
