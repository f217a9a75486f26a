import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState

from ctr.engine.machine import open_accelerator
from pipeline.common.files import InputError
from pipeline.common.launch import (
    gathered,
    gpu_or_cpu,
    open_processes,
    refuse_lost_processes,
    refuse_separate_storage,
    tell_device,
    told_by_main,
    unused_gpu,
    use_all_cores,
)
from tests.support.worlds.started import start_by

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


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("launcher", ["1", "", None])
def test_all_available_cores_despite_the_launcher(
    launcher: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.common.launch.available_cores", lambda: 7)
    start_by(monkeypatch, "accelerate launch x.py")
    if launcher is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", launcher)
    use_all_cores()
    assert torch.get_num_threads() == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    use_all_cores()
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    use_all_cores()
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
@pytest.mark.parametrize("own", ["1", "3", "4,2"])
def test_the_users_own_number_of_threads_is_kept(
    own: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.common.launch.available_cores", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the launcher leaves it in any case
    start_by(monkeypatch, "accelerate launch x.py", **{name: own})
    torch.set_num_threads(5)
    use_all_cores()
    assert torch.get_num_threads() == 5


@pytest.mark.usefixtures("plain")
def test_params_yaml_alone_decides_how_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_USE_CPU": "true",
    }.items():
        monkeypatch.setenv(name, value)
    accelerator = open_accelerator("train", "no")
    assert accelerator.mixed_precision == "no"
    assert accelerator.gradient_accumulation_steps == 1
    assert accelerator.state.dynamo_plugin.backend.value == "NO"


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("device", "precision", "processes", "expected"),
    [
        ("cpu", "no", 1, "train: on 2 threads of a CPU (AVX2), fp32"),
        ("cpu", "bf16", 2, "train: on 2 processes of 2 threads each of a CPU (AVX2), bf16"),
        ("cuda", "bf16", 1, "train: on NVIDIA H100, bf16"),
        ("cuda", "tf32", 4, "train: on 4 GPUs: NVIDIA H100, tf32"),
    ],
)
def test_a_stage_tells_what_it_runs_on(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
    precision: str,
    processes: int,
    expected: str,
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _device: "NVIDIA H100")
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("pipeline.common.launch.has_nvidia_gpu", lambda: False)
    with caplog.at_level(logging.INFO):
        tell_device("train", torch.device(device), precision, processes)
        assert caplog.messages == [expected]
        monkeypatch.setenv("RANK", "1")
        tell_device("train", torch.device(device), precision, processes)
        assert caplog.messages == [expected]


@pytest.mark.usefixtures("plain")
def test_a_gpu_that_torch_cannot_use_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("pipeline.common.launch.has_nvidia_gpu", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with caplog.at_level(logging.WARNING):
        tell_device("train", torch.device("cpu"), "no")
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith(
        "a GPU is there, but the installed torch, built for CUDA 13.0, cannot use it; most likely "
        "its driver is too old"
    )
    monkeypatch.setattr("torch.version.cuda", None)
    assert unused_gpu() == "a GPU is there, but the installed torch is built for CPUs alone"
    for name, value in (("CUDA_VISIBLE_DEVICES", ""), ("ACCELERATE_USE_CPU", "true")):
        with monkeypatch.context() as users:
            users.setenv(name, value)
            assert unused_gpu() is None
    monkeypatch.setattr("pipeline.common.launch.has_nvidia_gpu", lambda: False)
    assert unused_gpu() is None


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
    monkeypatch.setattr("pipeline.common.launch.gathered", lambda own: [own, *others])
    refuse_separate_storage(tmp_path)
    with pytest.raises(InputError, match="storage that all of them share"):
        refuse_separate_storage(tmp_path / "missing")
    others[0] = False
    with pytest.raises(InputError, match="storage that all of them share"):
        refuse_separate_storage(tmp_path)
