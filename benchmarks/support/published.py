"""QIN's training as its authors published it, plainly: what `bench_train` compares with.

A DataLoader looks the items of every position up in a pandas frame, autograd reads the whole tables
for the penalty at every step, and Adam is not fused. It trains in the working directory, where
`training_world` or the pipeline wrote the data. Linux only (/proc).

    python -m benchmarks.support.published --batch-size 8192 --steps 1 --json published.json
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.support.measuring import Stopwatch, device_memory
from benchmarks.support.memory import memory
from benchmarks.support.published_qin import Batch, PublishedQIN
from ctr.models.qin import QINConfig
from pipeline.common import paths
from pipeline.common.files import read_array, read_json, write_json
from pipeline.tables.split import Split

LEARNING_RATE = 2e-3
EMBEDDING_REGULARIZER = 2e-4
MAX_GRAD_NORM = 10.0
SEED = 2025


class ClickRows(Dataset[np.ndarray]):
    """The rows of a split, int32 (history + 5,) each and laid out as `Split`, in memory."""

    def __init__(self, split: str, history: int) -> None:
        rows, columns = Split.load(split).rows, history + len(Split.TAIL)
        if columns > rows.shape[1]:
            raise ValueError(
                f"{paths.split_path(split)}: expected histories of {history} or more, "
                f"found {rows.shape[1] - len(Split.TAIL)}"
            )
        self.rows = np.array(rows[:, -columns:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows[index]


class Collator:
    """Joins click rows with their items' features."""

    def __init__(self, items: pd.DataFrame) -> None:
        self.items = items

    def __call__(self, rows: list[np.ndarray]) -> Batch:
        split = Split(np.stack(rows))
        positions = np.column_stack([split.history, split.target])  # (B, L + 1)
        items = self.items.loc[positions.ravel()]
        return Batch(
            item_id=torch.tensor(items["item_id"].to_numpy()),
            item_tags=torch.from_numpy(np.array(items["item_tags"].to_list())),
            item_emb_d128=torch.from_numpy(np.array(items["item_emb_d128"].to_list())),
            likes_level=torch.from_numpy(split.column("likes_level")).long(),
            views_level=torch.from_numpy(split.column("views_level")).long(),
            label=torch.from_numpy(split.label).float(),
            mask=torch.from_numpy(split.history > 0),
        )


def load_items() -> pd.DataFrame:
    """Indexed by item id: item_id, item_tags (an int64 (T,) each), item_emb_d128 (float32 (C,))."""
    tags = np.array(read_array(paths.TAGS), np.int64)
    content = np.array(read_array(paths.ITEM))
    columns = {
        "item_id": np.arange(len(tags)),
        "item_tags": list(tags),
        "item_emb_d128": list(content),
    }
    return pd.DataFrame(columns).set_index("item_id", drop=False)


class PublishedTrainer:
    """Steps of Adam on cross-entropy and the tables' penalty."""

    def __init__(
        self,
        model: PublishedQIN,
        bf16: bool = False,
        embedding_regularizer: float = EMBEDDING_REGULARIZER,
        max_grad_norm: float = MAX_GRAD_NORM,
    ) -> None:
        self.model = model.train()
        self.bf16 = bf16
        self.embedding_regularizer = embedding_regularizer
        self.max_grad_norm = max_grad_norm
        self.optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)

    def step(self, batch: Batch, watch: Stopwatch) -> float:
        """The batch's mean cross-entropy in nats, without the penalty."""
        self.optimizer.zero_grad()
        with torch.autocast(batch.label.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(batch)
        loss = F.binary_cross_entropy_with_logits(logits.to(batch.label.dtype), batch.label)
        total = loss + self.embedding_regularizer / 2 * self.squared_norm()
        watch.lap("forward")
        total.backward()
        watch.lap("backward")
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        watch.lap("optimizer")
        return loss.item()

    def squared_norm(self) -> Tensor:
        return torch.stack([table.square().sum() for table in self.model.regularised()]).sum()


def measure(
    device: torch.device,
    batch_size: int,
    steps: int,
    precision: str,
    history: int,
    threads: int,
    workers: int = 0,
) -> dict[str, Any]:
    """Figures of `steps` steps after one that warms up; `precision` is "no" or "bf16"."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    batches = endless(open_loader(batch_size, history, workers))
    trainer = PublishedTrainer(PublishedQIN(load_config()).to(device), precision == "bf16")
    trainer.step(next(batches).to(device), Stopwatch(device))
    watch, samples, losses = Stopwatch(device), 0, []
    for _ in range(steps):
        batch = next(batches).to(device)
        watch.lap("data")
        losses.append(trainer.step(batch, watch))
        samples += len(batch.label)
    settings = {
        "device": str(device),
        "batch_size": batch_size,
        "steps": steps,
        "precision": precision,
        "history": history,
        "threads": threads,
        "workers": workers,
    }
    return settings | figures(watch, samples, steps) | {"losses": losses}


def open_loader(batch_size: int, history: int, workers: int) -> DataLoader[np.ndarray]:
    return DataLoader(
        ClickRows("train", history),
        batch_size,
        shuffle=True,
        collate_fn=Collator(load_items()),
        num_workers=workers,
    )


def endless(loader: DataLoader[np.ndarray]) -> Iterator[Batch]:
    """The batches of one epoch after another."""
    while True:
        yield from loader


def load_config() -> QINConfig:
    """The published sizes, for the items and tags of the working directory."""
    stats = read_json(paths.STATS)
    width = read_array(paths.ITEM).shape[1]
    return QINConfig(items=stats["items"], tags=stats["tags"], content_dim=width)


def figures(watch: Stopwatch, samples: int, steps: int) -> dict[str, Any]:
    """Rates, seconds a step by phase, and peak bytes: of this process, and of its tensors on a GPU.

    The peak on the host is VmHWM, since that of getrusage begins with the parent's memory.
    """
    return {
        "samples_per_s": samples / watch.total(),
        "seconds": {phase: spent / steps for phase, spent in watch.seconds.items()},
        "loader_share": watch.seconds["data"] / watch.total(),
        "peak_bytes": {"host": memory("VmHWM"), "device": device_memory(watch.device)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of QIN's training, as published")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=1, help="after one that warms up")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--history", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = vars(parser.parse_args())
    path = options.pop("json")
    measured = measure(**options)
    if path is not None:
        write_json(path, measured)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
