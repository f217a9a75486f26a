"""Section `judge` of `params.yaml`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.common.section import Residence
from pipeline.settings.ctr.training import Features, Training


class Judge(Training):
    """`judge`: the organisers' DIN, which reads Task 1's file. They let five settings be tuned.

    Both regularizers, `net_dropout`, learning rate and batch size.
    """

    file: Annotated[str, Field(min_length=1)]
    """In the schema of `item_info.parquet`."""
    net_dropout: Annotated[float, Field(ge=0, lt=1)]
    rows: Annotated[int, Field(ge=0)]
    """The last rows of train that are read; 0 reads all, as the organisers do."""
    runs: Annotated[int, Field(ge=1, le=100)]
    """Trainings with seeds of their own, whose metrics are averaged."""

    # What the organisers leave no choice of:

    @property
    def max_grad_norm(self) -> float:
        return 10.0

    @property
    def features(self) -> Features:
        read = dict.fromkeys(("id", "tags", "content", "levels", "history"), True)
        return Features(**(dict.fromkeys(Features.model_fields, False) | read))

    @property
    def history(self) -> int:
        return 64

    @property
    def residence(self) -> Residence:
        return "auto"

    @property
    def last_rows(self) -> int:
        return self.rows

    @model_validator(mode="after")
    def _a_batch_is_left(self) -> Self:
        if 0 < self.rows < self.batch_size:
            raise ValueError(
                f"judge.rows is {self.rows}, less than a batch of {self.batch_size} "
                "(judge.batch_size); 0 reads all rows"
            )
        return self
