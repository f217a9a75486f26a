"""The kinds of model, as what scores candidates after one history.

Letters: L history, C candidates, F numbers of a row.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ctr.boosting.library import booster_of, library, threads
from ctr.models.architecture import model_of
from ctr.models.base import Clicks, CTRModel, ItemTable, items_read
from ctr.models.qin import QIN
from pipeline.settings.ctr.train import Train
from serving.folded import FoldedQIN
from serving.folder import CONFIG, TREES, WEIGHTS, Package, damaged, missing

ROWS_AT_A_TIME = 512
"""Candidates with their histories beside them: (B, L, D) tensors."""
BLOCK = 1024
"""Candidates that meet a history that was read: (B, X) tensors."""


class Rows(NamedTuple):
    """Candidates, each with what is known of it and of the history."""

    candidates: np.ndarray
    """int64 (C,), dense."""
    likes: np.ndarray
    """int64 (C,): their levels."""
    views: np.ndarray
    numbers: np.ndarray
    """float32 (C, F)"""

    def part(self, where: slice) -> "Rows":
        return Rows(*(column[where] for column in self))

    def tensors(self) -> list[Tensor]:
        return [torch.from_numpy(column) for column in self]


class Ranker(Protocol):
    def read(self, history: np.ndarray) -> Any:
        """`history` is int64 (L,), dense, the youngest last; what `logits` takes of it."""

    def logits(self, history: Any, rows: Rows) -> np.ndarray:
        """float32 (C,)."""


class Folded:
    """QIN, which reads a history once."""

    def __init__(self, model: QIN, items: ItemTable) -> None:
        self.model = FoldedQIN(model, items).eval()

    @torch.inference_mode()
    def read(self, history: np.ndarray) -> Any:
        return self.model.read(torch.from_numpy(history))

    @torch.inference_mode()
    def logits(self, history: Any, rows: Rows) -> np.ndarray:
        found = np.empty(len(rows.candidates), np.float32)
        for start in range(0, len(found), BLOCK):
            part = slice(start, start + BLOCK)
            found[part] = self.model.score(history, *rows.part(part).tensors()).numpy()
        return found


class Beside:
    """A model that reads the history beside every candidate, as in training."""

    def __init__(self, model: CTRModel, items: ItemTable, length: int) -> None:
        self.model, self.items, self.length = model, items, length
        with torch.inference_mode(), model.frozen():
            self.table = model.item_table(items)

    def read(self, history: np.ndarray) -> Any:
        padded = np.zeros(self.length, np.int64)
        padded[self.length - len(history) :] = history
        return torch.from_numpy(padded)

    @torch.inference_mode()
    def logits(self, history: Any, rows: Rows) -> np.ndarray:
        found = np.empty(len(rows.candidates), np.float32)
        with self.model.frozen():
            for start in range(0, len(found), ROWS_AT_A_TIME):
                part = slice(start, start + ROWS_AT_A_TIME)
                candidates, *rest = rows.part(part).tensors()
                clicks = Clicks(history.expand(len(candidates), -1), candidates, *rest)
                found[part] = self.model(clicks, self.items, self.table).numpy()
        return found


class Trees:
    """Boosted trees, which read numbers and levels alone."""

    def __init__(self, package: Package, *, levels: bool) -> None:
        path = package.path(TREES)
        try:
            self.booster = booster_of(library("models"), path)
        except FileNotFoundError:
            raise missing(path) from None
        except ValueError as error:
            raise damaged(path, error) from None
        self.levels = levels

    def read(self, history: np.ndarray) -> Any:
        return history

    def logits(self, history: Any, rows: Rows) -> np.ndarray:  # noqa: ARG002 - its numbers tell of it
        _, *levels, numbers = rows
        columns = np.column_stack([numbers, *(levels if self.levels else ())])
        found = self.booster.predict(columns, raw_score=True, num_threads=threads())
        return np.asarray(found, np.float32)


def ranker(package: Package, settings: Train) -> Ranker:
    """Raises InputError where the model's file is not there, or not what config.json says."""
    if settings.model == "lightgbm":
        return Trees(package, levels=settings.features.levels)
    arrays = {name: torch.from_numpy(array) for name, array in package.arrays.items()}
    items = items_read(settings.features, **arrays)
    path = package.path(WEIGHTS)
    if not path.is_file():
        raise missing(path)
    try:
        model = model_of(package.config, path)
    except (KeyError, TypeError) as error:  # of the sizes
        raise damaged(package.path(CONFIG), error) from None
    except Exception as error:  # safetensors and torch each have their own
        raise damaged(path, error) from None
    model.requires_grad_(False)
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise damaged(path, ValueError("some of its weights are not finite"))
    if isinstance(model, QIN):
        return Folded(model, items)
    return Beside(model, items, settings.history)
