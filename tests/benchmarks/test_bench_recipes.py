from typing import Any

import numpy as np
import pytest

from benchmarks.bench_recipes import print_correlations, print_row
from benchmarks.support.quality.recipes import vectors_of
from embed.vectors.content import Content
from pipeline.settings.params import load_params


def result(auc: float, **diagnostics: float | None) -> dict[str, Any]:
    judge = {"auc": auc, "auc_std": None, "auc_cold_items": 0.6}
    return {"judge": judge, "qin": 0.7, "diagnostics": diagnostics, "seconds": 1.5}


def test_a_row_holds_the_figures_in_the_order_of_the_header(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_row("pca", result(0.8, recall_rows=9, recall_20=0.1, separation=0.55), 20, header=True)
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "judge", "±", "sd", "cold", "QIN", "recall@20", "separation", "seconds",
    ]  # fmt: skip
    assert row.split() == ["pca", "0.8000", "-", "0.6000", "0.7000", "0.1000", "0.5500", "1.5"]


def test_a_recipe_without_the_diagnostic_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    results = {
        "zeros": result(0.5, rank=None, alignment=4.0, items=3),
        "pca": result(0.6, rank=1.0, alignment=3.0, items=3),
        "align": result(0.7, rank=2.0, alignment=2.0, items=3),
    }
    print_correlations(results)
    assert capsys.readouterr().out.splitlines() == [
        f"{'rank':24} ranks 2 recipes as the judge does: +1.00",
        f"{'alignment':24} ranks 3 recipes as the judge does: -1.00",
    ]


def test_vectors_to_be_beaten() -> None:
    params = load_params()
    content = Content([np.zeros((5, 3))], np.array([False, True, True, True, True]))
    assert not vectors_of("zeros", content, params).any()
    random = vectors_of("random", content, params)
    assert random.shape == (5, 128)
    assert not random[0].any()
    assert np.linalg.norm(random[1:], axis=1) == pytest.approx(1, abs=0.2)
    assert random.tobytes() == vectors_of("random", content, params).tobytes()
