"""Section `fuse` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.common.section import Section

Recipe = Literal["align", "pca", "both", "concat", "given"]
Task1Recipe = Literal["learned", Recipe]


class Fuse(Section):
    """`fuse`: one vector an item for the ranking models of Task 2, and one for Task 1."""

    recipe: Recipe
    """Of Task 2. `align`: what content tells of behaviour. `pca`: of the features. `both`: one
    after the other. `concat`: the features as they are. `given`: the source's own item vectors."""
    task1: Task1Recipe
    """Of Task 1. `learned`: behaviour itself, and for an item that is shown seldom or never what
    content tells of it; a ranking model would find its own clicks in it."""
    given: Literal["item_info", "item_emb"]
    """Which, where one of them is `given`: `item_emb_d128` of item_info.parquet, or the vectors of
    item_emb.parquet (`item_emb_d128_v3`)."""
    dim: Annotated[int, Field(ge=1, le=128)]
    """Task 1's rule allows 128."""
