"""Section `embed_image` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.embed.extraction import Extraction


class EmbedImage(Extraction):
    """`embed_image`: which model turns covers into vectors."""

    library: Literal["open_clip", "given"]
    """`given`: the source's own `img_emb_CLIPRN50`."""
    model: Annotated[str, Field(min_length=1)]
    """`trained` (the encoder stage's), or an open_clip name, `hf-hub:...` or `local-dir:...`."""
    pretrained: str
    """open_clip's weights tag; empty where the model brings its own weights."""
    revision: str
    """Of an `hf-hub:` model: branch, tag or commit; empty for the newest."""
