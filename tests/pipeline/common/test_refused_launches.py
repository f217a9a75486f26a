"""Launches that are not what was asked for, and what is to be typed in their place."""

import pytest

from pipeline.common.files import InputError
from pipeline.common.launch import let_params_decide, refuse_lost_processes
from tests.support.worlds.started import start_by

pytestmark = pytest.mark.usefixtures("cpu")

NONE_GROUPED = "they form no group, since there is no GPU that torch can use; "


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("command", "world", "expected"),
    [
        (
            "torchrun --nproc_per_node 4 -m ctr.train",
            4,
            "4 processes were started, each of which would do all of the work: "
            f"{NONE_GROUPED}put ACCELERATE_USE_CPU=true before torchrun, and they share the work",
        ),
        (
            "accelerate launch --multi_gpu --num_processes 2 ctr/train.py",
            2,
            "2 processes were started, each of which would do all of the work: "
            f"{NONE_GROUPED}they share the work of a CPU with ACCELERATE_USE_CPU=true accelerate "
            "launch --num_processes 2 --multi_gpu ...; --num_processes 1 alone starts one",
        ),
        (
            "accelerate launch ctr/train.py",
            4,
            "4 processes were started, each of which would do all of the work: "
            f"{NONE_GROUPED}your Accelerate configuration, of another project, says so: "
            "accelerate launch --config_file pipeline/accelerate.yaml ... starts one",
        ),
        (
            "accelerate launch --cpu --num_processes 2 ctr/train.py",
            None,
            "several processes were asked for, and one was started, as accelerate does with --cpu, "
            "and without --multi_gpu; they share the work of a CPU with ACCELERATE_USE_CPU=true "
            "accelerate launch --num_processes 2 --multi_gpu ...; --num_processes 1 alone starts "
            "one",
        ),
    ],
)
def test_processes_that_form_no_group_are_told_what_to_type(
    monkeypatch: pytest.MonkeyPatch, command: str, world: int | None, expected: str
) -> None:
    start_by(monkeypatch, command)
    if world is not None:
        monkeypatch.setenv("LOCAL_RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", str(world))
    with pytest.raises(InputError) as refused:
        refuse_lost_processes("train", 1, "--num_processes 1")
    assert str(refused.value) == expected
    refuse_lost_processes("train", world or 2, "--num_processes 1")  # where they do form one


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("world", "why"),
    [
        ("2", "they form no group, since there is no GPU that torch can use"),
        (None, "accelerate started 1, as accelerate does with --cpu, and without --multi_gpu"),
    ],
)
def test_within_dvc_the_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, world: str | None, why: str
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    if world is not None:
        monkeypatch.setenv("LOCAL_RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(InputError) as refused:
        refuse_lost_processes("train", 1, "--num_processes 2 --multi_gpu")
    assert why in str(refused.value)
    assert str(refused.value).startswith("train.launch asks for 2 processes, accelerate started 1")
    assert str(refused.value).endswith(
        "in params.yaml set train.launch to --num_processes 1, or to --num_processes 2 --multi_gpu "
        "for several GPUs; with this, several share a CPU's work in ACCELERATE_USE_CPU=true dvc "
        "repro"
    )


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("variable", "strategy", "command", "exported", "remedy"),
    [
        (
            "ACCELERATE_USE_FSDP",
            "FSDP",
            "accelerate launch x.py",
            False,
            "your Accelerate configuration, of another project, says so: type accelerate launch "
            "--config_file pipeline/accelerate.yaml ...",
        ),
        (
            "ACCELERATE_USE_FSDP",
            "FSDP",
            "accelerate launch --use_fsdp x.py",
            False,
            "leave --use_fsdp out",
        ),
        (
            "ACCELERATE_USE_DEEPSPEED",
            "DeepSpeed",
            "accelerate launch x.py",
            True,
            "unset ACCELERATE_USE_DEEPSPEED",
        ),
        (
            "ACCELERATE_USE_MEGATRON_LM",
            "Megatron-LM",
            "torchrun x.py",
            True,
            "unset ACCELERATE_USE_MEGATRON_LM",
        ),
    ],
)
def test_strategies_that_no_stage_knows_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    strategy: str,
    command: str,
    exported: bool,
    remedy: str,
) -> None:
    start_by(monkeypatch, command, **({variable: "true"} if exported else {}))
    monkeypatch.setenv(variable, "true")
    with pytest.raises(InputError) as refused:
        let_params_decide()
    assert str(refused.value) == (
        f"accelerate was told to use {strategy}, which no stage does; {remedy}"
    )
    monkeypatch.setenv("DVC_STAGE", "train")
    with pytest.raises(InputError, match=r"take --use_\w+ out of the stage's `launch` in params"):
        let_params_decide()
    monkeypatch.setenv(variable, "false")
    let_params_decide()
