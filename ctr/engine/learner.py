"""One step of training: loss, gradient, penalty, clipping, Adam."""

from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.models.base import Clicks, CTRModel, ItemTable
from ctr.models.layers import share_batches


class Settings(Protocol):
    """How a model is trained; `pipeline/settings/ctr` says what each means."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def embedding_regularizer(self) -> float: ...
    @property
    def net_regularizer(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def seed(self) -> int: ...


class Learner:
    """A model and its optimiser, in each of the accelerator's processes."""

    def __init__(self, network: CTRModel, settings: Settings, accelerator: Accelerator) -> None:
        share_batches(network, accelerator.process_index, accelerator.num_processes)
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
        self.network = network
        self.settings = settings
        self.accelerator = accelerator
        self.penalties = penalties(network, settings)
        self.model, self.optimizer = accelerator.prepare(network, optimizer)

    def step(self, clicks: Clicks, label: Tensor, items: ItemTable, weight: float) -> Tensor:
        """The loss before the step, a scalar: mean cross-entropy in nats, without the penalty.

        `weight` makes the mean over processes the mean over the batch.
        """
        loss = self.loss(clicks, label, items)
        self.backward(loss * weight)
        self.update()
        return loss.detach()

    def loss(self, clicks: Clicks, label: Tensor, items: ItemTable) -> Tensor:
        logits = self.model(clicks, items)
        return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype))

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)
        self.accelerator.unscale_gradients()

    def update(self) -> None:
        self.add_penalty()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def add_penalty(self) -> None:
        """Add the gradient of half each parameter's squared norm times its regularizer.

        One pass over the tables, where a term of the loss takes three. Before clipping, since the
        penalty's gradient is clipped with the rest.
        """
        for parameter, strength in self.penalties:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=strength)


def penalties(network: CTRModel, settings: Settings) -> list[tuple[nn.Parameter, float]]:
    """The parameters that are regularised, and how strongly."""
    embeddings = network.embedding_parameters()
    seen = {id(parameter) for parameter in embeddings}
    others = [parameter for parameter in network.parameters() if id(parameter) not in seen]
    strengths = [
        *((parameter, settings.embedding_regularizer) for parameter in embeddings),
        *((parameter, settings.net_regularizer) for parameter in others),
    ]
    return [(parameter, strength) for parameter, strength in strengths if strength > 0]
