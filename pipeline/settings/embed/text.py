"""Section `embed_text` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.embed.extraction import WithOpenClip


class EmbedText(WithOpenClip):
    """`embed_text`: which model turns titles into vectors."""

    library: Literal["open_clip", "transformers", "given"]
    """`given`: the source's own `txt_emb_BERT`."""
    model: Annotated[str, Field(min_length=1)]
    """`trained` (the encoder stage's), an open_clip name, a hub id, or a local folder."""
    pooling: Literal["model", "mean", "cls", "last", "max"]
    """Of a transformers encoder's last hidden states. `model`: as the checkpoint says, `mean` where
    it says nothing."""
    prompt: str
    """Before every title, as `query: `; empty leaves it to the checkpoint, which may have one."""
    max_tokens: Annotated[int, Field(ge=4, le=8192)]
    """Longer titles are cut; transformers only, open_clip models have a context of their own."""
