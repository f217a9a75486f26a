import torch

from embed.encoders.pooling import pool


def test_pool_on_paper() -> None:
    hidden = torch.tensor([[[1.0, 2], [3, 6], [100, 100]], [[5, 5], [9, 9], [9, 9]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2, 4], [5, 5]]
    assert pool(hidden, mask, "max").tolist() == [[3, 6], [5, 5]]
    assert pool(hidden, mask, "cls").tolist() == [[1, 2], [5, 5]]
    assert pool(hidden, mask, "last").tolist() == [[3, 6], [5, 5]]
