"""What the sections `train` and `judge` share."""

from typing import Annotated, Any

from pydantic import Field

from pipeline.common.section import Count, CtrPrecision, Launch, Minutes, Rate, Section, Seed


class Features(Section):
    """What the model sees; switching one off replaces it by padding (for ablations)."""

    id: bool
    tags: bool
    content: bool
    levels: bool
    history: bool
    neighbors: bool
    companions: bool
    """This and what follows are the kinds of numbers of stage `companions`: here what was taken
    together with the items of the history."""
    contrast: bool
    """What was clicked after them, against what was not."""
    target: bool
    """How often the target, and what has its tags, was shown and clicked."""
    profile: bool
    """Length of the history, and how alike its items are by content."""
    similarity: bool
    """How near the target is to them by content."""


NUMBERS = ("companions", "contrast", "target", "profile", "similarity")


class Training(Section):
    """How a model is trained."""

    embedding_regularizer: Annotated[float, Field(ge=0, lt=1)]
    """L2 of every embedding table and the multimodal linear map."""
    net_regularizer: Annotated[float, Field(ge=0, lt=1)]
    """L2 of all other weights; QIN's paper has none."""
    learning_rate: Rate
    batch_size: Annotated[int, Field(ge=2)]
    """Of all processes together."""
    epochs: Count
    patience: Count
    """Epochs without a better valid AUC before training stops."""
    mixed_precision: CtrPrecision
    """Of matrix products; the weights are fp32. tf32 and fp16 need a GPU."""
    checkpoint_minutes: Minutes
    launch: Launch
    """Flags of `accelerate launch` for this stage; results depend on the number of processes."""
    seed: Seed

    def deciding(self) -> dict[str, Any]:
        """Those that the result depends on, as `model_dump` has them."""
        return self.model_dump(exclude={"checkpoint_minutes", "launch", "residence"})

    @property
    def last_rows(self) -> int:
        """Rows of train that are read, the last ones; 0 for all."""
        return 0
