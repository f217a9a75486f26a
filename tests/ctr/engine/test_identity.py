"""A run is known again by all that its result depends on, and by no more."""

import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from ctr import train
from pipeline.settings.ctr.train import Train
from pipeline.settings.ctr.training import Features
from tests.support.worlds.tiny_world import tiny_params

MODELS = get_args(Train.model_fields["model"].annotation)
OPENED: list[str] | None = None
"""Filled with the files that are opened, while it is a list: Python forgets no audit hook."""


def note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED is not None and event == "open" and isinstance(arguments[0], str):
        OPENED.append(arguments[0])


sys.addaudithook(note_opened)


@pytest.mark.usefixtures("cpu", "world")
@pytest.mark.parametrize("model", MODELS)
def test_its_result_depends_on_every_setting_that_it_reads(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the result of the last run would be taken for that of another setting."""
    settings = tiny_params(model=model, epochs=1).train
    read: dict[type, set[str]] = {Train: set(), Features: set()}

    def noting(section: type, fields: Any) -> Any:
        def note(self: Any, name: str) -> Any:
            if name in fields:
                read[section].add(name)
            return object.__getattribute__(self, name)

        return note

    with monkeypatch.context() as patched:
        patched.setattr(Train, "__getattribute__", noting(Train, Train.model_fields))
        patched.setattr(Features, "__getattribute__", noting(Features, Features.model_fields))
        train.main(settings)
    deciding = settings.deciding()
    assert {"model", "features", "seed"} <= read[Train]
    assert read[Train] <= {*deciding, "checkpoint_minutes", "launch", "residence"}
    assert "levels" in read[Features]
    assert read[Features] <= set(deciding["features"])


@pytest.mark.parametrize("model", MODELS)
def test_its_result_depends_on_every_file_that_it_reads(
    model: str, world: Path, cpu: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise; the digests of items that stand beside a model are written anew in any case."""
    del cpu
    for module in ("ctr.models.architecture", "ctr.boosting.model"):
        monkeypatch.setattr(f"{module}.item_digests", dict)
    monkeypatch.setattr("ctr.engine.identity.scratch.file_sha256", lambda _: "")
    opened: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "OPENED", opened)
    train.main(tiny_params(model=model, epochs=1).train)
    files = {Path(name) for name in opened if (world / name).is_file()}
    inputs = {
        path.relative_to(world) if path.is_absolute() else path
        for path in files
        if path.suffix in (".npy", ".npz", ".json") and "scratch" not in path.parts
    }
    known = train.TREE_INPUTS if model == "lightgbm" else train.INPUTS
    written = {path for path in inputs if path.parts[0] in ("models", "metrics")}
    assert len(inputs - written) > 3
    assert inputs - written <= set(known)


def test_what_other_models_read_does_not_decide() -> None:
    found = {name: set(tiny_params(model=name).train.deciding()) for name in MODELS}
    own = {"attention_dim", "layers", "rows", "collapsed"}
    assert found["qin"] - found["transformer_dcn"] == own
    assert found["transformer_dcn"] - found["qin"] == {"transformer_dcn"}
    assert found["lightgbm"] == {"model", "features", "lightgbm", "new_targets", "seed"}
    assert {"learning_rate", "dropout", "epochs"} < found["qin"] & found["transformer_dcn"]
    trees = tiny_params(model="lightgbm").train
    read = {"levels", "companions", "contrast", "target", "profile", "similarity"}
    assert set(trees.deciding()["features"]) == read


def test_on_a_model_that_is_new_every_setting_decides() -> None:
    settings = tiny_params().train.model_copy(update={"model": "mine"})
    left_out = {"checkpoint_minutes", "launch", "residence"}
    assert set(settings.deciding()) == set(Train.model_fields) - left_out
