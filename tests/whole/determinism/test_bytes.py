"""The same seed, versions and number of threads give the same bytes, wherever and whenever."""

import shutil
from pathlib import Path

import pytest
import torch

from ctr.engine.machine import deterministic_algorithms
from pipeline.common import paths
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.support.clone import HERE, Clone
from tests.support.references.run import ReferenceRun
from tests.support.stage_processes import StageProcesses
from tests.support.worlds.tiny_world import contents, tiny_params, write_params, write_world

OUTPUTS = [
    *(paths.companions_path(split) for split in paths.SPLITS),
    paths.COMPANIONS,
    paths.ROW_FEATURES,
    paths.metrics_path("companions"),
    paths.MAIN.weights,
    paths.MAIN.config,
    paths.MAIN.curve,
    paths.MAIN.metrics,
    *(paths.logits_path("main", split) for split in ("valid", "test")),
    paths.BLEND_METRICS,
    paths.predictions_path("valid"),
    paths.predictions_path("test"),
]
IMPORTED = ("ctr.boosting.model", "ctr.engine.machine", "ctr.engine.loop", "torch._dynamo")
ELSEWHERE = {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "COLUMNS": "40"}
HERE_AND_NOW = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}


def trained(
    folder: Path, surroundings: dict[str, str], *, deterministic: bool
) -> dict[Path, bytes]:
    """What the stages write on a tiny world in `folder`, in processes of their own."""
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write_world()
        params = tiny_params(epochs=3, deterministic=deterministic).model_dump()
        write_params(Params.model_validate(params | {"models": {"main": {}}}))
        shutil.rmtree("companions")
        with StageProcesses(*IMPORTED, **surroundings) as processes:
            for stage in ("ctr.companions", "ctr.train", "ctr.predict", "ctr.blend"):
                processes.finish(stage)
        found = contents(OUTPUTS)
    found[paths.MAIN.config] = b""  # it tells whether `deterministic` was set
    return found


def test_surroundings_change_nothing(tmp_path: Path) -> None:
    """Nor does `train.deterministic`, on a CPU."""
    found = trained(tmp_path / "here", HERE_AND_NOW, deterministic=False)
    again = trained(tmp_path / "a folder/é", ELSEWHERE, deterministic=True)
    assert found == again
    print(f"{sum(map(len, found.values())):,} bytes compared")


def test_what_torch_cannot_repeat_is_named() -> None:
    x = torch.zeros(3)
    with (
        pytest.raises(InputError, match=r"train\.deterministic is true, but put_.*set it to false"),
        deterministic_algorithms(True),
    ):
        x.put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_algorithms(False):
        x.put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_sample_twice(tmp_path: Path) -> None:
    """Every output of every stage."""
    found = []
    for name, surroundings in (("one", HERE_AND_NOW), ("two", ELSEWHERE)):
        clone = Clone(tmp_path / name / "clone", HERE)
        clone.environment |= surroundings
        found.append(ReferenceRun(clone, tmp_path / name / "logs"))
    first, second = found
    assert first.outputs == second.outputs
    files = [first.clone.folder / path for outs in first.outputs.values() for path in outs]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files):,} bytes compared")
