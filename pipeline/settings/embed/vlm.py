"""Section `embed_vlm` of `params.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.embed.extraction import Extraction


class EmbedVlm(Extraction):
    """`embed_vlm`: a vision-language model's hidden states for title and cover together."""

    library: Literal["none", "transformers"]
    """`none` leaves the step out."""
    model: Annotated[str, Field(min_length=1)]
    """A hub id or a local folder."""
    prompt: str
    """What the model reads after the cover; `{title}` stands for the title."""
    layer: Annotated[int, Field(ge=-1000, le=1000)]
    """Of the hidden states: 0 is the token embeddings, -1 the last layer, -2 the one before it."""
    pooling: Literal["mean", "last"]
    """Over the tokens of prompt and cover, or the last of them."""
    max_pixels: Annotated[int, Field(ge=784, le=16_777_216)]
    """Larger covers are scaled down to about so many."""

    @model_validator(mode="after")
    def _title_is_asked_for(self) -> Self:
        if "{title}" not in self.prompt:
            raise ValueError(f"embed_vlm.prompt: expected {{title}} in it, found {self.prompt!r}")
        return self
