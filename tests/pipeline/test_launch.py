import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState

from pipeline.launch import (
    available_cores,
    gathered,
    gpu_or_cpu,
    open_processes,
    refuse_lost_processes,
    refuse_separate_storage,
    told_by_main,
    use_all_cores,
)
from pipeline.schema import InputError

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.mark.parametrize(
    "launch",
    ["--multi_gpu --num_processes 2", "--num_processes=2", "--num-processes 2 --gpu_ids 0,1"],
)
def test_lost_processes_are_refused_within_dvc(
    launch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_lost_processes("train", 1, launch)  # by hand, anyone may start what they like
    monkeypatch.setenv("DVC_STAGE", "embed_text")
    message = r"embed_text\.launch asks for 2 processes, accelerate started 1"
    with pytest.raises(InputError, match=message):
        open_processes("embed_text", launch)


@pytest.mark.parametrize("launch", ["", "--num_processes 2", "--num_processes=2 --gpu_ids 0,1"])
def test_a_launch_that_got_what_it_asked_for(launch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    refuse_lost_processes("train", 2, launch)


@pytest.mark.parametrize("launcher", ["1", "", None])
def test_all_available_cores_despite_the_launcher(
    launcher: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.launch.available_cores", lambda: 7)
    if launcher is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", launcher)
    use_all_cores()
    assert torch.get_num_threads() == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    use_all_cores()
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    use_all_cores()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("own", ["3", "4,2"])
def test_the_users_own_number_of_threads_is_kept(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", own)
    torch.set_num_threads(5)
    use_all_cores()
    assert torch.get_num_threads() == 5


def test_available_cores_are_those_of_this_process_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert available_cores() == 9


def test_a_device_that_cuda_does_not_know_counts_as_the_cpu() -> None:
    for found, expected in (("cuda:3", "cuda:3"), ("mps", "cpu"), ("cpu", "cpu")):
        state = SimpleNamespace(device=torch.device(found))
        assert gpu_or_cpu(state) == torch.device(expected)


def test_what_the_main_process_says_in_a_launch_of_one() -> None:
    state = PartialState(cpu=True)
    assert told_by_main(state, lambda: [1, 2]) == [1, 2]
    assert gathered("own") == ["own"]

    def refuse() -> None:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        told_by_main(state, refuse)


def test_storage_that_only_some_processes_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [True]
    monkeypatch.setattr("pipeline.launch.gathered", lambda own: [own, *others])
    refuse_separate_storage(tmp_path)
    with pytest.raises(InputError, match="storage that all of them share"):
        refuse_separate_storage(tmp_path / "missing")
    others[0] = False
    with pytest.raises(InputError, match="storage that all of them share"):
        refuse_separate_storage(tmp_path)
