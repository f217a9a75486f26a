import torch

from ctr.models.base import columns_in_use


def test_columns_that_no_item_has_are_left_out() -> None:
    content = torch.zeros(4, 5)
    content[1, 1], content[2:, 4] = 2.0, -1.0
    assert torch.equal(columns_in_use(content), content[:, [1, 4]])
    assert columns_in_use(torch.zeros(4, 5)).shape == (4, 1)
    assert not columns_in_use(torch.zeros(4, 5)).any()
