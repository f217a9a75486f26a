"""One user's request: milliseconds to score candidates after a history, and requests a second.

    published   QIN at the published sizes and the challenge's numbers of items and tags, random
                weights: `serving/folded.py` beside the published forward pass on the same weights
                (`support/published_qin.py`), which gathers its features from tensors
    package     the model of a package, with all that its rows' numbers take (`serving/scorer.py`)

Each on one core and on all; a request is a new history of 64 items and new candidates. The last
column is how often ours goes into the plain one's median. Nothing else should run meanwhile.

    python -m benchmarks.bench_online [--package packages/main] [--seconds 3] [--json PATH]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks.support.published_qin import Batch, PublishedQIN
from benchmarks.support.raw_layout import ITEMS
from ctr.models.base import ItemTable
from ctr.models.qin import QIN, QINConfig
from pipeline.common.files import write_json
from pipeline.common.outlook import available_cores
from pipeline.tables.split import LEVELS
from serving.rankers import Folded, Rows
from serving.scorer import DEFAULT, Scorer

TAGS, TAGS_AN_ITEM, CONTENT, HISTORY = 11_740, 5, 128, 64
CANDIDATES = (1, 100, 1000)
FEWEST, PLAIN_FEWEST = 30, 3
"""Requests that are timed at the least."""
PLAIN_ROWS = 250
"""Candidates of the plain way at a time: it makes (B, L, 768) tensors."""

Ask = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Logits or probabilities of candidates (C,) after a history (L,)."""


class Times(NamedTuple):
    p50: float
    """Milliseconds."""
    p99: float
    rate: float
    """Requests a second."""


def measured(ask: Ask, requests: Iterator[tuple[np.ndarray, np.ndarray]], seconds: float) -> Times:
    """Of requests one after the other, after two that warm up."""
    fewest = FEWEST if seconds else PLAIN_FEWEST
    for _ in range(2):
        ask(*next(requests))
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < fewest:
        request = next(requests)
        started = time.perf_counter()
        ask(*request)
        taken.append(time.perf_counter() - started)
    p50, p99 = np.percentile(taken, [50, 99]) * 1e3
    return Times(float(p50), float(p99), len(taken) / sum(taken))


def drawn(
    items: int, candidates: int, weight: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Histories by `weight` (items,), which are drawn once each, and candidates without it."""
    rng = np.random.default_rng(7)
    share = weight / weight.sum()
    while True:
        history = 1 + rng.choice(items, min(HISTORY, items), replace=False, p=share)
        yield history, 1 + rng.choice(items, candidates, replace=False)


class Published:
    """Random weights at the published sizes, both ways."""

    def __init__(self, items: int) -> None:
        torch.manual_seed(7)
        config = QINConfig(items=items, tags=TAGS + 1)
        model = QIN(config).eval().requires_grad_(False)
        for module in model.modules():  # or every score is about 0, as before training
            if isinstance(module, nn.Embedding):
                module.weight.normal_(std=0.3)[0] = 0
        self.items = ItemTable(
            id=torch.arange(items + 1),
            tags=torch.randint(0, TAGS + 1, (items + 1, TAGS_AN_ITEM)),
            content=torch.randn(items + 1, CONTENT),
            neighbors=torch.zeros((items + 1, 0), dtype=torch.int64),
            cosine=torch.zeros(items + 1, 0),
        )
        for column in self.items:
            column[0] = 0
        self.plain_model = PublishedQIN(config).eval().requires_grad_(False)
        self.plain_model.load_state_dict(model.state_dict())
        self.folded = Folded(model, self.items)

    def ours(self, history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        levels = candidates % LEVELS
        numbers = np.empty((len(candidates), 0), np.float32)
        read = self.folded.read(history)
        return self.folded.logits(read, Rows(candidates, levels, levels, numbers))

    @torch.inference_mode()
    def plain(self, history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        parts = np.split(candidates, range(PLAIN_ROWS, len(candidates), PLAIN_ROWS))
        return np.concatenate(
            [self.plain_model(self.batch(history, part)).numpy() for part in parts]
        )

    def batch(self, history: np.ndarray, candidates: np.ndarray) -> Batch:
        rows = np.tile(history, (len(candidates), 1))
        places = torch.from_numpy(np.column_stack([rows, candidates]))  # (B, L + 1)
        flat, levels = places.flatten(), torch.from_numpy(candidates % LEVELS)
        return Batch(
            item_id=self.items.id[flat],
            item_tags=self.items.tags[flat],
            item_emb_d128=self.items.content[flat],
            likes_level=levels,
            views_level=levels,
            label=levels.float(),
            mask=places[:, :-1] > 0,
        )


def compared(items: int, seconds: float) -> list[dict[str, Any]]:
    """A line for each number of threads and candidates."""
    world, lines = Published(items), []
    history, candidates = next(drawn(items, 200, np.ones(items)))
    ours, plain = (expit(ask(history, candidates)) for ask in (world.ours, world.plain))
    print(f"published sizes: the probabilities differ by at most {np.abs(ours - plain).max():.1e}")
    for threads in counts_of_threads():
        with limited(threads):
            for count in (*CANDIDATES, items):
                requests = drawn(items, count, np.ones(items))
                line = line_of("published", threads, count, world.ours, requests, seconds)
                if count in CANDIDATES:
                    plain_p50 = measured(world.plain, requests, 0.0).p50
                    line |= {"plain_p50": plain_p50, "ratio": plain_p50 / line["p50"]}
                tell(line)
                lines.append(line)
    return lines


def asked(package: Path, seconds: float) -> list[dict[str, Any]]:
    """Likewise of a package, whose histories are drawn by how often items were shown."""
    scorer, lines = Scorer.load(package), []
    items = len(scorer)
    weight = np.ones(items)
    if scorer.numbers:
        weight += scorer.numbers.of["rows"][1:]

    def ask(history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        return scorer.score(scorer.raw[history], scorer.raw[candidates])

    for threads in counts_of_threads():
        with limited(threads):
            for count in (*(count for count in CANDIDATES if count < items), items):
                requests = drawn(items, count, weight)
                line = line_of(str(package), threads, count, ask, requests, seconds)
                tell(line)
                lines.append(line)
    return lines


def line_of(
    model: str,
    threads: int,
    candidates: int,
    ask: Ask,
    requests: Iterator[tuple[np.ndarray, np.ndarray]],
    seconds: float,
) -> dict[str, Any]:
    times = measured(ask, requests, seconds)._asdict()
    return {"model": model, "threads": threads, "candidates": candidates, **times}


def counts_of_threads() -> list[int]:
    return sorted({1, available_cores()})


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """torch and the libraries of numpy on so many threads."""
    torch.set_num_threads(threads)
    with threadpool_limits(limits=threads):
        yield


def tell(line: dict[str, Any]) -> None:
    ratio = f"{line['plain_p50']:>12.1f}{line['ratio']:>8.1f}" if "ratio" in line else ""
    print(
        f"{line['model']:16}{line['threads']:>8}{line['candidates']:>12,}{line['p50']:>10.2f}"
        f"{line['p99']:>10.2f}{line['rate']:>12.1f}{ratio}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=ITEMS, help="of the published sizes")
    parser.add_argument("--package", type=Path, default=DEFAULT, help="measured if it is there")
    parser.add_argument("--seconds", type=float, default=3.0, help="of requests for each line")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print(
        f"{'':16}{'threads':>8}{'candidates':>12}{'p50 ms':>10}{'p99 ms':>10}{'requests/s':>12}"
        f"{'plain p50':>12}{'ratio':>8}"
    )
    lines = asked(options.package, options.seconds) if options.package.is_dir() else []
    lines += compared(options.items, options.seconds)
    if options.json:
        write_json(options.json, {"requests": lines})


if __name__ == "__main__":
    main()
