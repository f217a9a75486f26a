"""What is known of a row besides its items, as a model reads it.

Letters: B batch, F numbers, W width.
"""

from torch import Tensor, nn

from ctr.models.layers import BatchNorm


class Numbers(nn.Module):
    """A small map of the numbers: W of them, of which each may bend."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(numbers, width)
        self.norm = BatchNorm(width)
        self.activation = nn.PReLU()

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, W) from (B, F)."""
        numbers = numbers.to(self.hidden.weight.dtype)
        return self.activation(self.norm(self.hidden(numbers)))
