"""The sections of `params.yaml` that lead from item vectors to the submission: one a stage."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.paths import MAIN_MODEL, MODEL_NAME
from pipeline.section import (
    Count,
    CtrPrecision,
    Launch,
    Minutes,
    Rate,
    Residence,
    Section,
    Seed,
)


class Features(Section):
    """What the model sees; switching one off replaces it by padding (for ablations)."""

    id: bool
    tags: bool
    content: bool
    levels: bool
    history: bool
    neighbors: bool


class TransformerDCN(Section):
    """`train.transformer_dcn`: the sizes of `ctr/transformer_dcn.py`, where that is the model."""

    layers: Annotated[int, Field(ge=1, le=64)]
    heads: Annotated[int, Field(ge=1, le=64)]
    width: Count
    """Of the encoder; a multiple of `heads`."""
    feedforward: Count
    last: Annotated[int, Field(ge=1, le=10_000)]
    """Positions of the history that are read one by one; of the others their maximum."""
    cross_layers: Annotated[int, Field(ge=1, le=64)]
    tower: Annotated[list[Count], Field(min_length=1, max_length=64)]
    """Widths of the layers beside the cross layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """In the encoder; `train.dropout` is the tower's."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"train.transformer_dcn.width is {self.width}; "
                f"expected a multiple of its heads, which are {self.heads}"
            )
        return self


class Train(Section):
    """`train`: a ranking model and its training."""

    model: Literal["qin", "transformer_dcn"]
    """`ctr/qin.py`, or `ctr/transformer_dcn.py`."""
    features: Features
    history: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of each history that are read."""
    embedding_dim: Count
    attention_dim: Count
    """QIN's, as are `layers`, `rows` and `collapsed`."""
    layers: Annotated[int, Field(ge=1, le=64)]
    rows: Annotated[int, Field(ge=1, le=64)]
    """Khatri-Rao rows R of each QNN layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    embedding_regularizer: Annotated[float, Field(ge=0, lt=1)]
    """L2 of every embedding table and the multimodal linear map."""
    net_regularizer: Annotated[float, Field(ge=0, lt=1)]
    """L2 of all other weights; the paper has none."""
    learning_rate: Rate
    batch_size: Annotated[int, Field(ge=2)]
    """Of all processes together."""
    epochs: Count
    patience: Count
    """Epochs without a better valid AUC before training stops."""
    max_grad_norm: Annotated[float, Field(gt=0)]
    mixed_precision: CtrPrecision
    """Of matrix products; the weights are fp32. tf32 and fp16 need a GPU."""
    collapsed: bool
    """One dropout mask for the sum of a QNN layer's rows, not one a row: a quarter of the
    arithmetic, but not the published form."""
    transformer_dcn: TransformerDCN
    residence: Residence
    """Where the clicks are read from: the memory of the device that trains, or the memory-mapped
    file; `auto` takes a GPU's memory where they fit into a quarter of what is free."""
    compile: bool
    """Whether `torch.compile` fuses the model's operations (a minute or more at the start)."""
    deterministic: bool
    """Refuse operations of a GPU that may give other bytes the next time; a CPU has none."""
    checkpoint_minutes: Minutes
    launch: Launch
    """Flags of `accelerate launch` for this stage; results depend on the number of processes."""
    seed: Seed


class Judge(Section):
    """`judge`: the organisers' DIN, which reads Task 1's file. They let five settings be tuned."""

    file: Annotated[str, Field(min_length=1)]
    """In the schema of `item_info.parquet`."""
    embedding_regularizer: Annotated[float, Field(ge=0, lt=1)]
    net_regularizer: Annotated[float, Field(ge=0, lt=1)]
    net_dropout: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: Rate
    batch_size: Annotated[int, Field(ge=2)]
    """The last of the five; of all processes together."""
    rows: Annotated[int, Field(ge=0)]
    """The last rows of train that are read; 0 reads all, as the organisers do."""
    runs: Annotated[int, Field(ge=1, le=100)]
    """Trainings with seeds of their own, whose metrics are averaged."""
    epochs: Count
    patience: Count
    mixed_precision: CtrPrecision
    checkpoint_minutes: Minutes
    launch: Launch
    seed: Seed

    @property
    def max_grad_norm(self) -> float:
        return 10.0

    @model_validator(mode="after")
    def _a_batch_is_left(self) -> Self:
        if 0 < self.rows < self.batch_size:
            raise ValueError(
                f"judge.rows is {self.rows}, less than a batch of {self.batch_size} "
                "(judge.batch_size); 0 reads all rows"
            )
        return self


class Predict(Section):
    """`predict`: scoring valid and test."""

    batch_size: Count
    mixed_precision: CtrPrecision


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


class Evaluate(Section):
    """`evaluate`: how the metrics are cut."""

    calibration_bins: Annotated[int, Field(ge=2, le=1000)]
    short_history: Annotated[int, Field(ge=1, le=10_000)]
    """Histories of fewer items count as short."""


class Submit(Section):
    """`submit`: the leaderboard file."""

    column: Literal["Task1", "Task2", "Task1&2"]


class Report(Section):
    """`report`: the pictures in report/index.html."""

    map_items: Annotated[int, Field(ge=1, le=10_000)]
    """On the map; of a larger catalogue so many at random."""
    tile: Annotated[int, Field(ge=16, le=96)]
    """Pixels of a cover on the map, both ways."""
    perplexity: Annotated[float, Field(ge=2, le=500)]
    """t-SNE's: about how many near items shape an item's surroundings."""
    thumbnail: Annotated[int, Field(ge=32, le=256)]
    """Pixels of a cover on the sheets, both ways."""
    sheet_items: Annotated[int, Field(ge=1, le=200)]
    sheet_neighbors: Annotated[int, Field(ge=1, le=50)]
    """Of each item; no more than `neighbors.k` are there to be shown."""
    users: Annotated[int, Field(ge=1, le=20)]
    """Whose attention is shown."""
    attention_rows: Count
    """Rows of valid over which the attention's zeros are counted, at most."""
    seed: Seed
