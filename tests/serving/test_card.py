"""The model card, as the Hugging Face hub's own client reads it; without a network."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    RepoCard,
)

from pipeline.common.files import read_json
from serving.card import METRICS, card
from tests.serving.packaged import FOLDER, KINDS, files_in
from tests.support.worlds.tiny_world import ITEMS, TRAIN_ROWS, USERS

STATS = {
    "settings": {"source": "sample"},
    "rows_train": 1_200_000,
    "users": 1000,
    "items": 91_717,
}
TRAINED: dict[str, Any] = {
    "auc": 0.87654321,
    "gauc": 0.75,
    "logloss": 0.5,
    "best_epoch": 3,
    "epochs": 5,
    "parameters": 31_000_000,
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object) -> None:
        raise AssertionError("no network is asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)


def front(read: RepoCard) -> ModelCardData:
    assert isinstance(read.data, ModelCardData)
    return read.data


def results(read: RepoCard) -> list[EvalResult]:
    found = front(read).eval_results
    assert found is not None
    return found


def described(model: str) -> dict[str, Any]:
    return {"model": model, "train": {"model": model, "seed": 3}}


def blocks(text: str, language: str) -> list[str]:
    """Of code in that language."""
    parts = text.split("```")[1::2]
    return [part.removeprefix(f"{language}\n") for part in parts if part.startswith(language)]


def test_the_client_reads_what_was_measured(world: Path) -> None:
    read = ModelCard.load(world / FOLDER / "README.md")
    data = front(read)
    model = read_json(world / FOLDER / "config.json")["model"]
    metrics = read_json(world / "metrics/train/main.json")
    measured = {result.metric_type: result.metric_value for result in results(read)}
    assert measured == {name: pytest.approx(metrics[name], abs=1e-6) for name in METRICS}
    assert {result.dataset_name for result in results(read)} == {"the embedded sample"}
    assert data.model_name == model
    assert data.library_name == "mmctr"
    assert data.license == "other"
    assert data.tags is not None
    assert model in data.tags
    assert f"# {model}: click probabilities on the embedded sample" in read.text
    assert f"{TRAIN_ROWS} rows of train, {USERS} users, {ITEMS} items" in read.text


@pytest.mark.parametrize("model", ["qin", "transformer_dcn", "lightgbm"])
def test_the_text_says_the_same(model: str) -> None:
    text = card(described(model), STATS, TRAINED)
    assert "| epoch 3 of 5 | 0.8765 | 0.7500 | 0.5000 |" in text
    assert "1,200,000 rows of train, 1,000 users, 91,717 items" in text
    assert "31,000,000 parameters" in text
    assert "{" not in text.replace(blocks(text, "json")[0], "")
    assert "value: 0.876543\n" in text


def test_the_settings_are_those_of_the_training(world: Path) -> None:
    """But sizes of other kinds of model."""
    (block,) = blocks((world / FOLDER / "README.md").read_text(), "json")
    train = read_json(world / FOLDER / "config.json")["train"]
    assert json.loads(block) == {
        name: value
        for name, value in train.items()
        if name not in {"transformer_dcn", "lightgbm"} - {train["model"]}
    }


def test_the_example_is_code(qin: Path) -> None:
    text = (qin / FOLDER / "README.md").read_text()
    (code,) = blocks(text, "python")
    names: dict[str, Any] = {}
    compile(code, "README.md", "exec")
    first, _, loaded = code.strip().partition("\n")
    exec(first, names)
    assert "Scorer.load" in loaded
    assert names["Scorer"].load(qin / FOLDER).rank(history=[12, 7, 99], k=10)


def test_a_metric_that_there_is_not() -> None:
    text = card(described("qin"), STATS, TRAINED | {"gauc": None})
    assert [result.metric_type for result in results(ModelCard(text))] == ["auc", "logloss"]
    assert "| 0.8765 | none | 0.5000 |" in text


def test_a_folder_of_ones_own_is_not_named() -> None:
    stats = STATS | {"settings": {"source": "/home/her/own_clicks"}}
    text = card(described("qin"), stats, TRAINED)
    assert "own_clicks" not in text
    assert {result.dataset_type for result in results(ModelCard(text))} == {"own"}


class Hub(HfApi):
    """What would be committed."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: list[CommitOperationAdd] = []
        self.checked: list[str] = []

    def create_commit(self, *_arguments: Any, operations: Any, **_more: Any) -> Any:  # type: ignore[override]
        self.committed += operations

    def _validate_yaml(self, content: str, **_more: Any) -> None:
        """The hub would be asked."""
        self.checked.append(content)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_folder_is_uploaded(
    packaged: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its commit of one step: the other one is a service of the hub."""
    monkeypatch.setattr("huggingface_hub.hf_api.is_xet_available", lambda: False)
    folder, hub = shutil.copytree(packaged(kind) / FOLDER, tmp_path / "main"), Hub()
    hub.upload_folder(repo_id="somebody/model", folder_path=folder)
    assert {operation.path_in_repo for operation in hub.committed} == files_in(folder)
    for operation in hub.committed:
        with operation.as_file() as file:
            assert file.read() == (folder / operation.path_in_repo).read_bytes()
    assert hub.checked == [(folder / "README.md").read_text()]
