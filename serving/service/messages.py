"""What the service takes and gives, as JSON, and the limits of what it takes.

Whole numbers are those of JSON: 5, and neither 5.0 nor true nor "5".
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.tables.split import LEVEL_COLUMNS, LEVELS

MOST_HISTORY, MOST_CANDIDATES, MOST_RANKED = 10_000, 100_000, 1_000
MOST_BYTES = 1 << 22
"""Of a request's body; twenty digits for each id and three for each level would be 3.2 MB."""

TOLD = 5
"""Faults that an answer tells, at most."""

ItemId = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Level = Annotated[int, Field(ge=0, lt=LEVELS)]
History = Annotated[
    list[ItemId],
    Field(max_length=MOST_HISTORY, fail_fast=True, description="Ids, the youngest item last."),
]
Levels = Annotated[
    list[Level] | None,
    Field(
        max_length=MOST_CANDIDATES,
        fail_fast=True,
        description="One a candidate; else as last shown.",
    ),
]


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown_names(cls, content: Any) -> Any:
        """A fault for each of a hundred thousand would take seconds and hundreds of MB."""
        if not isinstance(content, dict):
            return content
        more = {name for name in content if name not in cls.model_fields}
        more -= {*sorted(more)[:TOLD]}
        return {name: value for name, value in content.items() if name not in more}


class ScoreRequest(Message):
    history: History
    candidates: Annotated[list[ItemId], Field(max_length=MOST_CANDIDATES, fail_fast=True)]
    likes_level: Levels = None
    views_level: Levels = None

    @model_validator(mode="after")
    def _a_level_for_each_candidate(self) -> Self:
        for name in LEVEL_COLUMNS:
            levels = getattr(self, name)
            if levels is not None and len(levels) != len(self.candidates):
                raise ValueError(
                    f"{name} has {len(levels)} levels; expected {len(self.candidates)}, "
                    "one a candidate"
                )
        return self


class RankRequest(Message):
    history: History
    k: Annotated[int, Field(ge=1, le=MOST_RANKED)] = 10
    seen: Annotated[bool, Field(description="Whether items of the history are ranked too.")] = False


class Answer(Message):
    unknown: list[int]
    """Ids of the history that the model does not know; they are left out."""
    older: int
    """Items of the history that are older than what it reads."""


class ScoreAnswer(Answer):
    probabilities: list[float]


class RankedItem(Message):
    id: int
    title: str
    probability: float


class RankAnswer(Answer):
    items: list[RankedItem]


class Health(Message):
    model: str
    items: int
    package: str
    """The folder's name."""
    uptime_s: float
