"""The CPU's own passes against the plain lines that say what they compute."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from ctr.models import kernels
from ctr.models.kernels import (
    gate_sum,
    mean_of_tags,
    plain_attention,
    plain_gate_sum,
    relu_attention,
    residual_unit,
)
from ctr.models.layers import BatchNorm, Dropout, Masks


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def written_out(target: Tensor, history: Tensor, table: Tensor, fold: Tensor) -> Tensor:
    """(B, 2 D): both outputs of `relu_attention` beside each other."""
    t, vectors = table[target.long()], table[history.long()]  # (B, D), (B, L, D)
    scores = torch.relu((vectors * (t @ fold).unsqueeze(1)).sum(2)) * (history > 0)  # (B, L)
    return torch.cat([t, (scores.unsqueeze(2) * vectors).sum(1)], dim=1)


def both(target: Tensor, history: Tensor, table: Tensor, fold: Tensor) -> Tensor:
    return torch.cat(relu_attention(target, history, table, fold), dim=1)


def histories(batch: int, length: int, items: int) -> Tensor:
    """int32, of every length from nothing to all, some items twice."""
    ids = torch.randint(1, items, (batch, length), dtype=torch.int32)
    return ids.masked_fill(
        torch.arange(length) < torch.arange(batch).unsqueeze(1) % (length + 1), 0
    )


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_the_mean_of_tags_and_its_gradient(dtype: torch.dtype) -> None:
    tags = torch.tensor([[0, 0, 0], [3, 0, 0], [2, 3, 0], [2, 2, 5], [0, 5, 1]], dtype=dtype)
    weight = torch.randn(7, 4).double()
    weight[0] = 0
    ours, plain = leaves(weight), leaves(weight)
    real = [[tag for tag in row if tag] for row in tags.tolist()]
    means = [plain[0][row].sum(0) / max(len(row), 1) for row in real]
    found, expected = mean_of_tags(tags, ours[0]), torch.stack(means)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn(5, 4).double()
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours[0].grad, plain[0].grad, rtol=1e-12, atol=1e-12)
    assert ours[0].grad is not None
    assert not ours[0].grad[0].any()  # a hidden tag's row stays zero


def test_attention_and_its_gradients() -> None:
    table, fold = torch.randn(40, 6).double(), torch.randn(6, 6).double()
    target = torch.randint(1, 40, (25,), dtype=torch.int32)  # some twice
    history, direction = histories(25, 9, 40), torch.randn(25, 12).double()
    ours, plain = leaves(table, fold), leaves(table, fold)
    found = both(target, history, ours[0], ours[1])
    expected = written_out(target, history, plain[0], plain[1])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [3, 0])
def test_attention_to_nothing(batch: int) -> None:
    table, fold = leaves(torch.randn(7, 5), torch.randn(5, 5))
    target = torch.arange(1, batch + 1, dtype=torch.int32)
    history = torch.zeros(batch, 4, dtype=torch.int32)
    t, pooled = relu_attention(target, history, table, fold)
    assert torch.equal(t, table[1 : batch + 1])
    assert pooled.shape == (batch, 5)
    assert not pooled.any()
    (t + pooled).sum().backward()
    assert table.grad is not None
    assert fold.grad is not None
    assert table.grad[:, 0].tolist() == [0.0, *[1.0] * batch, *[0.0] * (6 - batch)]
    assert not fold.grad.any()


def test_more_places_than_the_table_and_batch_have_cells() -> None:
    """Histories that name the few items there are again and again."""
    table, fold = torch.randn(3, 6).double(), torch.randn(6, 6).double()
    history, target = torch.tensor([[2] * 50, [1] * 50]).int(), torch.tensor([1, 2]).int()
    found = both(target, history, table, fold)
    torch.testing.assert_close(found, written_out(target, history, table, fold))


def test_a_vector_that_is_not_finite_is_seen() -> None:
    table = torch.ones(5, 3)
    table[2] = torch.nan
    history = torch.tensor([[1, 2], [1, 3]], dtype=torch.int32)
    target = torch.tensor([1, 1], dtype=torch.int32)
    _, pooled = relu_attention(target, history, table, torch.eye(3))
    assert pooled[0].isnan().all()
    assert pooled[1].tolist() == [6.0] * 3


def masked_sum(x: Tensor, weight: Tensor, bias: Tensor, rows: int, p: float, seed: int) -> Tensor:
    """`gate_sum` with the masks that `Dropout(p)` draws after `torch.manual_seed(seed)`."""
    torch.manual_seed(seed)
    masks = Masks(p, seed=int(torch.randint(2**32, ())))
    keep = ~masks.dropped(len(x), rows * x.shape[1])
    gates = (x @ weight.T + bias) * keep * masks.scale
    return torch.stack(gates.chunk(rows, dim=1)).sum(0)


@pytest.mark.parametrize("batch", [1, 8, 21])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gates_and_their_gradients(batch: int, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CHUNK", 8)
    rows, width = 3, 6
    tensors = [
        torch.randn(shape).double()
        for shape in ((batch, width), (rows * width, width), (rows * width,))
    ]
    direction = torch.randn(batch, width).double()
    ours, plain = leaves(*tensors), leaves(*tensors)
    torch.manual_seed(1)
    found = gate_sum(ours[0], ours[1], ours[2], rows, Dropout(p).train())
    expected = masked_sum(plain[0], plain[1], plain[2], rows, p, seed=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_gates_in_bf16_keep_sums_and_gradients_in_fp32() -> None:
    tensors = [torch.randn(shape) for shape in ((64, 32), (128, 32), (128,))]
    ours, plain = leaves(*tensors), leaves(*tensors)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = gate_sum(ours[0], ours[1], ours[2], 4, Dropout(0.2).train())
    expected = masked_sum(plain[0], plain[1], plain[2], 4, 0.2, seed=1)
    found.sum().backward()
    expected.sum().backward()
    assert found.dtype == torch.float32
    assert 1e-5 < (found - expected).norm() / expected.norm() < 0.01
    for one, other in zip(ours, plain, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert one.grad.dtype == torch.float32
        assert (one.grad - other.grad).norm() / other.grad.norm() < 0.01


def unit(p: float) -> tuple[BatchNorm, nn.PReLU, Dropout]:
    norm, activation = BatchNorm(6).double(), nn.PReLU().double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    nn.init.zeros_(norm.bias[2:3])
    return norm, activation, Dropout(p)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_residual_unit_and_its_gradients(p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COLUMNS", 4)
    x, gates, direction = (torch.randn(20, 6).double() for _ in range(3))
    x[:, 2] = 0  # then the normed column is the bias alone, which starts at 0
    ours, plain = leaves(x, gates), leaves(x, gates)
    norm, activation, dropout = unit(p)
    written = deepcopy(norm), deepcopy(activation)
    torch.manual_seed(1)
    found = residual_unit(ours[0], ours[1], norm, activation, dropout)
    torch.manual_seed(1)
    expected = plain[0] + dropout(written[1](written[0](plain[0] * plain[1])))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    gradients = [*ours, norm.weight, norm.bias, activation.weight]
    references = [*plain, written[0].weight, written[0].bias, written[1].weight]
    for one, other in zip(gradients, references, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-11, atol=1e-12)
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer, written[0].get_buffer(name), rtol=1e-12, atol=0)


def test_residual_unit_is_fp32_under_bf16() -> None:
    norm, activation, dropout = (module.float() for module in unit(0.0))
    assert isinstance(norm, BatchNorm)
    assert isinstance(activation, nn.PReLU)
    assert isinstance(dropout, Dropout)
    x, gates = torch.randn(20, 6), torch.randn(20, 6)
    expected = residual_unit(x, gates, norm, activation, dropout)
    with torch.autocast("cpu", torch.bfloat16):
        found = residual_unit(x, gates, norm, activation, dropout)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_residual_unit_at_evaluation() -> None:
    norm, activation, dropout = (module.eval() for module in unit(0.3))
    x, gates = torch.randn(20, 6).double(), torch.randn(20, 6).double()
    assert isinstance(norm, BatchNorm)
    assert isinstance(activation, nn.PReLU)
    assert isinstance(dropout, Dropout)
    found = residual_unit(x, gates, norm, activation, dropout)
    torch.testing.assert_close(found, x + activation(norm(x * gates)))
    assert norm.get_buffer("num_batches_tracked") == 0


def test_the_plain_lines_compute_the_same() -> None:
    table, fold = torch.randn(40, 6).double(), torch.randn(6, 6).double()
    target, history = torch.randint(1, 40, (25,)), histories(25, 9, 40)
    found = torch.cat(plain_attention(target, history, table, fold), dim=1)
    expected = both(target, history, table, fold)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    x, weight, bias = (torch.randn(s).double() for s in ((9, 6), (12, 6), (12,)))
    found = plain_gate_sum(x, weight, bias, 2, nn.Identity())
    expected = gate_sum(x, weight, bias, 2, Dropout(0.0).train())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
