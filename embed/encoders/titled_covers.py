"""Title and cover of each item, read together and encoded by a vision-language model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from embed.covers.batches import CoverFile
from embed.covers.decode import CoverError, decode
from embed.encoders.vision_language import Prompts, load_vision_language
from embed.extraction.batches import Batch, even_spans, read_ahead, spans
from embed.extraction.extract import Embedded, extracted, tell_start
from embed.extraction.shards import text_sha256
from pipeline.common.launch import arithmetic, gpu_or_cpu, open_processes
from pipeline.common.paths import COVERS
from pipeline.common.scratch import file_sha256
from pipeline.settings.embed.vlm import EmbedVlm


@contextmanager
def embedded_items(
    titles: list[str], section: EmbedVlm
) -> Iterator[tuple[Embedded, dict[str, Any]] | None]:
    """The vectors of every item that has a title or a cover, and what made them.

    In the main process, None in the others; the `with` block writes the outputs.
    """
    state = open_processes("embed_vlm", section.launch)
    device = gpu_or_cpu(state)
    tell_start("embed_vlm", device, section.mixed_precision, state)
    prompts, encoder = load_vision_language(section, device)
    file = CoverFile(COVERS)
    items = readable(titles, file.items())
    runs = spans(len(items), section.shard_size)

    def read(numbers: list[int]) -> Iterator[Batch]:
        cut = cut_batches(runs, numbers, section.batch_size)
        dataset = ItemShards(items, titles, file, cut, prompts)
        return read_ahead(dataset, len(dataset), section.workers, device)

    identity = {
        "titles": text_sha256(titles),
        "covers": file_sha256(COVERS),
        "settings": section.model_dump(exclude={"launch", "workers"}),
        **arithmetic(device),
    }
    with extracted("embed_vlm", identity, read, encoder, runs, len(titles), state) as embedded:
        yield None if embedded is None else (embedded, encoder.provenance)


def readable(titles: list[str], covered: np.ndarray) -> np.ndarray:
    """Dense ids of items that have a title, or a cover that may be readable, ascending."""
    has = np.array([bool(title.strip()) for title in titles])
    has[covered] = True
    return np.flatnonzero(has)


class ItemShards(Dataset[list[Batch]]):
    """Entry i is the i-th batch of the shards `numbers`: items that have a title or a cover."""

    def __init__(
        self,
        items: np.ndarray,
        titles: list[str],
        file: CoverFile,
        cut: list[tuple[int, tuple[int, int]]],
        prompts: Prompts,
    ) -> None:
        """`items` ascending, dense ids; `cut` are batches: their shard, and a run of `items`."""
        self.items = items
        self.titles = titles
        self.file = file
        self.covered = file.items()
        self.cut = cut
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.cut)

    def __getitem__(self, place: int) -> list[Batch]:
        shard, (start, stop) = self.cut[place]
        covers, unreadable = self._covers(self.items[start], self.items[stop - 1])
        items = [
            int(item)
            for item in self.items[start:stop]
            if item in covers or self.titles[item].strip()
        ]
        inputs: dict[str, np.ndarray] = {}
        if items:
            titles = [self.titles[item].strip() for item in items]
            inputs = self.prompts(titles, [covers.get(item) for item in items])
        return [Batch(shard, np.array(items, np.int32), inputs, unreadable)]

    def _covers(
        self, first: int, last: int
    ) -> tuple[dict[int, Image.Image], list[tuple[int, str]]]:
        """The readable covers of items first..last, and why others are not."""
        start = int(np.searchsorted(self.covered, first))
        stop = int(np.searchsorted(self.covered, last, side="right"))
        covers: dict[int, Image.Image] = {}
        unreadable: list[tuple[int, str]] = []
        if start == stop:
            return covers, unreadable
        table = self.file.rows(start, stop)
        for item, data in zip(table["item"].to_pylist(), table["image"].to_pylist(), strict=True):
            try:
                covers[item] = decode(data)
            except CoverError as error:
                unreadable.append((item, str(error)))
        return covers, unreadable


def cut_batches(
    runs: list[tuple[int, int]], numbers: list[int], batch_size: int
) -> list[tuple[int, tuple[int, int]]]:
    """The batches of the shards `numbers`: each with its shard."""
    return [(number, span) for number in numbers for span in even_spans(*runs[number], batch_size)]
