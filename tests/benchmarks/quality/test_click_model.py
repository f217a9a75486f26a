from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality import click_model
from benchmarks.quality.click_model import found
from pipeline.common.paths import predictions_path
from sample.clicks import logit_parts
from sample.config import WorldConfig
from sample.world import World, build
from tests.support.worlds.tiny_world import tiny_params, write_params

PARTS = ("match", "grade", "appeal", "popularity")


@pytest.fixture(scope="module")
def world() -> World:
    return build(WorldConfig(), seed=5)


def truth(world: World) -> dict[str, np.ndarray]:
    rows = world.splits["valid"]
    return logit_parts(world.config, world.items, rows.history, rows.target)


def test_the_truth_is_the_oracle_and_each_part_of_it_counts(world: World) -> None:
    rows = world.splits["valid"]
    tables = found(world, rows, np.zeros(len(rows)))
    table = tables["all"]
    assert table["the truth"] == pytest.approx(world.oracle_auc("valid"), abs=1e-6)
    for name in PARTS:
        assert table[f"the truth without {name}"] < table["the truth"]
    assert [each["predicted"] for each in tables.values()] == [0.5] * 3


@pytest.mark.parametrize("name", PARTS)
def test_predictions_gain_by_the_part_that_they_lack_alone(world: World, name: str) -> None:
    rows, parts = world.splits["valid"], truth(world)
    logit = sum(parts.values(), np.zeros(len(rows))) - parts[name]
    table = found(world, rows, logit)["all"]
    assert table["predicted"] == pytest.approx(table[f"the truth without {name}"], abs=1e-6)
    gain = {other: table[f"predicted, told {other}"] - table["predicted"] for other in PARTS}
    assert max(gain, key=lambda other: gain[other]) == name
    best = table["the truth"]
    assert table[f"predicted, told {name}"] == pytest.approx(best, abs=1e-3)


def test_the_command_reads_the_predictions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    world: World,
) -> None:
    monkeypatch.chdir(tmp_path)
    params = tiny_params()
    params = params.model_copy(update={"data": params.data.model_copy(update={"seed": 5})})
    write_params(params)
    logit = sum(truth(world).values(), np.zeros(len(world.splits["valid"])))
    path = predictions_path("valid")
    path.parent.mkdir()
    pd.DataFrame({"probability": 1 / (1 + np.exp(-logit))}).to_parquet(path)
    click_model.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["all", "warm", "items", "cold", "items"]
    assert f"{world.oracle_auc('valid'):.4f}" in next(x for x in lines if x.startswith("predicted"))
    pd.DataFrame({"probability": [0.5]}).to_parquet(path)
    with pytest.raises(SystemExit, match="is not of this sample"):
        click_model.main()
    other = params.data.model_copy(update={"source": "elsewhere"})
    write_params(params.model_copy(update={"data": other}))
    with pytest.raises(SystemExit, match=r"data\.source is elsewhere"):
        click_model.main()
