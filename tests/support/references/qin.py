"""QIN line by line from its formulas, slowly: one sample, one position and one row at a time.

Takes its weights from a `ctr.models.qin.QIN`'s state dict, shares no code with it, and is
differentiable. Only for models without dropout; batch norm is given as its published formula.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ctr.models.base import Clicks, ItemTable


def item_vector(weights: Mapping[str, Tensor], item: int, items: ItemTable) -> Tensor:
    """h = [id embedding | mean of the tags' embeddings | W_m content], (D,)."""
    id_embedding = weights["item.id.weight"][int(items.id[item])]
    tags = [weights["item.tag.weight"][int(tag)] for tag in items.tags[item] if tag != 0]
    tag_mean = torch.stack(tags).mean(0) if tags else torch.zeros_like(id_embedding)
    content = weights["item.content.weight"] @ items.content[item]
    return torch.cat([id_embedding, tag_mean, content])


def asta(weights: Mapping[str, Tensor], target: Tensor, history: list[Tensor | None]) -> Tensor:
    """out = W_o(sum_i s_i v_i) + t, s_i = ReLU(m_i q.k_i / sqrt(A)); None is a padded place."""
    total = torch.zeros_like(weights["asta.query.weight"] @ target)
    for item, score in zip(history, asta_weights(weights, target, history), strict=True):
        if item is not None:
            total = total + score * (weights["asta.value.weight"] @ item)
    return weights["asta.out.weight"] @ total + target


def asta_weights(
    weights: Mapping[str, Tensor], target: Tensor, history: list[Tensor | None]
) -> list[Tensor]:
    """s_i = ReLU(m_i q.k_i / sqrt(A)), one a place."""
    query = weights["asta.query.weight"] @ target
    keys = [None if item is None else weights["asta.key.weight"] @ item for item in history]
    zero = query.new_zeros(())
    return [zero if k is None else torch.relu(query @ k / len(query) ** 0.5) for k in keys]


def quadratic_layer(
    weights: Mapping[str, Tensor], x: Tensor, layer: int, rows: int, training: bool
) -> Tensor:
    """y_d = sum_r x_d g_rd with g = W x + b; then batch norm, PReLU, + x. x is (B, X)."""
    name = f"qnn.layers.{layer}"
    width = x.shape[1]
    y = torch.zeros_like(x)
    for r in range(rows):
        part = slice(r * width, (r + 1) * width)
        g = x @ weights[f"{name}.linear.weight"][part].T + weights[f"{name}.linear.bias"][part]
        y = y + x * g
    return x + activated(weights, y, name, training)


def activated(weights: Mapping[str, Tensor], y: Tensor, name: str, training: bool) -> Tensor:
    """Batch norm, then PReLU; y is (B, X)."""
    if training:
        mean, variance = y.mean(0), ((y - y.mean(0)) ** 2).mean(0)
    else:
        mean, variance = weights[f"{name}.norm.running_mean"], weights[f"{name}.norm.running_var"]
    y = (y - mean) / torch.sqrt(variance + 1e-5)
    y = y * weights[f"{name}.norm.weight"] + weights[f"{name}.norm.bias"]
    return torch.where(y > 0, y, weights[f"{name}.activation.weight"] * y)


def numbers_map(weights: Mapping[str, Tensor], numbers: Tensor, training: bool) -> Tensor:
    """PReLU(BatchNorm(W x + b)), (B, W) from (B, F); (B, 0) of a model that reads none."""
    if "numbers.hidden.weight" not in weights:
        return numbers.new_zeros((len(numbers), 0), dtype=torch.float64)
    weight, bias = weights["numbers.hidden.weight"], weights["numbers.hidden.bias"]
    y = torch.stack([weight @ row + bias for row in numbers.to(weight.dtype)])
    return activated(weights, y, "numbers", training)


def neighbor_features(sample_history: Tensor, target: int, items: ItemTable) -> Tensor:
    """[mean content | mean cosine] of the target's neighbours in the history, (C + 1,)."""
    seen = set(sample_history.tolist())
    places = [k for k, item in enumerate(items.neighbors[target].tolist()) if item and item in seen]
    if not places:
        return torch.zeros(items.content.shape[1] + 1, dtype=items.content.dtype)
    content = torch.stack([items.content[items.neighbors[target, k]] for k in places]).mean(0)
    cosine = torch.stack([items.cosine[target, k] for k in places]).mean()
    return torch.cat([content, cosine.reshape(1)])


def reference_qin(
    weights: Mapping[str, Tensor],
    clicks: Clicks,
    items: ItemTable,
    layers: int,
    rows: int,
    training: bool,
) -> Tensor:
    """Logits (B,)."""
    inputs = []
    for sample in range(len(clicks.target)):
        target = item_vector(weights, int(clicks.target[sample]), items)
        history = [
            item_vector(weights, int(item), items) if item != 0 else None
            for item in clicks.history[sample]
        ]
        parts = [
            weights["likes_level.weight"][int(clicks.likes_level[sample])],
            weights["views_level.weight"][int(clicks.views_level[sample])],
            target,
            asta(weights, target, history),
        ]
        if "neighbors.weight" in weights:
            near = neighbor_features(clicks.history[sample], int(clicks.target[sample]), items)
            parts.append(weights["neighbors.weight"] @ near)
        inputs.append(torch.cat(parts))
    x = torch.cat([torch.stack(inputs), numbers_map(weights, clicks.numbers, training)], 1)
    for layer in range(layers):
        x = quadratic_layer(weights, x, layer, rows, training)
    return x @ weights["qnn.out.weight"][0] + weights["qnn.out.bias"]
