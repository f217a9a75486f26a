"""Stage `companions`: what people took together, as numbers of every row.

Items that are taken in the same company are counted over the clicks of train and pooled over each
row's history (`ctr/covisitation/describe.py` has the list). A row of train is described without the
clicks of its user, and of a fold of others: counts that hold the row's own click tell its label,
and of valid nothing. Rows of valid and test are described by all of train.

Writes companions/<split>.npy, float16 (n, F), standardised over train; features.json, their names
in order, their kinds, means and deviations, the settings, and `new`: those, as written, that are
the same for every row whose target train does not have; items.npz, each item's strongest
companions: ids int32 (N + 1, m), dense, and information float32 (N + 1, m), strongest first, 0
where there is none; and tallies/, what is counted of all of train, by which any other history can
be described (`ctr/covisitation/tallies.py`): files of no items where `companions.tallies` is off.
"""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

from ctr.covisitation.describe import (
    KINDS,
    NAMES,
    Describer,
    PairsOfItem,
    of_length_1,
    standardised,
)
from ctr.covisitation.pairs import order_by, recent
from ctr.covisitation.tallied import of_items, write_pairs
from ctr.covisitation.tallies import OF_ITEMS_FILE
from pipeline.common import paths
from pipeline.common.files import Outputs, read_array, versions
from pipeline.common.outlook import available_cores, tell_cores
from pipeline.common.scratch import SCRATCH, clear
from pipeline.common.stage import made, run
from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split

PIECES = 16
"""Of the targets, for each process: the last ones to end leave little to wait for."""
ROWS_AT_A_TIME = 1 << 16
DESCRIBED_AT_A_TIME = 1 << 12
"""Of one target: 3 MB for each of the numbers that are pooled, 84 MB of vectors."""


def main(section: Companions) -> None:
    splits = {split: Split.load(split) for split in paths.SPLITS}
    if not section.enabled:
        write_none(section, splits, len(read_array(paths.TAGS)))
        return
    tell_cores("companions", "fp64")
    tags = np.array(read_array(paths.TAGS))
    describer = Describer(splits["train"], tags, unit_vectors(), section)
    with described(splits, describer, len(tags)) as raw, Outputs() as outputs:
        mean, deviation = moments(raw["train"])
        for split, rows in raw.items():
            write_standardised(outputs, split, rows, mean, deviation)
        write_names(outputs, section, KINDS, mean, deviation, describer.of_new())
        kept = write_companions(outputs, describer, len(tags), section)
        place = NAMES.index("known")
        known = {split: float(np.mean(rows[:, place])) for split, rows in raw.items()}
        metrics = {
            "items": len(tags) - 1,
            "pairs_of_clicks": describer.pairs[0],
            "pairs_within_histories": describer.pairs[1],
            "pairs_in_tallies": kept,
            "known": known,
        }
        outputs.json(paths.metrics_path("companions"), metrics)
    made(
        f"{len(NAMES)} numbers a row from {sum(describer.pairs):,} pairs, which know "
        f"{known['train']:.1%} of train's histories; {kept:,} different ones are kept"
    )


def write_none(section: Companions, splits: dict[str, Split], items: int) -> None:
    """Rows without numbers, and items without companions."""
    with Outputs() as outputs:
        for split, rows in splits.items():
            outputs.array(paths.companions_path(split), np.zeros((len(rows), 0), np.float16))
        write_names(outputs, section, {}, np.zeros(0), np.zeros(0), {})
        write_items(outputs, np.zeros((items, 0), np.int32), np.zeros((items, 0), np.float32))
        write_tallies(outputs, (), {})
        outputs.json(paths.metrics_path("companions"), {"items": items - 1})
    made("none: companions.enabled is false")


def unit_vectors() -> np.ndarray:
    """float64 (N + 1, d): the items' vectors, of length 1; 0 where there is none."""
    return of_length_1(np.array(read_array(paths.ITEM)))


class Work(NamedTuple):
    """What each process does its part of."""

    describer: Describer
    splits: dict[str, Split]
    order: dict[str, np.ndarray]
    """Of each split its row numbers by target."""
    start: dict[str, np.ndarray]
    """Where each target's begin."""
    fold: dict[str, np.ndarray]
    """uint8 (n,): that each row is described without."""
    raw: dict[str, np.ndarray]
    """float32 (n, F), files that the processes share."""


@contextmanager
def described(
    splits: dict[str, Split], describer: Describer, items: int
) -> Iterator[dict[str, np.ndarray]]:
    """Every split's rows, float32 (n, F) as they are counted, in files that end with the block."""
    folder = SCRATCH / "companions"
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder, "")  # what a killed run has left
    with TemporaryDirectory(dir=folder) as temporary:
        sorted_by_target = {name: order_by(split.target, items) for name, split in splits.items()}
        raw: dict[str, np.ndarray] = {
            name: open_memmap(
                Path(temporary) / f"{name}.npy", "w+", np.float32, (len(split), len(NAMES))
            )
            for name, split in splits.items()
        }
        order, start = ({n: x[i] for n, x in sorted_by_target.items()} for i in (0, 1))
        fold = {
            name: describer.folds[split.user]
            if name == "train"
            else np.full(len(split), describer.none, np.uint8)
            for name, split in splits.items()
        }
        in_processes(Work(describer, splits, order, start, fold, raw), items)
        yield raw


def in_processes(work: Work, items: int) -> None:
    """Describe all rows, by as many processes as there are cores; what they do is the same."""
    global _work
    _work = work
    processes = available_cores()
    done_by = np.cumsum(sum((np.diff(start) for start in work.start.values()), np.zeros(items)))
    total = int(done_by[-1])
    ends = np.searchsorted(done_by, np.linspace(0, total, PIECES * processes + 1)[1:-1])
    bounds = np.unique([0, *ends, items])
    spans = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    with tqdm(total=total, desc="rows", unit="row", unit_scale=True, disable=None) as bar:
        if processes == 1:
            for span in spans:
                bar.update(describe(span))
            return
        forked = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(processes, forked) as pool:
            for done in pool.map(describe, spans):
                bar.update(done)


_work: Work
"""Inherited by the processes: it is too large to be sent to them."""


def describe(span: tuple[int, int]) -> int:
    """Fill the rows of the targets of a span; how many there were."""
    return sum(describe_target(_work, target) for target in range(*span))


def describe_target(work: Work, target: int) -> int:
    describer = work.describer
    rows = {
        name: work.order[name][work.start[name][target] : work.start[name][target + 1]]
        for name in work.splits
    }
    count = sum(map(len, rows.values()))
    if not count:
        return 0
    history, fold = (
        pieces(np.concatenate(columns), DESCRIBED_AT_A_TIME)
        for columns in (
            [recent(work.splits[name], rows[name], describer.window) for name in rows],
            [work.fold[name][rows[name]].astype(np.int64) for name in rows],
        )
    )
    found = np.concatenate([describer(target, *part) for part in zip(history, fold, strict=True)])
    ends = np.cumsum([len(each) for each in rows.values()])[:-1]
    for name, part in zip(rows, np.split(found, ends), strict=True):
        work.raw[name][rows[name]] = part
    return count


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, float64 (F,) both; 1 for a constant one."""
    parts, count = partial(pieces, rows, ROWS_AT_A_TIME), max(1, len(rows))
    mean = sum(part.sum(0, dtype=np.float64) for part in parts()) / count
    square = sum(((part - mean) ** 2).sum(0) for part in parts()) / count
    deviation = np.sqrt(square)
    return np.asarray(mean), np.where(deviation > np.abs(mean) * 1e-6, deviation, 1.0)


def write_standardised(
    outputs: Outputs, split: str, rows: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> None:
    path = paths.companions_path(split)
    written = open_memmap(outputs.path(path), "w+", np.float16, rows.shape)
    starts = range(0, len(rows), ROWS_AT_A_TIME)
    for start in tqdm(starts, f"{split} written", unit="part", leave=False, disable=None):
        part = slice(start, start + ROWS_AT_A_TIME)
        written[part] = standardised(rows[part], mean, deviation)
    written.flush()
    outputs.array_info(path, written, versions=versions("numpy", "scipy"))


def pieces(rows: np.ndarray, at_a_time: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), at_a_time):
        yield rows[start : start + at_a_time]


def write_names(
    outputs: Outputs,
    section: Companions,
    kinds: Mapping[str, Sequence[str]],
    mean: np.ndarray,
    deviation: np.ndarray,
    of_new: Mapping[str, float],
) -> None:
    names = [name for of_kind in kinds.values() for name in of_kind]
    means, deviations = (dict(zip(names, x.tolist(), strict=True)) for x in (mean, deviation))
    content = {
        "settings": section.model_dump(),
        "names": names,
        "kinds": {kind: list(of_kind) for kind, of_kind in kinds.items()},
        "mean": means,
        "deviation": deviations,
        "new": {name: (x - means[name]) / deviations[name] for name, x in of_new.items()},
    }
    outputs.json(paths.ROW_FEATURES, content)


def write_companions(
    outputs: Outputs, describer: Describer, items: int, section: Companions
) -> int:
    """What train has of every two items: each one's strongest companions, and the tallies; of how
    many pairs these are."""
    shape = (items, section.kept)
    ids, information = np.zeros(shape, np.int32), np.zeros(shape, np.float32)

    def counted() -> Iterator[PairsOfItem]:
        for item in tqdm(range(items), "pairs of items", unit="item", leave=False, disable=None):
            pairs = describer.pairs_of(item)
            found, value = pairs.strongest(section.kept)
            ids[item, : len(found)], information[item, : len(found)] = found, value
            yield pairs

    pairs, of = counted(), of_items(describer, items)
    if not section.tallies:
        deque(pairs, maxlen=0)  # none is left
        of = {}
    kept = write_tallies(outputs, pairs, of)
    write_items(outputs, ids, information)
    return kept


def write_tallies(
    outputs: Outputs, pairs: Iterable[PairsOfItem], of: Mapping[str, np.ndarray]
) -> int:
    starts = write_pairs(lambda name: outputs.path(paths.TALLIES / name), pairs)
    outputs.tensors(paths.TALLIES / OF_ITEMS_FILE, {**starts, **of})
    return int(starts["start"][-1])


def write_items(outputs: Outputs, ids: np.ndarray, information: np.ndarray) -> None:
    with outputs.path(paths.COMPANIONS).open("wb") as file:
        np.savez(file, ids=ids, information=information)


if __name__ == "__main__":
    run("companions", main)
