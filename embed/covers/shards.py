"""The covers of chosen shards, as batches of pixels."""

from torch.utils.data import Dataset

from embed.covers.batches import CoverBatches, CoverFile, ToPixels
from embed.extraction.batches import Batch, even_spans


class CoverShards(Dataset[list[Batch]]):
    """Entry i is the i-th batch of the shards `numbers`, one after the other."""

    def __init__(
        self,
        file: CoverFile,
        runs: list[tuple[int, int]],
        numbers: list[int],
        batch_size: int,
        to_pixels: ToPixels,
    ) -> None:
        cut = [(number, even_spans(*runs[number], batch_size)) for number in numbers]
        self.shards = [number for number, spans in cut for _ in spans]
        self.covers = CoverBatches(file, [span for _, spans in cut for span in spans], to_pixels)

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, place: int) -> list[Batch]:
        covers = self.covers[place]
        pixels = {"pixels": covers.pixels}
        return [Batch(self.shards[place], covers.items, pixels, covers.unreadable)]
