"""Nearest items by cosine with faiss: exhaustive where that is quick, else an inverted file."""

from dataclasses import dataclass

import faiss
import numpy as np
from tqdm import tqdm

SPARE = 16
"""Candidates fetched beyond k, so that order and ties are decided here and not by faiss."""

TIE = 1e-6
"""Cosines closer than this may be equal: the rounding of a float32 dot product."""

CANDIDATES = 2**19
"""Candidates held at a time, which bounds memory: 270 MB at 128 dimensions. Much fewer rows faiss
would search one after the other (`distance_compute_blas_threshold`): three times as long."""

WIDEST = 2048
"""Candidates a row at most, however many are tied; faiss returns no more of them on a GPU."""

CHECKED = 1000
"""Items whose approximate neighbours are compared with exact ones."""


@dataclass(frozen=True)
class Neighbors:
    ids: np.ndarray
    """(N + 1, k) int32, nearest first; 0 is none."""
    cosine: np.ndarray
    """(N + 1, k) float32; 0 where there is none."""
    index: str
    """none, exact or ivf."""


def nearest_items(vectors: np.ndarray, k: int, exact_below: int, seed: int) -> Neighbors:
    """The k nearest other items of each row of `vectors`, (N + 1, d) with padding in row 0.

    Rows of zeros are neither asked for nor found. Of equal cosines the lower id comes first; where
    more than WIDEST different vectors are tied at the k-th place, some WIDEST of them are ranked.
    """
    ids = np.zeros((len(vectors), k), np.int32)
    cosine = np.zeros((len(vectors), k), np.float32)
    items, unit = unit_rows(in_use(vectors))
    found = min(k, len(items) - 1)
    if found < 1:
        return Neighbors(ids, cosine, "none")
    exact = len(items) < exact_below
    search = exact_search(unit, found) if exact else approximate_search(unit, found, seed)
    places, scores = search.nearest(np.arange(len(items)), found)
    ids[items, :found] = np.where(places >= 0, items[places], 0)
    cosine[items, :found] = np.where(places >= 0, scores, 0)
    return Neighbors(ids, cosine, "exact" if exact else "ivf")


def exact_recall(vectors: np.ndarray, found: Neighbors, seed: int) -> float:
    """The share of true neighbours that an approximate search found, on a sample; 1 for exact."""
    if found.index != "ivf":
        return 1.0
    items, unit = unit_rows(in_use(vectors))
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(items), min(CHECKED, len(items)), replace=False))
    width = min(found.ids.shape[1], len(items) - 1)
    places, _ = exact_search(unit, width).nearest(rows, width)
    pairs = zip(items[places], found.ids[items[rows]], strict=True)
    return float(np.mean([np.isin(true, given).mean() for true, given in pairs]))


def in_use(vectors: np.ndarray) -> np.ndarray:
    """(N + 1, c) of (N + 1, d): the columns that are not zero of every item. Cosines are the same,
    and the recipe `align` fills some twenty of 128."""
    return vectors[:, vectors.any(axis=0)]


def unit_rows(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) of the items that have a vector, and their vectors (n, d) at unit length."""
    items = np.flatnonzero(vectors[1:].any(axis=1)) + 1
    rows = vectors[items].astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return items, unit.astype(np.float32)


def offered_rows(unit: np.ndarray, k: int) -> np.ndarray:
    """Rows of `unit` (n, d) among which the k nearest others of every row are, ascending.

    Of equal vectors the k + 1 first, since each comes before the others: where few directions are
    left, few rows are searched.
    """
    _, group = np.unique(unit, axis=0, return_inverse=True)  # (n,)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))  # of each group's rows in `order`
    rank = np.arange(len(unit)) - starts[group[order]]
    return np.sort(order[rank <= k])


@dataclass(frozen=True)
class Search:
    """Searches of an index; places are rows of `unit` (n, d)."""

    index: faiss.Index
    """Over the rows `offered` (m,) of `unit`."""
    unit: np.ndarray
    offered: np.ndarray
    widest: int
    """The most candidates a row; an exact search widens up to it where a tie crosses the cut."""

    def nearest(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest other rows of each of `rows`: places (q, k), -1 for none, and cosines."""
        return self._within(rows, k, min(k + 1 + SPARE, len(self.offered)))

    def _within(
        self, rows: np.ndarray, k: int, width: int, hidden: bool | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A bar is over the rows, `hidden` where they are a part of others."""
        found = []
        with tqdm(
            total=len(rows), desc="nearest items", unit="item", leave=False, disable=hidden
        ) as bar:
            for chunk in np.array_split(rows, -(-len(rows) * width // CANDIDATES)):
                found.append(self._chunk(chunk, k, width))
                bar.update(len(chunk))
        return np.concatenate([p for p, _ in found]), np.concatenate([c for _, c in found])

    def _chunk(self, rows: np.ndarray, k: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        places, cosine = self._candidates(rows, width)
        least = np.where(places < 0, np.inf, cosine).min(axis=1)
        cut = np.flatnonzero(cosine[:, k - 1] - least < TIE)
        places, cosine = places[:, :k], cosine[:, :k]
        if len(cut) and width < self.widest:
            # Which of the tied rows were candidates was left to faiss: ask for more of them.
            places[cut], cosine[cut] = self._within(
                rows[cut], k, min(4 * width, self.widest), hidden=True
            )
        return places, cosine

    def _candidates(self, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """`width` places of each row, best first; the row itself comes last, as -1."""
        _, found = self.index.search(self.unit[rows], width)
        places = np.where(found < 0, -1, self.offered[found])
        cosine = np.einsum("qd,qwd->qw", self.unit[rows], self.unit[places]).clip(-1, 1)
        none = (places == rows[:, None]) | (places < 0)
        places[none], cosine[none] = -1, -np.inf
        order = np.lexsort((places, -cosine))
        return np.take_along_axis(places, order, 1), np.take_along_axis(cosine, order, 1)


def exact_search(unit: np.ndarray, k: int) -> Search:
    """For the k nearest rows and no more."""
    offered = offered_rows(unit, k)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit[offered])
    return Search(_on_gpu(index), unit, offered, min(len(offered), WIDEST))


def approximate_search(unit: np.ndarray, k: int, seed: int) -> Search:
    """Likewise by an inverted file of about 4 sqrt(n) lists, of which a sixteenth are probed."""
    offered = offered_rows(unit, k)
    rows = unit[offered]
    lists = max(1, min(int(4 * len(rows) ** 0.5), len(rows) // 39))
    quantizer = faiss.IndexFlatIP(unit.shape[1])
    index = faiss.IndexIVFFlat(quantizer, unit.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed
    index.train(rows)
    index.add(rows)
    index.nprobe = max(8, lists // 16)
    return Search(_on_gpu(index), unit, offered, 0)


def searching_gpus() -> int:
    """GPUs that faiss knows, of which the first one searches."""
    return faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0


def _gpu() -> bool:
    return searching_gpus() > 0


def _on_gpu(index: faiss.Index) -> faiss.Index:
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index) if _gpu() else index
