"""One step of training: loss, gradient, penalty, clipping, Adam."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.layers import share_batches
from ctr.qin import QIN, Clicks, ItemTable
from pipeline.params import Train


class Learner:
    """A model and its optimiser, in each of the accelerator's processes."""

    def __init__(self, qin: QIN, settings: Train, accelerator: Accelerator) -> None:
        if settings.compile:
            qin.qnn.compile(dynamic=False)  # the other parts have sizes that change by the batch
        share_batches(qin, accelerator.process_index, accelerator.num_processes)
        optimizer = torch.optim.Adam(qin.parameters(), lr=settings.learning_rate, fused=True)
        self.qin = qin
        self.settings = settings
        self.accelerator = accelerator
        self.model, self.optimizer = accelerator.prepare(qin, optimizer)

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
        """Add the gradient of embedding_regularizer / 2 times the regularised squared norm.

        One pass over the tables, where a term of the loss takes three. Before clipping, since the
        penalty's gradient is clipped with the rest.
        """
        for parameter in self.qin.regularised():
            if parameter.grad is not None:
                strength = self.settings.embedding_regularizer
                parameter.grad.add_(parameter.detach(), alpha=strength)
