"""The kernels, as Triton's interpreter runs them, beside the plain lines in float64; and that they
compile for a GPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ctr.models.kernels import plain_attention

triton = pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[3]
ROWS, ITEMS, DIM, LENGTH = 41, 13, 24, 37
"""A width that is no power of two, a history and items of more places than are read at a time, and
rows of every length from nothing to all."""
NAMES = ("t", "out", "table", "fold")
"""What is found: both outputs, and the gradients of the table and of the fold."""
COMPUTE = """
import torch
from benchmarks.gpu.history_kernel import kernel_attention
cases = torch.load("cases.pt")
for case in cases:
    table, fold = case["table"].requires_grad_(), case["fold"].requires_grad_()
    found = kernel_attention(case["target"], case["history"], table, fold)
    torch.autograd.backward(found, case["towards"])
    case["found"] = [*(each.detach() for each in found), table.grad, fold.grad]
torch.save([case["found"] for case in cases], "found.pt")
"""
BOUND = {torch.float32: 1e-6, torch.bfloat16: 2e-2}


def case(dtype: torch.dtype) -> dict[str, Any]:
    history = torch.randint(1, ITEMS, (ROWS, LENGTH), dtype=torch.int32)
    padded = torch.arange(LENGTH) < torch.arange(ROWS).unsqueeze(1) % (LENGTH + 1)
    return {
        "target": torch.randint(1, ITEMS, (ROWS,), dtype=torch.int32),
        "history": history.masked_fill(padded, 0),
        "table": torch.randn(ITEMS + 3, DIM).to(dtype),  # the last ones are in no history
        "fold": (torch.randn(DIM, DIM) / DIM**0.5).to(dtype),
        "towards": [torch.randn(ROWS, DIM).to(dtype) for _ in range(2)],
    }


def found(cases: list[dict[str, Any]], folder: Path) -> list[list[Tensor]]:
    """In a process of its own, since Triton reads the variable when it is imported."""
    torch.save(cases, folder / "cases.pt")
    own = {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMPUTE]
    subprocess.run(command, cwd=folder, env=os.environ | own, check=True)
    return list(torch.load(folder / "found.pt"))


def expected(case: dict[str, Any]) -> list[Tensor]:
    table, fold = (case[name].double().requires_grad_() for name in ("table", "fold"))
    out = plain_attention(case["target"], case["history"], table, fold)
    torch.autograd.backward(out, [each.double() for each in case["towards"]])
    assert table.grad is not None
    assert fold.grad is not None
    return [*(each.detach() for each in out), table.grad, fold.grad]


def test_they_compute_what_the_plain_lines_do(tmp_path: Path) -> None:
    torch.manual_seed(5)
    cases = [case(dtype) for dtype in BOUND]
    damaged = case(torch.float32)
    damaged["table"][3, 5] = float("nan")
    *sound, with_nan = found([*cases, damaged], tmp_path)
    for asked, each in zip(cases, sound, strict=True):
        dtype = asked["table"].dtype
        for name, ours, plain in zip(NAMES, each, expected(asked), strict=True):
            assert ours.dtype == dtype
            error = (ours.double() - plain).norm() / plain.norm()
            assert error < BOUND[dtype], (name, dtype)
        assert not each[2][[0, ITEMS, ITEMS + 1, ITEMS + 2]].any()  # nothing of padding's
    history = damaged["history"]
    read = (history == 3).any(1) | ((damaged["target"] == 3) & (history > 0).any(1))
    assert torch.equal(with_nan[1].isnan().any(1), read)


@pytest.mark.parametrize("name", ["pool", "read_back", "sum_of_item"])
def test_they_compile_for_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of compute capability 9.0, as H100 and H200 have it, at the published sizes."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from benchmarks.gpu import history_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {
        "query": "*bf16", "history": "*i32", "vectors": "*bf16", "gradient": "*bf16",
        "query_gradient": "*bf16", "scores": "*fp32", "towards": "*fp32", "places": "*i64",
        "starts": "*i64", "out": "*fp32" if name == "sum_of_item" else "*bf16", "length": "i32",
    }  # fmt: skip
    kernel = getattr(history_kernel, name)
    sizes = {"dim": 384, "width": 512, "step": history_kernel.PLACES}
    signature = {each: types.get(each, "constexpr") for each in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=sizes)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert made.asm["cubin"]
