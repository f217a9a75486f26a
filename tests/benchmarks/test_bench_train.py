import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_train import AN_EPOCH, closing, header, line, summary
from ctr.engine.loop import progress_line

ROOT = Path(__file__).parents[2]


def figures(samples_per_s: float, **more: Any) -> dict[str, Any]:
    phases = {"data": 0.01, "forward": 1.0, "backward": 2.0, "optimizer": 0.5}
    peak = {"host": 2.5e9, "device": 0}
    return {
        "samples_per_s": samples_per_s,
        "seconds": phases,
        "loader_share": 0.003,
        "peak_bytes": peak,
    } | more


def ours(samples_per_s: float, predicted_per_s: float) -> dict[str, Any]:
    return figures(
        samples_per_s,
        predicted_per_s=predicted_per_s,
        flops_per_s=9e10,
        matmul_flops_per_s=1.2e11,
    )


MEASURED = {
    "published": figures(200),
    "ours": ours(1200, 9600),
    "ours bf16": ours(2000, 14000) | {"loader_share": 0.004},
}


def test_ratios_are_to_the_published_path() -> None:
    assert summary(MEASURED) == {
        "published_samples_per_s": 200,
        "ours_samples_per_s": 1200,
        "ours_bf16_samples_per_s": 2000,
        "ratio": 6,
        "ratio_bf16": 10,
        "loader_share": 0.004,
        "prediction_ratio": 8,
        "prediction_ratio_bf16": 7,
    }


def test_the_table_and_what_stands_below_it() -> None:
    lines = [header(), *(line(name, MEASURED) for name in MEASURED)]
    assert [text.split()[-2:] for text in lines[1:3]] == [["2.50", "0.00"], ["0.00", "9,600"]]
    assert "1,200    6.0" in lines[2]
    assert len(lines[0]) == len(lines[2])
    told = closing(MEASURED).splitlines()
    assert len(told) == 2  # of our runs alone
    assert "75% of the 120" in told[0]
    assert "3,600,000 rows in 3,000 s; prediction 8.0 times" in told[0]


def test_the_line_of_an_epoch_is_known() -> None:
    entry = dict.fromkeys(("epoch", "train_loss", "auc", "gauc", "logloss", "learning_rate"), 0.5)
    assert AN_EPOCH.search(progress_line(entry | {"epoch": 12}, 1e5, is_best=True))
    assert not AN_EPOCH.search("an epoch takes about 3 s without scoring valid")


@pytest.mark.long
def test_the_quick_run_writes_its_figures(tmp_path: Path) -> None:
    """Its parts, `benchmarks.support.training` and `.published`, have tests of their own."""
    sizes = [
        "--items=500",
        "--rows=200",
        "--batch-size=64",
        "--steps=1",
        "--device=cpu",
        "--epochs=2",
    ]
    command = [sys.executable, "-m", "benchmarks.bench_train", "--device=cpu", "--quick"]
    path = tmp_path / "figures.json"
    done = subprocess.run(
        [*command, f"--json={path}", *sizes], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = json.loads(path.read_text())
    assert found["ratio"] == found["ours_samples_per_s"] / found["published_samples_per_s"]
    assert found["ratio_bf16"] > 0
    assert 0 < found["loader_share"] < 1
    assert 0 < found["stage"]["an_epoch"] < found["stage"]["seconds"]
    assert "valid AUC" in found["stage"]["told"]
    assert set(found["runs"]) == set(MEASURED)
    assert [text.split("  ")[0] for text in done.stdout.splitlines()[1:4]] == list(MEASURED)
