"""Small splits of random rows, and items for them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import strategies as st

from ctr.covisitation.describe import Describer
from ctr.covisitation.tallied import of_items, write_pairs
from ctr.covisitation.tallies import PAIR_FILES, Tallies
from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split

ITEMS = 9
"""Padding not counted; the last one is nowhere."""
SECTION = Companions(
    enabled=True,
    window=5,
    within=2,
    decay=0.7,
    smoothing=1.5,
    shrinkage=0.4,
    prior=2.0,
    folds=3,
    kept=4,
    tallies=True,
    seed=7,
)


def changed(**changes: float) -> Companions:
    """SECTION, otherwise in some settings."""
    return Companions.model_validate(SECTION.model_dump() | changes)


def made_up(seed: int, rows: int = 40, history: int = 6, users: int = 7) -> Split:
    """Histories of every length, in which items come twice; users' ids have gaps."""
    rng = np.random.default_rng(seed)
    items = rng.integers(1, ITEMS, (rows, history))
    items[np.arange(history) < rng.integers(0, history + 1, (rows, 1))] = 0
    target, levels = rng.integers(1, ITEMS, rows), np.zeros((rows, 2))
    label, user = rng.integers(0, 2, rows), 3 * rng.integers(1, users + 1, rows) + 5
    return Split(np.column_stack([items, target, levels, label, user]).astype(np.int32))


def tables(seed: int, tags: int = 3, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Tags (N + 1, 3), of which item 2 has none, and unit vectors, of which item 3 has none."""
    rng = np.random.default_rng(seed)
    of_item = rng.integers(0, tags + 1, (ITEMS + 1, 3))
    vectors = rng.normal(size=(ITEMS + 1, width))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    of_item[[0, 2]], unit[[0, 3]] = 0, 0
    return of_item.astype(np.int32), unit


def tallied(describer: Describer) -> Tallies:
    """As they are written and read, of all items."""
    with TemporaryDirectory() as folder:
        path = Path(folder).joinpath
        starts = write_pairs(path, map(describer.pairs_of, range(ITEMS + 1)))
        pairs = {name: np.load(path(name)) for name in PAIR_FILES}
    return Tallies.of_files(starts | of_items(describer, ITEMS + 1), pairs)


splits = st.builds(
    made_up,
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    history=st.integers(1, 8),
    users=st.integers(1, 9),
)
