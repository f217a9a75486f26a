"""A small world in the raw layout, its splits changed at will, and the real stages run on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ctr import companions, train
from ctr.engine import loop
from embed import align, encoder, fuse, image, neighbors, text, vlm
from pipeline import ingest
from pipeline.common import paths
from pipeline.common.paths import CLICKS
from pipeline.settings.params import Params, load_params
from pipeline.tables.split import Split
from sample.world import WorldConfig, build
from sample.write import write_raw
from tests.support.worlds.tiny_world import (
    REPOSITORY,
    TINY_ENCODER,
    TINY_SIZES,
    forget_accelerator,
    on_cpu,
    run_main,
)

CONTENT_STAGES = (encoder, text, image, vlm)
VECTOR_STAGES = (align, fuse, neighbors)
STAGES = (ingest, *CONTENT_STAGES, *VECTOR_STAGES, companions)
"""All that comes before `train`."""

SMALL = WorldConfig(
    items=60, users=40, topics=8, train_slates=5, history_median=40.0, history_longest=90
)
Change = Callable[[pa.Table, np.random.Generator], pa.Table]
"""Of a split's raw table."""


def small_params(source: Path, seed: int = 2025, **sections: Mapping[str, Any]) -> Params:
    """The repository's settings with tiny models on `source`, and `sections`' changes."""
    content = load_params(REPOSITORY / "params.yaml").model_dump()
    changes: dict[str, Mapping[str, Any]] = {
        "data": {"source": str(source)},
        "encoder": TINY_ENCODER | {"seed": seed},
        "embed_text": {"workers": 0},
        "embed_image": {"workers": 0},
        "align": {"dim": 4, "seed": seed},
        "neighbors": {"k": 5, "seed": seed},
        "companions": {"window": 20, "folds": 4, "kept": 5, "seed": seed},
        "train": TINY_SIZES | {"epochs": 3, "patience": 3, "seed": seed},
    }
    content["models"] = {"main": {}}
    for name, changed in [*changes.items(), *sections.items()]:
        content[name] |= changed
    return Params.model_validate(content)


def run_stages(folder: Path, stages: Iterable[ModuleType], params: Params) -> None:
    """Each stage's own `main`, in `folder`."""
    with on_cpu(), chdir(folder):
        for stage in stages:
            forget_accelerator()
            torch.manual_seed(99)  # no stage may depend on what ran before it
            run_main(stage, params)


def raw_world(folder: Path, seed: int, config: WorldConfig = SMALL) -> Path:
    """`folder` as a new world in the raw layout."""
    write_raw(build(config, seed), folder)
    return folder


def split_file(raw: Path, split: str) -> Path:
    return raw / CLICKS / f"{split}.parquet"


def change_splits(
    raw: Path, change: Change, seed: int = 0, splits: Sequence[str] = ("valid", "test")
) -> None:
    """Replace `splits` of `raw` by what `change` makes of them."""
    rng = np.random.default_rng(seed)
    for split in splits:
        path = split_file(raw, split)
        pq.write_table(change(pq.read_table(path), rng), path)


@dataclass(frozen=True)
class Run:
    """A world, and what the stages made of it."""

    raw: Path
    work: Path
    seed: int

    def params(self, **sections: Mapping[str, Any]) -> Params:
        return small_params(self.raw, self.seed, **sections)

    def stages(self, *stages: ModuleType, **sections: Mapping[str, Any]) -> None:
        run_stages(self.work, stages, self.params(**sections))

    def train(self, aucs: Iterable[float] | None = None, **settings: Any) -> None:
        """Stage `train`; `aucs` stand in for valid's, epoch by epoch, though it is scored."""
        with pytest.MonkeyPatch.context() as patch:
            if aucs is not None:
                script, real = iter(aucs), loop.evaluate
                patch.setattr(loop, "evaluate", lambda *args: real(*args) | {"auc": next(script)})
            self.stages(train, train=settings)

    def files(self) -> dict[str, bytes]:
        """All that the stages wrote, but for partial results."""
        files = (path for path in self.work.rglob("*") if path.is_file())
        named = {str(path.relative_to(self.work)): path for path in files}
        return {
            name: path.read_bytes()
            for name, path in sorted(named.items())
            if not name.startswith("scratch/")
        }


def cold_items(run: Run) -> np.ndarray:
    """Dense ids of items that train has nowhere, not even in a history."""
    rows = Split(np.load(run.work / paths.split_path("train")))
    items = np.arange(1, len(np.load(run.work / paths.TAGS)))
    return np.setdiff1d(items, np.union1d(rows.target, rows.history))
