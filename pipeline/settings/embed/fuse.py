"""Section `fuse` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.common.section import Section


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
