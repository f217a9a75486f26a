"""DIN line by line from its definition, slowly: one sample and one position at a time.

Takes its weights from a `ctr.task1.din.DIN`'s state dict, shares no code with it, and is
differentiable. Only for models without dropout; batch norm is given as its published formula.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ctr.models.base import Clicks, ItemTable

TOWER_PARTS = 4
"""Linear, batch norm, ReLU and dropout: what a layer of the tower counts in the state dict."""


def linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """W x + b of a vector x."""
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def item_vector(weights: Mapping[str, Tensor], item: int, items: ItemTable) -> Tensor:
    """h = [id embedding | mean of the tags' embeddings | content], (D,); an id of 0 is hidden."""
    nothing = torch.zeros_like(weights["item.id.weight"][0])
    row = int(items.id[item])
    id_embedding = weights["item.id.weight"][row] if row else nothing
    tags = [weights["item.tag.weight"][int(tag)] for tag in items.tags[item] if tag != 0]
    tag_mean = torch.stack(tags).mean(0) if tags else nothing
    return torch.cat([id_embedding, tag_mean, items.content[item]])


def activation_weight(weights: Mapping[str, Tensor], target: Tensor, item: Tensor) -> Tensor:
    """How much `item` counts for `target`, a scalar of any sign: there is no softmax."""
    pair = torch.cat([target, item, target - item, target * item])
    x = torch.relu(linear(weights, "attention.pair", pair))
    x = torch.relu(linear(weights, "attention.hidden", x))
    return linear(weights, "attention.out", x)[0]


def interest(weights: Mapping[str, Tensor], target: Tensor, history: list[Tensor]) -> Tensor:
    """sum_i w(t, h_i) h_i, (D,)."""
    total = torch.zeros_like(target)
    for item in history:
        total = total + activation_weight(weights, target, item) * item
    return total


def batch_norm(weights: Mapping[str, Tensor], name: str, x: Tensor, training: bool) -> Tensor:
    """(B, X) from (B, X)."""
    if training:
        mean, variance = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
    else:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    x = (x - mean) / torch.sqrt(variance + 1e-5)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def reference_din(
    weights: Mapping[str, Tensor], clicks: Clicks, items: ItemTable, layers: int, training: bool
) -> Tensor:
    """Logits (B,) of a tower of `layers` layers."""
    inputs = []
    for sample in range(len(clicks.target)):
        target = item_vector(weights, int(clicks.target[sample]), items)
        ids = [int(item) for item in clicks.history[sample] if item != 0]
        parts = [
            weights["likes_level.weight"][int(clicks.likes_level[sample])],
            weights["views_level.weight"][int(clicks.views_level[sample])],
            target,
            interest(weights, target, [item_vector(weights, item, items) for item in ids]),
        ]
        inputs.append(torch.cat(parts))
    x = torch.stack(inputs)
    for layer in range(layers):
        place = TOWER_PARTS * layer
        x = torch.stack([linear(weights, f"tower.{place}", sample) for sample in x])
        x = torch.relu(batch_norm(weights, f"tower.{place + 1}", x, training))
    return torch.stack(
        [linear(weights, f"tower.{TOWER_PARTS * layers}", sample)[0] for sample in x]
    )
