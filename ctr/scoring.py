"""Logits for all rows of a split, over however many processes there are."""

import os

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ctr.data import ClickLog
from ctr.qin import ItemTable
from pipeline.schema import InputError


@torch.inference_mode()
def score(
    model: nn.Module, clicks: ClickLog, items: ItemTable, batch_size: int, accelerator: Accelerator
) -> Tensor:
    """Logits, float32 (n,) on the host, in row order and the same in every process.

    Each process scores one consecutive share; no row is scored twice or lost. Leaves `model` in
    evaluation mode.
    """
    model.eval()
    shares = torch.arange(len(clicks)).tensor_split(accelerator.num_processes)
    logits = [
        model(clicks.batch(rows, accelerator.device)[0], items).float()
        for rows in shares[accelerator.process_index].split(batch_size)
    ]
    longest = len(shares[0])
    share = torch.zeros(longest, device=accelerator.device)
    mine = torch.cat(logits)
    share[: len(mine)] = mine
    gathered = accelerator.gather(share).view(len(shares), longest).cpu()
    return torch.cat([row[: len(rows)] for row, rows in zip(gathered, shares, strict=True)])


def open_accelerator(section: str, mixed_precision: str) -> Accelerator:
    """Raises InputError for fp16 on a CPU, which accelerate would run in fp32 without a word."""
    accelerator = Accelerator(mixed_precision=mixed_precision)
    if mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError(
            f"params.yaml: {section}.mixed_precision is fp16, which needs a GPU; "
            "set it to bf16 or no"
        )
    return accelerator


def use_all_cores() -> None:
    """Undo the launcher's limit of one thread a process on a CPU, unless the user set another."""
    if os.environ.get("OMP_NUM_THREADS", "1") not in ("", "1"):
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, available_cores() // processes))


def available_cores() -> int:
    """Cores this process may run on; on a system that does not tell (macOS), all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
