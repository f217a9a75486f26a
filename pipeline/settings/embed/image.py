"""Section `embed_image` of `params.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.settings.embed.extraction import WithOpenClip


class EmbedImage(WithOpenClip):
    """`embed_image`: which model turns covers into vectors."""

    library: Literal["open_clip", "timm", "transformers", "given"]
    """`given`: the source's own `img_emb_CLIPRN50`."""
    model: Annotated[str, Field(min_length=1)]
    """`trained` (the encoder stage's), an open_clip or timm name, `hf-hub:...` or `local-dir:...`;
    of transformers a hub id, or a local folder."""
    pretrained: str
    """open_clip's weights tag; of timm a file of weights on this disk, else empty."""
    pooling: Literal["model", "mean", "cls"]
    """Of timm and transformers: the model's own, the mean of the patches, or the class token."""

    @model_validator(mode="after")
    def _the_library_has_it(self) -> Self:
        if self.library == "transformers" and self.pretrained:
            raise ValueError(
                "embed_image.pretrained: transformers reads the weights in embed_image.model; "
                f"expected '', found {self.pretrained!r}"
            )
        if self.library == "open_clip" and self.pooling != "model":
            raise ValueError(
                "embed_image.pooling: an open_clip model pools by itself; expected 'model', found "
                f"{self.pooling!r}"
            )
        return self
