"""Read, encode, write: how every embedding stage turns its items into vectors.

The items are cut into shards and these into batches by the settings alone, so that the vectors are
the same for any number of processes and workers, and after any number of kills.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from embed.extraction.batches import Batch
from embed.extraction.encoder import Encoder, check_finite, effective_precision
from embed.extraction.shards import Shard, Shards
from pipeline.common.files import InputError
from pipeline.common.launch import gathered, refuse_separate_storage, tell_device, told_by_main
from pipeline.common.outlook import A_WHILE, Watch, duration
from pipeline.common.scratch import code_sha256, fingerprint

Read = Callable[[list[int]], Iterable[Batch]]
"""The batches of the shards of these numbers, in order; every shard has at least one."""

log = logging.getLogger(__name__)


@dataclass
class Embedded:
    """All items' vectors."""

    vectors: np.ndarray
    """(rows, d) float32; d is 0 if no item has a vector."""
    present: np.ndarray
    """(rows,) bool."""
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """(dense item id, reason), ascending."""


@contextmanager
def extracted(
    stage: str,
    identity: Mapping[str, Any],
    read: Read,
    encoder: Encoder,
    runs: list[tuple[int, int]],
    rows: int,
    state: PartialState,
) -> Iterator[Embedded | None]:
    """The vectors in the main process, None in the others; the `with` block writes the outputs.

    `identity` is what they depend on besides the encoder and the code; `runs` are the shards' items
    (start, stop), `rows` those of the output. Shards that an earlier run left are taken up, and
    removed when the block ends well.
    """
    shards = Shards(stage, agreed({**identity, "encoder": encoder.provenance}))
    missing = told_by_main(state, lambda: begin(shards, len(runs)))
    refuse_separate_storage(shards.folder)
    mine = missing[state.process_index :: state.num_processes]
    items = sum(runs[number][1] - runs[number][0] for number in mine)
    started = time.perf_counter()
    for number, shard in shards_of(progress(read(mine), items, state), encoder):
        shards.write(number, shard)
    tell_rate(sum(gathered(items)), time.perf_counter() - started, state)
    if state.is_main_process:
        yield assembled(shards, len(runs), rows)
        shards.clear()
    else:
        yield None
    state.destroy_process_group()


def tell_rate(items: int, seconds: float, state: PartialState) -> None:
    if state.is_main_process and items:
        log.info("%d items encoded, %.0f a second", items, items / seconds)


def agreed(identity: Mapping[str, Any]) -> str:
    """The fingerprint. Raises InputError if another process of the launch computes another one."""
    own = fingerprint({**identity, "code": code_sha256("embed")})
    if set(gathered(own)) != {own}:
        raise InputError(
            "the processes of this launch differ in inputs, settings, weights, package versions, "
            "code, threads or kind of device, so their vectors would not fit together; "
            "give every machine the same"
        )
    return own


def begin(shards: Shards, count: int) -> list[int]:
    """In the main process: find the shards that are missing."""
    shards.folder.mkdir(parents=True, exist_ok=True)
    return shards.missing(count)


def shards_of(batches: Iterable[Batch], encoder: Encoder) -> Iterator[tuple[int, Shard]]:
    """Each shard as soon as its last batch is encoded, with its number."""
    for number, group in groupby(encoded(batches, encoder), lambda pair: pair[0].shard):
        pairs = list(group)
        with_items = [(batch.items, vectors) for batch, vectors in pairs if len(batch.items)]
        items, vectors = zip(*with_items, strict=True) if with_items else ((), ())
        yield (
            number,
            Shard(
                np.concatenate(items or [np.empty(0, np.int32)]),
                np.concatenate(vectors or [np.empty((0, 0), np.float32)]),
                [fault for batch, _ in pairs for fault in batch.unreadable],
            ),
        )


def encoded(batches: Iterable[Batch], encoder: Encoder) -> Iterator[tuple[Batch, np.ndarray]]:
    """Each batch with its vectors, float32 (B, d); a GPU computes one while the next is read."""
    started: tuple[Batch, Pending] | None = None
    for batch in batches:
        following = (batch, Pending(batch, encoder))
        if started is not None:
            yield started[0], started[1].vectors()
        started = following
    if started is not None:
        yield started[0], started[1].vectors()


class Pending:
    """A forward pass that a GPU may still be at."""

    def __init__(self, batch: Batch, encoder: Encoder) -> None:
        self.encoder = encoder
        self.done: torch.cuda.Event | None = None
        self.host = torch.empty((0, 0))
        if len(batch.items):
            features = encoder.forward(on_device(batch.inputs, encoder.device)).float()
            self.host = features.to("cpu", non_blocking=True)
            if features.is_cuda:
                self.done = torch.cuda.Event()
                self.done.record()

    def vectors(self) -> np.ndarray:
        """float32 (B, d). Raises InputError if they are not finite."""
        if self.done is not None:
            self.done.synchronize()
        vectors = np.asarray(self.host)
        check_finite(vectors, self.encoder.stage, self.encoder.model)
        return vectors


def on_device(inputs: Mapping[str, np.ndarray | Tensor], device: torch.device) -> dict[str, Tensor]:
    return {
        name: torch.as_tensor(value).to(device, non_blocking=True) for name, value in inputs.items()
    }


def assembled(shards: Shards, count: int, rows: int) -> Embedded:
    """All shards as one array of `rows` rows. Raises InputError if one is not there."""
    embedded = Embedded(np.zeros((rows, 0), np.float32), np.zeros(rows, bool))
    for number in range(count):
        shard = shards.read(number)
        if shard is None:
            raise InputError(
                f"{shards.path(number)} is missing or damaged although every process has done its "
                "part; on several machines the repository must lie on storage that all of them "
                "share. Start again: what is there is taken up"
            )
        embedded.unreadable += shard.unreadable
        if len(shard.items) == 0:
            continue
        if embedded.vectors.shape[1] == 0:
            embedded.vectors = np.zeros((rows, shard.vectors.shape[1]), np.float32)
        embedded.vectors[shard.items] = shard.vectors
        embedded.present[shard.items] = True
    embedded.unreadable.sort()
    return embedded


def tell_start(stage: str, device: torch.device, mixed_precision: str, state: PartialState) -> None:
    """On what it encodes, and how."""
    precision = effective_precision(device, mixed_precision)
    tell_device(stage, device, precision, state.num_processes)


def progress(batches: Iterable[Batch], items: int, state: PartialState) -> Iterator[Batch]:
    """A bar in the main process, over its own share, where there is a terminal.

    What will take a while is told after the first batches in any case.
    """
    hidden = None if state.is_main_process else True
    watch = Watch(items, lambda seconds: tell_expected(items, seconds, state), A_WHILE)
    with tqdm(total=items, desc="embedding", unit="item", disable=hidden) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
            watch.after_batch(len(batch))


def tell_expected(items: int, seconds: float, state: PartialState) -> None:
    if state.is_main_process:
        each = " for each process" if state.num_processes > 1 else ""
        log.info("%s items%s take about %s", f"{items:,}", each, duration(seconds))
