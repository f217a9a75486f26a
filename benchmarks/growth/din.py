"""Task 1's judge beside DIN as it is commonly written: samples trained and scored a second.

    plain    item, target, their difference and product side by side for every place of every
             history, padding too: a tensor (B, L, 4D), and the network over all of it
    128      ours (`ctr/task1/din.py`), with vectors of which every column is in use
    17       likewise with those of `fuse.task1: learned` and the default `align.dim`, whose other
             columns are zero

The clicks are made up (`support/training_world.py`), a third of the places padding; the
sizes are the organisers', the batch and the precision those of `judge` in params.yaml.

    python -m benchmarks.growth.din [--steps 10] [--json PATH]
"""

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.support.measuring import Stopwatch
from benchmarks.support.raw_layout import ITEMS
from benchmarks.support.training import samples, taken
from benchmarks.support.training_world import write_world
from ctr.engine.checkpoint import Progress
from ctr.engine.data import load_items, shuffled_batches
from ctr.engine.learner import Learner
from ctr.engine.loop import load_data, train_epoch
from ctr.engine.machine import open_accelerator, prepare_cpu
from ctr.engine.scoring import score
from ctr.models.base import ItemTable
from ctr.task1.din import DIN, Attention, DINConfig
from pipeline.common.files import read_json, write_json
from pipeline.common.paths import PARAMS, STATS
from pipeline.settings.ctr.judge import Judge
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[2]
PLAIN = "plain"
COLUMNS = {PLAIN: 128, "128": 128, "17": 17}
"""Of the item vectors, those that are not zero."""


class PlainAttention(Attention):
    """The same weights, read as the formula has them."""

    def forward(self, target: Tensor, history: Tensor, table: Tensor) -> Tensor:
        h = F.embedding(history, table)  # (B, L, D)
        t = F.embedding(target, table).unsqueeze(1).expand_as(h)  # (B, L, D)
        x = torch.cat([t, h, t - h, t * h], dim=2)  # (B, L, 4D)
        x = self.dropout(F.relu(self.pair(x)))  # (B, L, H)
        x = self.dropout(F.relu(self.hidden(x)))  # (B, L, G)
        weight = self.out(x).squeeze(2).masked_fill(history == 0, 0)  # (B, L)
        return torch.einsum("bl,bld->bd", weight, h)


def measured(way: str, section: Judge, steps: int) -> dict[str, float]:
    """Samples a second, trained and scored, in the working directory's world."""
    accelerator = open_accelerator("judge", section.mixed_precision)
    items = with_columns(load_items(section.features, accelerator.device), COLUMNS[way])
    data = load_data(items, section, accelerator)
    torch.manual_seed(section.seed)
    learner = Learner(model_of(way, items), section, accelerator)
    batches = shuffled_batches(data.train, section.batch_size, section.seed, epoch=1)
    warm, timed = batches[:1], batches[1 : 1 + steps]
    train_epoch(learner, data, warm, Progress())
    watch = Stopwatch(accelerator.device)
    train_epoch(learner, data, timed, Progress())
    watch.lap("trained")
    for phase, part in (("warm", warm), ("scored", timed)):
        score(learner.network, [taken(data.train, part)], items, section.batch_size, accelerator)
        watch.lap(phase)
    return {name: samples(timed) / watch.seconds[name] for name in ("trained", "scored")}


def with_columns(items: ItemTable, columns: int) -> ItemTable:
    """The others' zero."""
    content = items.content.clone()
    content[:, columns:] = 0
    return items._replace(content=content)


def model_of(way: str, items: ItemTable) -> DIN:
    stats = read_json(STATS)
    model = DIN(DINConfig(items=stats["items"], tags=stats["tags"]), items.content)
    if way == PLAIN:
        model.attention.__class__ = PlainAttention
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Task 1's judge beside the plain form of DIN.")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--steps", type=int, default=10, help="of training, and of scoring")
    parser.add_argument("--batch-size", type=int, help="in place of params.yaml's")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    asked = parser.parse_args()
    section = load_params(ROOT / PARAMS).judge
    section = section.model_copy(
        update={"rows": 0, "batch_size": asked.batch_size or section.batch_size}
    )
    file = asked.json.absolute() if asked.json else None
    prepare_cpu()
    result: dict[str, dict[str, float]] = {}
    print(f"{'':8}{'trained/s':>12}{'ratio':>8}{'scored/s':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        rows = (1 + asked.steps) * section.batch_size
        write_world(items=asked.items, train_rows=rows, valid_rows=2, history=section.history)
        for way in COLUMNS:
            result[way] = measured(way, section, asked.steps)
            print(line(way, result), flush=True)
    if file is not None:
        write_json(file, result)


def line(way: str, result: Mapping[str, Mapping[str, float]]) -> str:
    cells = ((found := result[way][name], found / result[PLAIN][name]) for name in result[way])
    return f"{way:8}" + "".join(f"{rate:12,.0f}{ratio:8.1f}" for rate, ratio in cells)


if __name__ == "__main__":
    main()
