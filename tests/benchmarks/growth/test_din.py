import sys
from pathlib import Path

import pytest
import torch

from benchmarks.growth import din
from benchmarks.growth.din import PlainAttention, line, with_columns
from ctr.task1.din import DIN, DINConfig
from pipeline.common.files import read_json
from tests.support.worlds.small_world import (
    CONTENT,
    ITEMS,
    TAGS,
    small_clicks,
    small_items,
    spread_weights,
)

SIZES = DINConfig(items=ITEMS, tags=TAGS, content_dim=CONTENT, embedding_dim=4, attention=(8, 6))


def test_the_plain_form_is_the_same_model() -> None:
    torch.manual_seed(3)
    items, clicks = with_columns(small_items(), 2), small_clicks()
    assert (items.content.any(0).tolist()) == [True, True] + [False] * (CONTENT - 2)
    model = spread_weights(DIN(SIZES, items.content)).eval()
    ours = model(clicks, items)
    model.attention.__class__ = PlainAttention
    torch.testing.assert_close(model(clicks, items), ours, rtol=1e-10, atol=1e-10)


def test_every_way_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.json"
    flags = ["--items=60", "--steps=1", "--batch-size=8", f"--json={file}"]
    monkeypatch.setattr(sys, "argv", ["din", *flags])
    din.main()
    found = read_json(file)
    assert set(found) == {"plain", "128", "17"}
    assert all(rate > 0 for way in found.values() for rate in way.values())


def test_a_line_compares_with_the_plain_form() -> None:
    result = {"plain": {"trained": 100.0, "scored": 400.0}, "17": {"trained": 250.0, "scored": 1e3}}
    assert line("17", result).split() == ["17", "250", "2.5", "1,000", "2.5"]
