"""Section `train` of `params.yaml`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.common.section import Count, Rate, Residence, Section
from pipeline.settings.ctr.training import NUMBERS, Features, Training

TREE_FEATURES = (*NUMBERS, "levels")
"""What boosted trees read of `train.features`."""
UNREAD = {
    "qin": ("lightgbm", "transformer_dcn"),
    "transformer_dcn": ("lightgbm", "attention_dim", "layers", "rows", "collapsed"),
}
"""Settings that a neural model does not read; one that has no entry may read all."""


class TransformerDCN(Section):
    """`train.transformer_dcn`: the sizes where `ctr/models/transformer_dcn.py` is the model."""

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


class LightGBM(Section):
    """`train.lightgbm`: what counts, beside `features` and `seed`, where the model is trees."""

    trees: Annotated[int, Field(ge=1, le=100_000)]
    """The most; as many of them are kept as have the best AUC on valid."""
    patience: Count
    """Trees without a better valid AUC before training stops."""
    learning_rate: Rate
    leaves: Annotated[int, Field(ge=2, le=65_536)]
    """Of a tree, the most."""
    min_rows: Count
    """Of train in each leaf."""
    l2: Annotated[float, Field(ge=0)]
    """Penalty on the leaves' values."""
    columns: Annotated[float, Field(gt=0, le=1)]
    """The share of the columns that a tree may split by, drawn anew for each."""
    bins: Annotated[int, Field(ge=2, le=255)]
    """Values that are told apart in a column, the most."""


class Train(Training):
    """`train`: a ranking model and its training."""

    model: Literal["qin", "transformer_dcn", "lightgbm"]
    """`ctr/models/qin.py`, `ctr/models/transformer_dcn.py`, or the boosted trees of
    `ctr/boosting/`."""
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
    numbers_dim: Count
    """Width of the map by which the numbers of stage `companions` are read."""
    new_targets: Annotated[float, Field(ge=0, lt=1)]
    """Share of train's rows, drawn anew for each epoch (of trees once), whose target is shown as an
    item that train does not have: without id, and with no click counted of it."""
    max_grad_norm: Annotated[float, Field(gt=0)]
    collapsed: bool
    """One dropout mask for the sum of a QNN layer's rows, not one a row: a quarter of the
    arithmetic, but not the published form."""
    transformer_dcn: TransformerDCN
    lightgbm: LightGBM
    residence: Residence
    """Where the clicks are read from: the memory of the device that trains, or the memory-mapped
    file; `auto` takes the memory where they fit into a quarter of what is free."""
    compile: bool
    """Whether `torch.compile` fuses the model's operations (a minute or more at the start)."""
    deterministic: bool
    """Refuse operations of a GPU that may give other bytes the next time; a CPU has none."""

    def deciding(self) -> dict[str, Any]:
        """Without what only other models read."""
        found = super().deciding()
        if self.model == "lightgbm":
            features = {name: found["features"][name] for name in TREE_FEATURES}
            read = ("model", "lightgbm", "new_targets", "seed")
            return {"features": features} | {name: found[name] for name in read}
        unread = UNREAD.get(self.model, ())
        return {name: value for name, value in found.items() if name not in unread}

    @model_validator(mode="after")
    def _trees_read_something(self) -> Self:
        if self.model == "lightgbm" and not any(
            getattr(self.features, name) for name in TREE_FEATURES
        ):
            raise ValueError(
                "train.features switches off all that lightgbm reads; set one of these to true: "
                f"{', '.join(TREE_FEATURES)}"
            )
        return self


def overridden(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with `changes`; of a section in them only the keys that it names."""
    sections = {
        key: overridden(settings[key], value)
        for key, value in changes.items()
        if isinstance(value, dict) and isinstance(settings.get(key), dict)
    }
    return {**settings, **changes, **sections}
