"""The first clicks of a made-up world in batches, and the models that read them, on any device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.training import RECIPE
from ctr.engine.data import ClickLog, load_items
from ctr.models.architecture import build_model, model_config
from ctr.models.base import Clicks, CTRModel, ItemTable
from ctr.models.layers import Dropout
from ctr.task1.din import DIN, DINConfig
from pipeline.common.files import read_json
from pipeline.common.paths import STATS
from pipeline.settings.ctr.train import Train, overridden
from pipeline.settings.params import load_params
from pipeline.tables.split import LEVELS

SEED = 2025
NOTHING = 1e-9
"""A share of dropout that a CPU rounds to none, and that takes the passes that dropout takes. A GPU
would drop one element in 30 million: there `undropped` keeps all."""


@dataclass(frozen=True)
class Batches:
    """Of all rows of train."""

    log: ClickLog
    items: ItemTable
    size: int

    def __iter__(self) -> Iterator[tuple[Clicks, Tensor]]:
        rows = torch.arange(len(self.log), device=self.log.clicks.rows.device)
        return self.log.batches([*rows.split(self.size)])

    def first(self) -> ClickLog:
        """The rows of the first batch."""
        clicks, numbers = (
            table._replace(rows=table.rows[: self.size])
            for table in (self.log.clicks, self.log.numbers)
        )
        return replace(self.log, clicks=clicks, numbers=numbers, total=self.size)

    def in_float64(self) -> Iterator[tuple[Clicks, Tensor]]:
        for clicks, label in self:
            yield clicks._replace(numbers=clicks.numbers.double()), label.double()

    def items_in_float64(self) -> ItemTable:
        content, cosine = self.items.content.double(), self.items.cosine.double()
        return self.items._replace(content=content, cosine=cosine)


def load(settings: Train, device: torch.device, residence: Any = "device") -> Batches:
    log = ClickLog.load("train", settings.history, settings.features, device, residence=residence)
    return Batches(log, load_items(settings.features, device), settings.batch_size)


def settings_of(batch: int, **changes: Any) -> Train:
    """The published ones but that nothing is dropped, and what `changes` say."""
    quiet = {"dropout": NOTHING, "transformer_dcn": {"dropout": 0.0}, "batch_size": batch}
    published = load_params(RECIPE).train.model_dump()
    return Train.model_validate(overridden(overridden(published, quiet), changes))


VARIANTS: dict[str, dict[str, Any]] = {
    "QIN": {},
    "QIN with more": {"features": {"companions": True, "target": True, "neighbors": True}},
    "QIN, rows as one": {"dropout": 0.0},
    "transformer": {"model": "transformer_dcn"},
}


def network(settings: Train, batches: Batches, din: bool = False) -> CTRModel:
    """The same weights on every device."""
    torch.manual_seed(SEED)
    if din:
        stats = read_json(STATS)
        dim = batches.items.content.shape[1]
        sizes = DINConfig(stats["items"], stats["tags"], LEVELS, content_dim=dim)
        quiet = replace(sizes, attention_dropout=0.0, net_dropout=0.0)
        return DIN(quiet, batches.items.content)
    config = model_config(settings, batches.items, len(batches.log.columns))
    model = build_model(config, settings)
    return undropped(model) if settings.dropout == NOTHING else model


def undropped(model: CTRModel) -> CTRModel:
    for module in model.modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(lambda _module, inputs, _output: inputs[0])
    return model
