"""Section `embed_image` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.embed.extraction import WithOpenClip


class EmbedImage(WithOpenClip):
    """`embed_image`: which model turns covers into vectors."""

    library: Literal["open_clip", "given"]
    """`given`: the source's own `img_emb_CLIPRN50`."""
    model: Annotated[str, Field(min_length=1)]
    """`trained` (the encoder stage's), or an open_clip name, `hf-hub:...` or `local-dir:...`."""
