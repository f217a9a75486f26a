"""The kinds of model, each against the files of its package."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch

from ctr.models.architecture import model_of
from ctr.models.base import Clicks, CTRModel, items_read
from pipeline.settings.ctr.train import Train
from serving import rankers
from serving.folder import Package, read_package
from serving.rankers import Beside, Folded, Ranker, Rows, Trees, ranker
from tests.serving.conftest import World
from tests.serving.packaged import FOLDER, KINDS
from tests.support.worlds.tiny_world import ITEMS, on_cpu

Loaded = Callable[[str], tuple[Ranker, Package, Train]]


@pytest.fixture(autouse=True)
def _cpu() -> Iterator[None]:
    with on_cpu():
        yield


@pytest.fixture
def loaded(packaged: World) -> Loaded:
    def load(kind: str) -> tuple[Ranker, Package, Train]:
        package = read_package(packaged(kind) / FOLDER)
        settings = Train.model_validate(package.config["train"])
        return ranker(package, settings), package, settings

    return load


def rows(numbers: int, count: int = 23) -> Rows:
    rng = np.random.default_rng(3)
    candidates, (likes, views) = rng.integers(1, ITEMS + 1, count), rng.integers(0, 11, (2, count))
    numbers_of_each = rng.normal(size=(count, numbers)).astype(np.float32)
    return Rows(candidates, likes, views, numbers_of_each)


def numbers_read(package: Package, settings: Train) -> int:
    kinds = package.numbers["kinds"]
    return sum(len(kinds[kind]) for kind in kinds if getattr(settings.features, kind))


def trained(package: Package, settings: Train) -> Callable[[np.ndarray, Rows], np.ndarray]:
    """The logits of the saved model, as in training: the history beside each candidate."""
    if settings.model == "lightgbm":
        booster = lightgbm.Booster(model_file=package.path("model.txt"))

        def of_trees(_: np.ndarray, asked: Rows) -> np.ndarray:
            read = [asked.likes, asked.views] if settings.features.levels else []
            return np.asarray(
                booster.predict(np.column_stack([asked.numbers, *read]), raw_score=True)
            )

        return of_trees
    arrays = {name: torch.from_numpy(array) for name, array in package.arrays.items()}
    items = items_read(settings.features, **arrays)
    model = model_of(package.config, package.path("model.safetensors")).eval()

    @torch.no_grad()
    def of_network(history: np.ndarray, asked: Rows) -> np.ndarray:
        padded = np.zeros((len(asked.candidates), settings.history), np.int64)
        padded[:, settings.history - len(history) :] = history
        candidates, *rest = asked.tensors()
        return model(Clicks(torch.from_numpy(padded), candidates, *rest), items).numpy()

    return of_network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 5])
def test_logits_are_the_saved_models(
    loaded: Loaded, kind: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever parts the candidates come in."""
    found, package, settings = loaded(kind)
    history = np.random.default_rng(length).integers(1, ITEMS + 1, length)
    asked = rows(numbers_read(package, settings))
    expected = trained(package, settings)(history, asked)
    for size in (1, 10, 23, 1000):
        monkeypatch.setattr(rankers, "BLOCK", size)
        monkeypatch.setattr(rankers, "ROWS_AT_A_TIME", size)
        logits = found.logits(found.read(history), asked)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    none = found.logits(found.read(history), asked.part(slice(0, 0)))
    assert none.shape == (0,)
    assert expected.std() > 1e-3


@pytest.mark.parametrize(
    ("kind", "expected"), [("qin", Folded), ("transformer_dcn", Beside), ("lightgbm", Trees)]
)
def test_which_model_is_scored_how(loaded: Loaded, kind: str, expected: type) -> None:
    assert isinstance(loaded(kind)[0], expected)


def test_qin_reads_a_history_once(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    found, package, settings = loaded("qin")
    assert isinstance(found, Folded)
    read: list[int] = []
    original = found.model.read

    def counted(items: torch.Tensor) -> Any:
        read.append(len(items))
        return original(items)

    monkeypatch.setattr(found.model, "read", counted)
    monkeypatch.setattr(rankers, "BLOCK", 4)
    found.logits(found.read(np.array([3, 1, 2])), rows(numbers_read(package, settings)))
    assert read == [3]


@pytest.mark.parametrize("kind", ["qin", "transformer_dcn"])
def test_a_network_is_loaded_to_be_asked_alone(
    loaded: Loaded, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No gradients, and no dropout."""
    models: list[CTRModel] = []

    def kept(*arguments: Any) -> CTRModel:
        models.append(model_of(*arguments))
        return models[0]

    monkeypatch.setattr(rankers, "model_of", kept)
    found, package, settings = loaded(kind)
    asked = rows(numbers_read(package, settings))
    for _ in range(2):
        found.logits(found.read(np.array([5])), asked)
    assert not any(parameter.requires_grad for parameter in models[0].parameters())
    assert not models[0].training


def test_columns_of_trees_without_levels(packaged: World, tmp_path: Path) -> None:
    """They are not read where the trees were not grown with them."""
    values = np.random.default_rng(1).normal(size=(200, 3))
    grown = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(values, (values[:, 1] > 0).astype(int)),
        num_boost_round=3,
    )
    grown.save_model(tmp_path / "model.txt")
    package = read_package(packaged("lightgbm") / FOLDER)._replace(folder=tmp_path)
    ones = np.ones(200, np.int64)
    asked = Rows(ones, ones, ones, values.astype(np.float32))
    found = Trees(package, levels=False).logits(None, asked)
    np.testing.assert_allclose(found, grown.predict(values, raw_score=True), rtol=1e-6)
    assert found.std() > 0.1
