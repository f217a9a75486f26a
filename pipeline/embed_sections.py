"""The sections of `params.yaml` that lead from the source to item vectors: one a stage."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.section import Count, Launch, Precision, Rate, Section, Seed, Workers


class Data(Section):
    """`ingest`: which competition files, and their declared sizes."""

    source: Annotated[str, Field(min_length=1)]
    """`sample`, `microlens_1m` (downloaded once), or a folder in the raw layout."""
    history: Annotated[int, Field(ge=1, le=10_000)]
    """Item ids in every row's `item_seq`."""
    tags: Annotated[int, Field(ge=1, le=1_000)]
    """Tags kept an item; of a longer list the last ones."""
    seed: Seed
    """Of the sample's world; other sources have no use for it."""

    @field_validator("source")
    @classmethod
    def _is_no_address(cls, source: str) -> str:
        if "://" in source:  # not repeated, since addresses may hold passwords
            raise ValueError(
                "data.source: found an address; expected sample, microlens_1m or a folder"
            )
        if source.startswith("~"):
            raise ValueError(
                f"data.source: found {source}, whose ~ DVC takes for a folder's name; "
                "expected the whole path, from / on"
            )
        return source


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


class Extraction(Section):
    """What the three embedding stages share."""

    local: Annotated[str, Field(min_length=1)]
    """A file or folder on this disk that weights are read from: DVC watches it. It has to be there,
    also where weights come from the hub."""
    batch_size: Count
    shard_size: Count
    """Items a shard: what a run that was killed has to do again at most, in each process."""
    workers: Workers
    """Processes that prepare batches for each process of the launch; 0 prepares them in it."""
    mixed_precision: Precision
    """Takes effect on a GPU."""
    launch: Launch
    """Flags of `accelerate launch` for this stage; shards are split over all processes."""


class EmbedText(Extraction):
    """`embed_text`: which model turns titles into vectors."""

    library: Literal["open_clip", "transformers", "given"]
    """`given`: the source's own `txt_emb_BERT`."""
    model: Annotated[str, Field(min_length=1)]
    """`trained` (the encoder stage's), an open_clip name, a hub id, or a local folder."""
    pretrained: str
    """open_clip's weights tag; empty where the model brings its own weights."""
    revision: str
    """Of a model from the hub: branch, tag or commit; empty for the newest."""
    pooling: Literal["model", "mean", "cls", "last", "max"]
    """Of a transformers encoder's last hidden states. `model`: as the checkpoint says, `mean` where
    it says nothing."""
    max_tokens: Annotated[int, Field(ge=4, le=8192)]
    """Longer titles are cut; transformers only, open_clip models have a context of their own."""


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


class EmbedVlm(Extraction):
    """`embed_vlm`: a vision-language model's hidden states for title and cover together."""

    library: Literal["none", "transformers"]
    """`none` leaves the step out."""
    model: Annotated[str, Field(min_length=1)]
    """A hub id or a local folder."""
    revision: str
    """Branch, tag or commit; empty for the newest."""
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


class Align(Section):
    """`align`: what of the clicks in train an item's content tells."""

    dim: Annotated[int, Field(ge=1, le=127)]
    """Columns of which items are clicked in the same company; the appeal takes one more."""
    window: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of a history that a clicked target is paired with."""
    smoothing: Annotated[float, Field(gt=0)]
    """Pairs added to what was seen and to what was expected of two items."""
    prior: Annotated[float, Field(gt=0)]
    """Rows at the mean click rate added to each item's."""
    landmarks: Annotated[int, Field(ge=2, le=4096)]
    """Items that carry the kernel; exact where there are no more. Memory is about 30 bytes for each
    of them and each item of the catalogue: 6 GB for 2,048 of 91,717."""
    seed: Seed


class Fuse(Section):
    """`fuse`: one vector an item, for Task 1 and for the model of Task 2."""

    recipe: Literal["align", "pca", "both", "concat", "given"]
    """`align`: what content tells of behaviour. `pca`: of the features. `both`: one after the
    other. `concat`: the features as they are. `given`: the source's own item vectors."""
    given: Literal["item_info", "item_emb"]
    """Which, where `recipe` is `given`: `item_emb_d128` of item_info.parquet, or the vectors of
    item_emb.parquet (`item_emb_d128_v3`)."""
    dim: Annotated[int, Field(ge=1, le=128)]
    """Task 1's rule allows 128."""


class Neighbors(Section):
    """`neighbors`: each item's nearest items by cosine."""

    enabled: bool
    k: Annotated[int, Field(ge=1, le=1024)]
    exact_below: Annotated[int, Field(ge=0)]
    """Catalogues of fewer items are searched exhaustively, larger ones by an inverted file."""
    seed: Seed


class Diagnose(Section):
    """`diagnose`: what the item embedding is worth before any model is trained."""

    k: Annotated[int, Field(ge=1, le=10_000)]
    """Items retrieved a row: recall at k."""
    window: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of a history that describe it."""
    sample: Count
    """Rows whose targets are retrieved, and items whose duplicates are looked for, at most."""
    pairs: Count
    """Pairs of items whose distance is taken, at most."""
    near_duplicate: Annotated[float, Field(gt=0, lt=1)]
    """Cosine above which two items count as duplicates."""
    seed: Seed
