from argparse import ArgumentTypeError
from typing import Any

import numpy as np
import pytest

from benchmarks.bench_recipes import print_correlations, print_row
from benchmarks.quality.recipes import recipe_name, vectors_of, whitened
from embed.vectors.content import Content
from pipeline.settings.params import load_params


def result(auc: float, **diagnostics: float | None) -> dict[str, Any]:
    judge = {"auc": auc, "auc_std": None, "auc_cold_items": 0.6}
    qin = {"auc": 0.7, "auc_std": 0.001, "auc_cold_items": 0.65}
    return {"judge": judge, "qin": qin, "diagnostics": diagnostics, "seconds": 1.5}


def test_a_row_holds_the_figures_in_the_order_of_the_header(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_row("pca", result(0.8, recall_rows=9, recall_20=0.1, separation=0.55), 20, header=True)
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "judge", "±", "sd", "cold", "QIN", "±", "sd", "cold", "recall@20", "separation", "seconds",
    ]  # fmt: skip
    assert row.split() == [
        "pca", "0.8000", "-", "0.6000", "0.7000", "0.0010", "0.6500", "0.1000", "0.5500", "1.5",
    ]  # fmt: skip


def test_of_a_model_that_was_not_asked_a_row_holds_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = result(0.8, recall_20=0.1, separation=0.55) | {"qin": None}
    print_row("pca", asked, 20, header=False)
    assert capsys.readouterr().out.split()[4:7] == ["-", "-", "-"]


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


@pytest.mark.parametrize("name", ["pca", "align:48", "learned:127:white", "both:white"])
def test_names_of_recipes(name: str) -> None:
    assert recipe_name(name) == name


@pytest.mark.parametrize(
    "name", ["pcs", "align:", "align:white:48", "align:x", "align 48", "pca:48", "zeros:white"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"found '{name}'; expected one of"):
        recipe_name(name)


def test_whitened_columns_differ_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(40, 4)) * [5, 1, 0.01, 0] + 3).astype(np.float32)
    vectors[[0, 7], :] = vectors[:, 3] = 0
    found = whitened(vectors)
    rows = vectors.any(axis=1)
    assert not found[~rows].any()
    assert not found[:, 3].any()
    np.testing.assert_allclose(found[rows].mean(axis=0), 0, atol=1e-6)
    deviation = found[rows].std(axis=0)[:3]
    np.testing.assert_allclose(deviation, deviation[0], rtol=1e-4)
    assert np.linalg.norm(found[rows], axis=1).mean() == pytest.approx(1, rel=1e-5)
    for column in range(3):
        told = np.corrcoef(found[rows, column], vectors[rows, column])[0, 1]
        assert told == pytest.approx(1, abs=1e-5)
