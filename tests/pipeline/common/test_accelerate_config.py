"""How dvc.yaml launches, whatever another project has configured Accelerate to do."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands import launch
from accelerate.commands.config import config_args
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from pipeline.common import guard
from tests.support.code.graph import graph

ROOT = Path(__file__).resolve().parents[3]
COMMON: dict[str, Any] = {
    "compute_environment": "LOCAL_MACHINE",
    "debug": False,
    "distributed_type": "NO",
    "downcast_bf16": "no",
    "enable_cpu_affinity": False,
    "machine_rank": 0,
    "main_training_function": "main",
    "mixed_precision": "no",
    "num_machines": 1,
    "num_processes": 1,
    "rdzv_backend": "static",
    "same_network": True,
    "tpu_env": [],
    "tpu_use_cluster": False,
    "tpu_use_sudo": False,
    "use_cpu": False,
}
"""As `accelerate config` writes it."""
DEEPSPEED = {"gradient_accumulation_steps": 4, "zero3_init_flag": False, "zero_stage": 2}
FSDP = {"fsdp_version": 2, "fsdp_offload_params": True, "fsdp_reshard_after_forward": True}
CONFIGS: dict[str, dict[str, Any]] = {
    "deepspeed": {
        "distributed_type": "DEEPSPEED",
        "deepspeed_config": DEEPSPEED,
        "mixed_precision": "fp16",
        "num_processes": 4,
    },
    "fsdp": {"distributed_type": "FSDP", "fsdp_config": FSDP, "num_processes": 4},
    "gpus": {"distributed_type": "MULTI_GPU", "num_processes": 4, "gpu_ids": "0,1,2,3"},
    "machines": {
        "distributed_type": "MULTI_GPU",
        "num_machines": 2,
        "num_processes": 8,
        "machine_rank": 1,
        "main_process_ip": "10.0.0.1",
        "main_process_port": 29511,
    },
    "bf16": {
        "mixed_precision": "bf16",
        "downcast_bf16": "yes",
        "dynamo_config": {"dynamo_backend": "INDUCTOR", "dynamo_mode": "max-autotune"},
    },
    "cpu": {"distributed_type": "MULTI_CPU", "use_cpu": True, "num_processes": 4},
    "debug": {"debug": True, "enable_cpu_affinity": True},
}
STAGES = graph()
LAUNCHED = sorted(stage for stage in STAGES if "launch" in STAGES[stage]["cmd"])
LAUNCHES = ("--num_processes 1", "--num_processes 4 --multi_gpu", "--num_processes 1 --cpu")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own configuration file, which is not there."""
    file = tmp_path / "default_config.yaml"
    monkeypatch.chdir(ROOT)
    for module in (launch, config_args):
        monkeypatch.setattr(module, "default_config_file", str(file))
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    return file


def started(stage: str, flags: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment with which the stage's processes are started."""
    words = shlex.split(STAGES[stage]["cmd"].replace(LAUNCHES[0], flags))
    command = guard.command_of(words[words.index(guard.__name__) + 1 :])
    if command[0] == "python":
        return command, {}
    args = launch.launch_command_parser().parse_args(command[1:])
    args, _, _ = launch._validate_launch_command(args)
    ways = (args.use_deepspeed, args.use_fsdp, args.use_megatron_lm, args.tpu)
    assert ways == (False,) * 4
    if args.multi_gpu:
        environment = prepare_multi_gpu_env(args)
        return [args.nproc_per_node, str(args.num_machines)], environment
    return prepare_simple_launcher_cmd_env(args)


@pytest.mark.parametrize("flags", LAUNCHES)
@pytest.mark.parametrize("config", CONFIGS)
def test_it_changes_nothing_of_a_stage(home: Path, config: str, flags: str) -> None:
    stages = LAUNCHED if config == "deepspeed" else ["train"]
    expected = {stage: started(stage, flags) for stage in stages}
    home.write_text(json.dumps(COMMON | CONFIGS[config]))
    assert {stage: started(stage, flags) for stage in stages} == expected
    command, environment = expected["train"]
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    assert environment["ACCELERATE_DYNAMO_BACKEND"] == "NO"
    assert "ACCELERATE_USE_FSDP" not in environment
    if "multi_gpu" in flags:
        assert command == ["4", "1"]
    else:
        assert command[-4:] == ["-m", "ctr.train", "--model", "main"]
        assert environment["ACCELERATE_USE_CPU"] == str("--cpu" in flags)


def test_without_the_projects_own_file_it_would(home: Path) -> None:
    """The launcher does read the file of this test."""
    home.write_text(json.dumps(COMMON | CONFIGS["bf16"]))
    args = launch.launch_command_parser().parse_args(["--num_processes", "1", "ctr/train.py"])
    args, _, _ = launch._validate_launch_command(args)
    assert args.mixed_precision == "bf16"
    assert args.dynamo_backend == "INDUCTOR"


def test_one_process_is_started_without_the_launcher() -> None:
    words = ["--launch", "--num_processes", "1", "-m", "embed.text", "--model", "main"]
    assert guard.command_of(words) == ["python", "-m", "embed.text", "--model", "main"]


@pytest.mark.parametrize(
    "flags", ["--num_processes 2 --multi_gpu", "--num_processes 1 --gpu_ids 1"]
)
def test_several_processes_and_chosen_gpus_are_the_launchers(flags: str) -> None:
    words = [*flags.split(), "-m", "embed.text"]
    assert guard.command_of(["--launch", *words]) == [*guard.LAUNCHER, *words]
    assert guard.command_of(["python", "-m", "ctr.blend"]) == ["python", "-m", "ctr.blend"]
