"""What QIN and the transformer read of an item: its vector, and its neighbours in the history.

Letters: B batch, L history, n items, T tags an item, C width of the multimodal vector,
K neighbours, E embedding width, D = 3E item width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.models.base import ItemTable
from ctr.models.kernels import mean_of_tags


class ItemEmbedding(nn.Module):
    """The item vector h = [id | mean of tags | W_m content]."""

    def __init__(self, items: int, tags: int, content_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.id = nn.Embedding(items + 1, embedding_dim, padding_idx=0)
        self.tag = nn.Embedding(tags, embedding_dim, padding_idx=0)
        self.content = nn.Linear(content_dim, embedding_dim, bias=False)

    def forward(self, id: Tensor, tags: Tensor, content: Tensor) -> Tensor:
        """Vectors (n, D) of n items: their id rows (n,), tags (n, T) and content (n, C)."""
        tag_mean = mean_of_tags(tags, self.tag.weight)  # (n, E)
        return torch.cat([self.id(id), tag_mean, self.content(content)], dim=1)  # (n, D)


def neighbors_in_history(history: Tensor, target: Tensor, items: ItemTable) -> Tensor:
    """(B, C + 1): mean content and mean cosine of the target's neighbours that `history` holds.

    Zeros where it holds none.
    """
    near = items.neighbors[target]  # (B, K)
    # Rows stand last, as a comparison goes along them; `any` takes twice the time of `amax`.
    same = near.T.contiguous().unsqueeze(1) == history.T.contiguous()  # (K, L, B)
    found = same.view(torch.int8).amax(1).T.contiguous() * (near > 0)  # (B, K)
    weight = found.to(items.content.dtype)  # (B, K)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)  # (B, K)
    content = F.embedding_bag(near, items.content, per_sample_weights=weight, mode="sum")  # (B, C)
    cosine = (weight * items.cosine[target]).sum(1, keepdim=True)  # (B, 1)
    return torch.cat([content, cosine], dim=1)
