"""Section `data` of `params.yaml`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from pipeline.common.section import Section, Seed

MADE = Path("data")
"""The folder that `ingest` makes."""


class Data(Section):
    """`ingest`: which competition files, and their declared sizes."""

    source: Annotated[str, Field(min_length=1)]
    """`sample`, `microlens_1m` (downloaded once), or a folder in the raw layout."""
    history: Annotated[int, Field(ge=1, le=10_000)]
    """Item ids in every row's `item_seq`."""
    tags: Annotated[int, Field(ge=1, le=1_000)]
    """Tags kept an item; of a longer list the last ones."""
    seed: Seed
    """Of the sample's world; other sources have no use for it."""

    @field_validator("source")
    @classmethod
    def _is_a_source_that_dvc_can_watch(cls, source: str) -> str:
        if "://" in source:  # not repeated, since addresses may hold passwords
            raise ValueError(
                "data.source: found an address; expected sample, microlens_1m or a folder"
            )
        if source.startswith("~"):
            raise ValueError(
                f"data.source: found {source}, whose ~ DVC takes for a folder's name; "
                "expected the whole path, from / on"
            )
        if Path(source).resolve().is_relative_to(MADE.resolve()):
            raise ValueError(
                f"data.source: found {source}, inside {MADE}/, which DVC clears before ingest; "
                "move it elsewhere"
            )
        return source
