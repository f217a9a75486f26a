"""The data path: what `ingest` and `embed/` wrote, as the batches that a model reads.

A click is some 70 int32 numbers, and what is told of it some 50 of 16 bits, so a process keeps its
rows of a split in the memory of what it computes on, and a batch is one gather of each there. Where
there is no room for them they are read from the memory-mapped files while the batch before is at
work. Both give the same batches in the same order.
"""

import math
import mmap
from collections.abc import Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctr.models.base import Clicks, ItemTable, items_read
from pipeline.common import paths
from pipeline.common.files import InputError, read_array, read_json
from pipeline.common.outlook import available_memory
from pipeline.common.section import Residence
from pipeline.settings.ctr.training import NUMBERS, Features
from pipeline.tables.split import Split

STRATA = 8
"""1, 2, 4 or 8 processes see the same batches; other numbers have a shuffle of their own."""
PIECE = 128
"""Rows that are picked from a file before its pages are let go: a row can map 2 MB of it."""
BLOCK = 1 << 16
"""Likewise of rows that follow one another."""
RESIDENT_SHARE = 0.25
"""A split stays in memory if it takes no more than this share of what is free. To pick rows from a
mapped file takes a page fault each, a quarter of a step on a CPU."""


class Table(NamedTuple):
    """Own rows of an array, on the device or in the file that they are read from."""

    rows: Tensor
    file: mmap.mmap | None = None
    """Of which `rows` is a view, where it is not on the device."""


@dataclass(frozen=True)
class ClickLog:
    """The rows rank, rank + world, ... of a split, as one process of `world` holds them."""

    clicks: Table
    """int32 (own rows, L + 5): the last L items of the history, then `Split.TAIL`."""
    numbers: Table
    """float16 (own rows, F): what stage `companions` tells of them; none, if it is not read."""
    columns: Tensor
    """int64: those of the numbers that are read."""
    total: int
    """Rows of all processes: of the whole split, or of its last ones."""
    features: Features
    device: torch.device
    rank: int = 0
    world: int = 1

    @staticmethod
    def load(
        split: str,
        history: int,
        features: Features,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        residence: Residence = "auto",
        last: int = 0,
    ) -> "ClickLog":
        """Of the split's `last` rows (0: of all) those of this process."""
        file: Any = read_array(paths.split_path(split), "c")
        whole, own = torch.from_numpy(file)[-last:], slice(rank, None, world)
        clicks = Table(whole[own, -(history + len(Split.TAIL)) :], file.base)
        numbers = Table(torch.empty((len(clicks.rows), 0), dtype=torch.float16))
        columns = [*numbers_read(features).values()]
        if columns:
            path = paths.companions_path(split)
            told: Any = read_array(path, "c")
            refuse_other_lengths({paths.split_path(split): file, path: told})
            numbers = Table(torch.from_numpy(told)[-last:][own], told.base)
        if residence == "device" or (
            residence == "auto" and fits([clicks, numbers], device, world)
        ):
            clicks, numbers = resident(clicks, device), resident(numbers, device)
        place = torch.tensor(columns, dtype=torch.int64, device=device)
        return ClickLog(clicks, numbers, place, len(whole), features, device, rank, world)

    def __len__(self) -> int:
        return len(self.clicks.rows)

    @property
    def places(self) -> int:
        """How many items own rows name, padding counted."""
        return len(self) * (self.clicks.rows.shape[1] - len(Split.TAIL) + 1)

    def batches(self, places: list[Tensor]) -> Iterator[tuple[Clicks, Tensor]]:
        """For each tensor of own row numbers (B,), their clicks and labels, float (B,)."""
        gathered = self._streamed(places) if self.clicks.file else self._gathered(places)
        for rows in gathered:
            yield self._columns(*rows)

    def _tables(self) -> list[Table]:
        return [self.clicks, self.numbers] if len(self.columns) else [self.clicks]

    def _gathered(self, places: list[Tensor]) -> Iterator[list[Tensor]]:
        for place in places:
            yield [table.rows[place] for table in self._tables()]

    def _streamed(self, places: list[Tensor]) -> Iterator[list[Tensor]]:
        """Reads a batch while the one before is at work."""
        if not places:
            return
        longest = max(map(len, places))
        slots = [[_Slot(x, self.device, longest) for x in self._tables()] for _ in range(2)]

        def read(number: int) -> list[Tensor]:
            return [slot.read(places[number]) for slot in slots[number % 2]]

        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(read, 0)
            for number in range(len(places)):
                found = coming.result()
                if number + 1 < len(places):
                    coming = thread.submit(read, number + 1)
                yield [slot.send(rows) for slot, rows in zip(slots[number % 2], found, strict=True)]

    def _columns(self, rows: Tensor, numbers: Tensor | None = None) -> tuple[Clicks, Tensor]:
        tail = len(Split.TAIL)
        history = rows[:, :-tail]
        target, likes, views, label, _user = rows[:, -tail:].unbind(1)
        if not self.features.history:
            history = torch.zeros_like(history)
        if not self.features.levels:
            likes, views = torch.zeros_like(likes), torch.zeros_like(views)
        read = torch.empty((len(rows), 0), device=rows.device)
        if numbers is not None:
            read = numbers.index_select(1, self.columns).float()
        return Clicks(history, target, likes, views, read), label.float()


def numbers_read(features: Features) -> dict[str, int]:
    """Of the numbers that are read, by name, the places in what stage `companions` writes."""
    kinds = [kind for kind, on in features.model_dump().items() if on and kind in NUMBERS]
    if not kinds:
        return {}
    told = read_json(paths.ROW_FEATURES)
    read = {name for kind in kinds for name in told["kinds"][kind]}
    return {name: place for place, name in enumerate(told["names"]) if name in read}


def resident(table: Table, device: torch.device) -> Table:
    """The same rows in the memory of `device`."""
    rows = torch.empty(table.rows.shape, dtype=table.rows.dtype, device=device)
    for part in range(0, len(rows), BLOCK):
        rows[part : part + BLOCK] = table.rows[part : part + BLOCK]
        forget_pages(table.file)
    return Table(rows)


def forget_pages(file: mmap.mmap | None) -> None:
    """Do not count the file's pages as this process's memory; the system still has them."""
    if file is not None and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


class _Slot:
    """A batch on its way from the file to a device; to a GPU it goes through pinned memory."""

    def __init__(self, table: Table, device: torch.device, longest: int) -> None:
        self.rows = table.rows
        self.file = table.file
        self.device = device
        self.longest = longest
        self.pinned: Tensor | None = None
        self.sent: torch.cuda.Event | None = None

    def read(self, places: Tensor) -> Tensor:
        """(B, columns), on the host; runs beside the work on the batch before."""
        out = self._buffer(len(places))
        piece = PIECE if self.device.type == "cpu" else len(places)  # a GPU would wait for more
        for part in range(0, len(places), piece):
            place = places[part : part + piece]
            torch.index_select(self.rows, 0, place, out=out[part : part + piece])
            forget_pages(self.file)
        return out

    def _buffer(self, batch: int) -> Tensor:
        if self.device.type == "cpu":
            return torch.empty((batch, self.rows.shape[1]), dtype=self.rows.dtype)
        if self.pinned is None:
            shape = (self.longest, self.rows.shape[1])
            self.pinned = torch.empty(shape, dtype=self.rows.dtype).pin_memory()
        if self.sent is not None:
            self.sent.synchronize()  # the last batch has left it
        return self.pinned[:batch]

    def send(self, rows: Tensor) -> Tensor:
        """`rows` on the device; returns before they have arrived."""
        if self.device.type == "cpu":
            return rows
        moved = rows.to(self.device, non_blocking=True)
        self.sent = torch.cuda.Event()
        self.sent.record()
        return moved


def fits(tables: list[Table], device: torch.device, world: int = 1) -> bool:
    """Whether `device` has room for `tables`; a CPU's memory all processes have in common."""
    size = sum(table.rows.numel() * table.rows.element_size() for table in tables)
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
    else:
        free = available_memory() // world
    return size <= RESIDENT_SHARE * free


def shuffled_batches(
    log: ClickLog, batch_size: int, seed: int, epoch: int
) -> list[tuple[Tensor, float]]:
    """One epoch's batches, as (own row numbers, weight), the numbers where the rows are.

    `batch_size` is that of all processes together and a multiple of their number. The last batch
    may be smaller; if it has fewer than two rows a process it joins the one before. Its parts may
    differ by a row: a part's weight makes the mean over processes the mean over the batch.
    """
    order = shuffled(log.total, seed, epoch, log.device, log.rank, log.world)
    order = order.to(log.clicks.rows.device)
    batches = []
    for start, stop in batch_bounds(log.total, batch_size, smallest=2 * log.world):
        own = slice(*(-((log.rank - bound) // log.world) for bound in (start, stop)))
        part = order[own]
        batches.append((part, len(part) * log.world / (stop - start)))
    return batches


def shuffled(
    rows: int, seed: int, epoch: int, device: torch.device, rank: int = 0, world: int = 1
) -> Tensor:
    """int64 (own rows,): own row numbers in the epoch's order, which takes a process in turn.

    The order has rows of STRATA strata in turn (row numbers modulo STRATA), each shuffled on its
    own, so that a process needs no other rows than every world-th and all of them together see
    what a single one sees. Depends on seed, epoch and the kind of device.
    """
    strata = math.lcm(STRATA, world)
    order = torch.empty(len(range(rank, rows, world)), dtype=torch.int64, device=device)
    own = strata // world
    for number in range(own):
        stratum = rank + world * number
        generator = torch.Generator(device)
        generator.manual_seed(mixed(seed, epoch, stratum))
        size = len(range(stratum, rows, strata))
        turn = torch.randperm(size, generator=generator, device=device)
        order[number::own] = number + own * turn
    return order


def mixed(*numbers: int) -> int:
    """A seed of 32 bits (of more, torch's CPU generator drops the rest)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def batch_bounds(rows: int, batch_size: int, smallest: int) -> list[tuple[int, int]]:
    """Where each batch starts and stops; a last one below `smallest` joins its neighbour."""
    starts = list(range(0, rows, batch_size))
    if len(starts) > 1 and rows - starts[-1] < smallest:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


def load_items(features: Features, device: torch.device) -> ItemTable:
    """Every item's features on `device`; what is switched off is all padding."""
    content = torch.from_numpy(np.array(read_array(paths.ITEM)))
    tags = torch.from_numpy(np.array(read_array(paths.TAGS)))
    with np.load(paths.NEIGHBORS, allow_pickle=False) as file:
        neighbors, cosine = torch.from_numpy(file["ids"]), torch.from_numpy(file["cosine"])
    refuse_other_lengths({paths.ITEM: content, paths.TAGS: tags, paths.NEIGHBORS: neighbors})
    table = items_read(features, content, tags, neighbors, cosine)
    return ItemTable(*(column.to(device) for column in table))


def refuse_other_lengths(tables: dict[Path, Sized]) -> None:
    rows = {path: len(table) for path, table in tables.items()}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{path} has {count}" for path, count in rows.items())
        raise InputError(f"these differ in rows: {found}; run `dvc repro`")
