"""Section `encoder` of `params.yaml`."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.common.section import Count, Rate, Section, Seed


class Encoder(Section):
    """`encoder`: a small open_clip model, trained on the source's own (title, cover) pairs."""

    train: bool
    """False writes an empty model: for runs whose encoders are all pretrained."""
    embed_dim: Annotated[int, Field(ge=8, le=1024)]
    image_size: Annotated[int, Field(ge=16, le=512)]
    patch_size: Annotated[int, Field(ge=2, le=64)]
    image_width: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
    image_layers: Annotated[int, Field(ge=1, le=48)]
    text_width: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
    text_layers: Annotated[int, Field(ge=1, le=48)]
    context_length: Annotated[int, Field(ge=4, le=512)]
    """Tokens of a title that are read, start and end included."""
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError("encoder.image_size must be a multiple of encoder.patch_size")
        return self
