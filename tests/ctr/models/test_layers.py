import pytest
import torch
from torch import nn

from ctr.models.layers import BatchNorm, Dropout, Masks, share_batches, zero_


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_share_asked_for(p: float) -> None:
    dropout = Dropout(p).train()
    out = dropout(torch.ones(1000, 500))
    dropped = (out == 0).double().mean().item()
    assert dropped == pytest.approx(p, abs=4 * (p * (1 - p) / 500_000) ** 0.5)
    kept = out[out != 0]
    assert kept.unique().numel() == 1
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=2e-5 / (1 - p))
    assert out.mean().item() == pytest.approx(1, abs=0.02)


def test_masks_have_no_pattern_over_rows_and_columns() -> None:
    dropped = Masks(0.5, seed=1).dropped(2000, 64).double()
    assert (dropped.mean(0) - 0.5).abs().max() < 0.05
    correlation = torch.corrcoef(dropped.T).fill_diagonal_(0)
    assert correlation.abs().max() < 0.12
    assert (
        abs(torch.corrcoef(torch.stack([dropped[:-1].flatten(), dropped[1:].flatten()]))[0, 1])
        < 0.02
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_zeroing_is_filling_by_the_mask(dtype: torch.dtype) -> None:
    x = torch.randn(30, 41).to(dtype)
    x[7, ::2], x[8, ::2], x[9, ::2] = torch.nan, torch.inf, -0.0
    dropped = Masks(0.4, seed=4).dropped(30, 50)[:, 3:44]
    expected = x.masked_fill(dropped, 0)
    found = zero_(x, dropped)
    assert found is x
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(9.0), expected.nan_to_num(9.0))
    assert torch.equal(found.signbit(), expected.signbit())


@pytest.mark.parametrize(("p", "share"), [(0.0, 0), (1e-9, 0), (1 - 2**-16, 1)])
def test_masks_at_the_ends_of_the_scale(p: float, share: int) -> None:
    dropped = Masks(p, seed=4).dropped(50, 40)
    assert dropped.double().mean().item() == pytest.approx(share, abs=0.002)


def test_dropout_passes_its_mask_to_the_gradient() -> None:
    x = torch.randn(20, 30, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.3).train()(x)
    direction = torch.randn_like(x)
    (out * direction).sum().backward()
    scale = 65536 / (65536 - round(0.3 * 65536))
    expected = torch.where(out == 0, 0, direction * scale)
    torch.testing.assert_close(x.grad, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(out, torch.where(out == 0, 0, x * scale), rtol=1e-14, atol=0)


def test_dropout_does_nothing_at_evaluation_or_at_zero() -> None:
    x = torch.randn(4, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_the_default_generator_decides() -> None:
    dropout, outs = Dropout(0.5).train(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append([dropout(torch.ones(9, 11)), dropout(torch.ones(9, 11))])
    assert torch.equal(outs[0][0], outs[1][0])
    assert torch.equal(outs[0][1], outs[1][1])
    assert not torch.equal(outs[0][0], outs[2][0])
    assert not torch.equal(outs[0][0], outs[0][1])


@pytest.mark.parametrize(("rows", "world"), [(12, 2), (13, 2), (11, 3)])
def test_processes_have_the_rows_of_one_processs_mask(rows: int, world: int) -> None:
    whole = Masks(0.4, seed=9).dropped(rows, 7)
    for rank in range(world):
        own = whole[rank::world]
        assert torch.equal(Masks(0.4, 9, rank, world).dropped(len(own), 7), own)


def test_masks_come_in_pieces_and_again() -> None:
    masks = Masks(0.4, seed=9)
    whole = masks.dropped(20, 6)
    again = masks.restarted()
    assert torch.equal(torch.cat([again.dropped(8, 6), again.dropped(12, 6)]), whole)


def test_batches_are_shared_with_every_layer_that_must_know() -> None:
    model = nn.Sequential(Dropout(0.1), nn.Sequential(BatchNorm(3), Dropout(0.2)))
    share_batches(model, 2, 5)
    assert [m.world for m in model.modules() if isinstance(m, Dropout | BatchNorm)] == [5] * 3
    assert [m.rank for m in model.modules() if isinstance(m, Dropout)] == [2] * 2


def test_statistics_over_processes_are_batch_norms_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that hold the same rows are one with every row twice."""
    monkeypatch.setattr("ctr.models.layers.distributed.all_reduce", lambda tensor: tensor.mul_(2))
    ours, theirs = (norm(6).double().train() for norm in (BatchNorm, nn.BatchNorm1d))
    for norm in (ours, theirs):
        torch.manual_seed(4)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    share_batches(ours, 0, 2)
    x = torch.randn(10, 6, dtype=torch.float64) * 3 + 1
    direction = torch.randn_like(x)
    one, both = x.clone().requires_grad_(), x.repeat(2, 1).requires_grad_()
    out, expected = ours(one), theirs(both)
    torch.testing.assert_close(out, expected[:10], rtol=1e-12, atol=1e-12)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        found = ours.get_buffer(name)
        torch.testing.assert_close(found, theirs.get_buffer(name), rtol=1e-12, atol=0)
    (out * direction).sum().backward()
    (expected * direction.repeat(2, 1)).sum().backward()
    assert both.grad is not None
    torch.testing.assert_close(one.grad, both.grad[:10], rtol=1e-10, atol=1e-12)


def test_statistics_of_bf16_over_processes_are_those_of_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """bf16 has 8 bits: it would count 514 rows as 512 and round their sum."""
    monkeypatch.setattr("ctr.models.layers.distributed.all_reduce", lambda tensor: tensor.mul_(2))
    ours, theirs = BatchNorm(3).train(), nn.BatchNorm1d(3).train()
    share_batches(ours, 0, 2)
    x = (torch.randn(257, 3) + 9).bfloat16()
    out, expected = ours(x), theirs(x.repeat(2, 1))[:257]
    assert out.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-5, atol=0)
    torch.testing.assert_close(out, expected, rtol=2**-7, atol=2**-7)


def test_every_element_of_a_sequence_has_a_mask_of_its_own() -> None:
    dropped = Dropout(0.5)(torch.ones(50, 8, 6)) == 0
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.05)
    for dim in range(3):
        same = (dropped == dropped.select(dim, 0).unsqueeze(dim)).float().mean(dim=(0, 1, 2))
        assert same.item() < 0.75
