"""Hidden states of a title's tokens to its vector."""

from torch import Tensor, arange, inf


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Hidden states (B, T, d), padded on the right, to (B, d).

    `mean` and `max` are those over real tokens (mask 1), `cls` the first token, `last` the last
    real one.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    if pooling == "max":
        return hidden.masked_fill(mask.unsqueeze(-1) == 0, -inf).amax(1)
    weights = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
