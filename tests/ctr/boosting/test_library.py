import logging
import subprocess
import sys
from typing import NoReturn

import pytest

from ctr import predict, train
from ctr.boosting import library as module
from ctr.boosting.library import tell, threads
from pipeline.common.files import InputError
from tests.support.worlds.tiny_world import REPOSITORY, tiny_params

PARAMS = tiny_params(
    lightgbm=tiny_params().train.lightgbm.model_dump() | {"trees": 5},
    models={"trees": {"model": "lightgbm"}},
)


def test_other_models_need_no_lightgbm() -> None:
    code = "import ctr.train, ctr.predict, sys; sys.exit('lightgbm' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


@pytest.mark.usefixtures("cpu", "world")
def test_without_it_one_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    train.main(PARAMS.ranking_model("trees"), "trees")
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    message = r"models.trees.model is lightgbm, which cannot be loaded: .*pip install lightgbm"
    with pytest.raises(InputError, match=message):
        train.main(PARAMS.ranking_model("trees"), "trees")
    with pytest.raises(InputError, match=message):
        predict.main(PARAMS.predict, "trees")


def test_a_library_of_the_system_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> NoReturn:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(module, "import_module", missing)
    message = r"train.model is .*libgomp.so.1: cannot open .* \(Debian: libgomp1, .* libomp\)"
    with pytest.raises(InputError, match=message):
        module.library("train")


@pytest.mark.usefixtures("cpu")
def test_it_tells_on_what_it_trains(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_nvidia_gpu", lambda: False)
    lightgbm = module.library("train")
    with caplog.at_level(logging.INFO):
        tell("train", lightgbm)
        monkeypatch.setattr(module, "has_nvidia_gpu", lambda: True)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
        assert threads() == 3
        tell("models.trees", lightgbm, processes=3)
    alone, beside = caplog.messages
    version = lightgbm.__version__
    assert alone.startswith("train: on 1 thread of a CPU (")
    assert alone.endswith(f"), LightGBM {version}")
    assert beside.startswith("models.trees: on 3 threads of a CPU (")
    assert beside.endswith(
        f"LightGBM {version}, which has no GPU's code; the other processes have nothing to do"
    )
