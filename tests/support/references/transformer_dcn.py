"""The transformer and DCNv2 line by line from their formulas, one position at a time.

Takes its weights from a `ctr.models.transformer_dcn.TransformerDCN`'s state dict, shares no code
with it, and is differentiable. Only for models without dropout.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ctr.models.base import Clicks, ItemTable
from ctr.models.transformer_dcn import TransformerDCNConfig
from tests.support.references.qin import item_vector, neighbor_features, numbers_map

Weights = Mapping[str, Tensor]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def layer_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    normed = (x - x.mean()) / torch.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(weights: Weights, name: str, sequence: list[Tensor], heads: int) -> list[Tensor]:
    """Vaswani et al. 2017, every position to every other, in `heads` heads."""
    width = len(sequence[0])
    projection, bias = weights[f"{name}.in_proj_weight"], weights[f"{name}.in_proj_bias"]
    query, key, value = (
        [projection[part : part + width] @ x + bias[part : part + width] for x in sequence]
        for part in (0, width, 2 * width)
    )
    outputs = []
    for q in query:
        read = []
        for head in range(heads):
            own = slice(head * width // heads, (head + 1) * width // heads)
            scores = torch.stack([q[own] @ k[own] / (width / heads) ** 0.5 for k in key])
            weight = torch.exp(scores) / torch.exp(scores).sum()
            read.append(sum((w * v[own] for w, v in zip(weight, value, strict=True)), 0 * q[own]))
        outputs.append(linear(weights, f"{name}.out_proj", torch.cat(read)))
    return outputs


def encode(weights: Weights, sequence: list[Tensor], config: TransformerDCNConfig) -> list[Tensor]:
    """Layers with the norm after each sum, ReLU between the two maps of the feedforward part."""
    for layer in range(config.layers):
        name = f"pairs.encoder.layers.{layer}"
        attended = attention(weights, f"{name}.self_attn", sequence, config.heads)
        sequence = [
            layer_norm(weights, f"{name}.norm1", x + y)
            for x, y in zip(sequence, attended, strict=True)
        ]
        sequence = [
            layer_norm(
                weights,
                f"{name}.norm2",
                x
                + linear(
                    weights,
                    f"{name}.linear2",
                    torch.relu(linear(weights, f"{name}.linear1", x)),
                ),
            )
            for x in sequence
        ]
    return sequence


def interest(
    weights: Weights, target: Tensor, history: list[Tensor | None], config: TransformerDCNConfig
) -> Tensor:
    """The last outputs and their maximum; None is a padded place, which is left out throughout."""
    to_width = torch.cat([weights["pairs.of_item.weight"], weights["pairs.of_target.weight"]], 1)
    pairs = [torch.cat([item, target]) for item in history if item is not None]
    real = [to_width @ pair + weights["pairs.of_item.bias"] for pair in pairs]
    encoded = iter(encode(weights, real, config) if real else [])
    nothing = torch.zeros(config.width, dtype=target.dtype)
    outputs = [nothing if item is None else next(encoded) for item in history]
    outputs = [nothing] * config.last + outputs
    seen = [output for output, item in zip(outputs[config.last :], history, strict=True)
            if item is not None]  # fmt: skip
    greatest = torch.stack(seen).max(0).values if seen else nothing
    return torch.cat([*outputs[-config.last :], greatest])


def tower_layer(weights: Weights, x: Tensor, layer: int, training: bool) -> Tensor:
    """Linear, batch norm, ReLU; x is (B, X)."""
    name, norm = f"dcn.tower.{4 * layer}", f"dcn.tower.{4 * layer + 1}"
    y = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    if training:
        mean, variance = y.mean(0), ((y - y.mean(0)) ** 2).mean(0)
    else:
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
    y = (y - mean) / torch.sqrt(variance + 1e-5)
    return torch.relu(y * weights[f"{norm}.weight"] + weights[f"{norm}.bias"])


def cross(weights: Weights, x0: Tensor, layers: int) -> Tensor:
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l; x0 is (X,)."""
    x = x0
    for layer in range(layers):
        x = x0 * linear(weights, f"dcn.cross.layers.{layer}", x) + x
    return x


def reference_transformer_dcn(
    weights: Weights,
    clicks: Clicks,
    items: ItemTable,
    config: TransformerDCNConfig,
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
            interest(weights, target, history, config),
        ]
        if config.neighbors:
            near = neighbor_features(clicks.history[sample], int(clicks.target[sample]), items)
            parts.append(weights["neighbors.weight"] @ near)
        inputs.append(torch.cat(parts))
    x = torch.cat([torch.stack(inputs), numbers_map(weights, clicks.numbers, training)], 1)
    crossed = torch.stack([cross(weights, row, config.cross_layers) for row in x])
    for layer in range(len(config.tower)):
        x = tower_layer(weights, x, layer, training)
    return torch.cat([crossed, x], 1) @ weights["dcn.out.weight"][0] + weights["dcn.out.bias"]
