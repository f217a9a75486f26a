"""Random items, clicks and weights of order one, to compare a model with its formulas on."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from ctr.models.base import Clicks, CTRModel, ItemTable

ITEMS, TAGS, LEVELS, CONTENT = 30, 9, 11, 6

Model = TypeVar("Model", bound=CTRModel)


def small_items() -> ItemTable:
    """Random features; item 3 has no tags, item 4 no content, item 5 no neighbours."""
    tags = torch.randint(0, TAGS, (ITEMS + 1, 4))
    content = torch.randn(ITEMS + 1, CONTENT, dtype=torch.float64)
    neighbors = torch.stack([torch.randperm(ITEMS)[:6] + 1 for _ in range(ITEMS + 1)])
    cosine = torch.rand(ITEMS + 1, 6, dtype=torch.float64)
    tags[[0, 3]], content[[0, 4]] = 0, 0
    neighbors[[0, 5]], cosine[[0, 5]] = 0, 0
    return ItemTable(torch.arange(ITEMS + 1), tags, content, neighbors, cosine)


def small_clicks(batch: int = 12, history: int = 8, numbers: int = 3) -> Clicks:
    """Histories of every length, the first of padding alone, some items twice."""
    ids = torch.randint(1, ITEMS + 1, (batch, history))
    padding = torch.arange(history) < history - torch.arange(batch).unsqueeze(1) % (history + 1)
    return Clicks(
        ids.masked_fill(padding, 0),
        torch.randint(1, ITEMS + 1, (batch,)),
        torch.randint(0, LEVELS, (batch,)),
        torch.randint(0, LEVELS, (batch,)),
        torch.randn(batch, numbers, dtype=torch.float64),
    )


def spread_weights(model: Model) -> Model:
    """Weights of order one everywhere, so that no term is too small to show a fault."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0
            if isinstance(module, nn.BatchNorm1d):
                module.get_buffer("running_mean").normal_()
                module.get_buffer("running_var").uniform_(0.5, 2)
    return model.double()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state that a reference may differentiate by."""
    return {
        name: value.detach().clone().requires_grad_(value.is_floating_point())
        for name, value in model.state_dict().items()
    }


def assert_gradients_agree(
    model: nn.Module, weights: dict[str, Tensor], found: Tensor, expected: Tensor, tolerance: float
) -> None:
    """`found` by `model`, `expected` from its `weights_of`, both (B,): along a random direction."""
    direction = torch.randn(len(found), dtype=torch.float64)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        reference = weights[name].grad
        assert reference is not None, name
        if name in ("item.id.weight", "item.tag.weight"):
            reference[0] = 0  # the padding row does not learn
        torch.testing.assert_close(
            parameter.grad, reference, rtol=tolerance, atol=tolerance, msg=name
        )
