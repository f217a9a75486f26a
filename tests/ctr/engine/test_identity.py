"""A run is known again by all that its result depends on, and by no more."""

from typing import Any

import pytest

from ctr import train
from pipeline.settings.ctr.train import Train
from tests.support.worlds.tiny_world import tiny_params


@pytest.mark.usefixtures("cpu", "world")
@pytest.mark.parametrize("model", ["qin", "transformer_dcn", "lightgbm"])
def test_its_result_depends_on_every_setting_that_it_reads(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the result of the last run would be taken for that of another setting."""
    settings = tiny_params(model=model, epochs=1).train
    read: set[str] = set()

    def note(self: Train, name: str) -> Any:
        if name in Train.model_fields:
            read.add(name)
        return object.__getattribute__(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(Train, "__getattribute__", note)
        train.main(settings)
    assert {"model", "features", "seed"} <= read
    assert read <= {*settings.deciding(), "checkpoint_minutes", "launch", "residence"}


def test_what_other_models_read_does_not_decide() -> None:
    found = {
        name: set(tiny_params(model=name).train.deciding())
        for name in ("qin", "transformer_dcn", "lightgbm")
    }
    own = {"attention_dim", "layers", "rows", "collapsed"}
    assert found["qin"] - found["transformer_dcn"] == own
    assert found["transformer_dcn"] - found["qin"] == {"transformer_dcn"}
    assert found["lightgbm"] == {"model", "features", "lightgbm", "new_targets", "seed"}
    assert {"learning_rate", "dropout", "epochs"} < found["qin"] & found["transformer_dcn"]
    trees = tiny_params(model="lightgbm").train
    read = {"levels", "companions", "contrast", "target", "profile", "similarity"}
    assert set(trees.deciding()["features"]) == read
