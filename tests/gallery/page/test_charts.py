import re
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gallery.page import charts
from gallery.page.charts import PLANS, Chart
from gallery.page.svg import NEUTRAL
from pipeline.common import paths
from pipeline.common.files import InputError

pytestmark = pytest.mark.usefixtures("run")

ADDRESSES = re.compile(r"https?://[^\"'\s]+")
NAMESPACES = {"http" + "://www.w3.org/2000/svg", "http" + "://www.w3.org/1999/xlink"}


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def chart(title: str) -> Chart:
    return charts.made(next(plan for plan in PLANS if plan.title == title))


def all_charts() -> list[Chart]:
    return [charts.made(plan) for plan in PLANS]


def test_every_chart_is_drawn_with_axis_titles_and_how_to_read_it() -> None:
    made = all_charts()
    assert len(made) == 8
    for one in made:
        assert one.svg.startswith(f'<svg role="img" aria-label="{one.title}" ')
        assert one.reading.endswith(".")
    told = {one.title: texts(one.svg) for one in made}
    assert {"epoch", "on valid", "AUC", "gAUC"} <= set(told["AUC by epoch"])
    assert {"false positive rate", "true positive rate", "chance"} <= set(told["ROC"])
    assert {"clicked", "not clicked", "predicted probability"} <= set(told["Scores by label"])
    assert {"principal components", "100%"} <= set(told["Explained variance"])


def test_every_chart_stands_in_one_part_of_the_page() -> None:
    parts = {part: charts.charts(part) for part in ("rows", "training", "vectors")}
    assert sum(map(len, parts.values())) == len(PLANS)
    assert [one.title for one in parts["training"]] == ["AUC by epoch", "Loss by epoch"]
    assert [one.title for one in parts["vectors"]] == ["Explained variance"]


def test_the_same_bytes_twice_and_nothing_of_the_day_or_the_network() -> None:
    first = [one.svg for one in all_charts()]
    assert first == [one.svg for one in all_charts()]
    for svg in first:
        assert set(ADDRESSES.findall(svg)) <= NAMESPACES
        assert NEUTRAL not in svg
        assert "currentColor" in svg
        assert "<style" not in svg
        assert "metadata" not in svg


def test_a_users_own_style_changes_nothing() -> None:
    first = [one.svg for one in all_charts()]
    own: Any = {
        "font.size": 20.0,
        "savefig.bbox": "tight",
        "lines.linewidth": 9.0,
        "axes.grid": False,
    }
    with matplotlib.rc_context(own):
        assert [one.svg for one in all_charts()] == first


def test_no_id_is_used_twice_on_the_page() -> None:
    ids = [found for one in all_charts() for found in re.findall(r' id="([^"]+)"', one.svg)]
    assert ids
    assert len(ids) == len(set(ids))


def test_a_bin_without_an_auc_has_no_bar() -> None:
    told = texts(chart("AUC by length of history").svg)
    assert [text for text in told if re.fullmatch(r"0\.\d{3}|none", text)] == ["0.700", "none"]
    assert {"0", "1-4", "140", "10"} <= set(told)


def test_bins_that_have_no_auc_at_all_break_nothing() -> None:
    pd.DataFrame({"items": ["0"], "auc": [None], "rows": [3]}).to_csv(
        paths.AUC_BY_HISTORY, index=False
    )
    assert "none" in texts(chart("AUC by length of history").svg)


def test_the_bars_begin_at_chance() -> None:
    axes = Figure().add_subplot()
    table = pd.DataFrame({"items": ["0", "1+"], "auc": [0.75, 0.4], "rows": [1, 2]})
    charts.by_history(axes, table)
    boxes = [bar.get_path().get_extents(bar.get_patch_transform()) for bar in axes.patches]
    assert [(round(box.y0, 6), round(box.y1, 6)) for box in boxes] == [(0.5, 0.75), (0.4, 0.5)]
    low, high = axes.get_ylim()
    assert low < 0.4 < 0.75 < high


def test_lines_go_through_the_files_points() -> None:
    axes = Figure().add_subplot()
    curve = pd.read_csv(paths.MAIN.curve)
    charts.auc_by_epoch(axes, curve)
    auc, gauc = (np.asarray(line.get_ydata()) for line in axes.lines)
    assert auc.tolist() == curve["auc"].tolist()
    assert gauc.tolist() == curve["gauc"].tolist()


def test_a_table_without_rows_gives_no_chart() -> None:
    pd.DataFrame({"components": [], "explained": []}).to_csv(paths.EXPLAINED_VARIANCE, index=False)
    assert chart("Explained variance").svg == ""


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: str(plan.title))
def test_a_missing_file_is_named(plan: charts.Plan) -> None:
    plan.path.unlink()
    with pytest.raises(InputError, match=rf"^{plan.path}: not found; run `dvc repro`$"):
        charts.made(plan)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("probability,label\n0.5,clicked\n", "has columns probability, label, expected share"),
        ("", "not a table"),
        ("a\n1,2\n1,2,3\n", "not a table"),
    ],
)
def test_a_damaged_file_is_named(content: str, told: str) -> None:
    paths.SCORES.write_text(content)
    with pytest.raises(InputError, match=rf"^{paths.SCORES}: {told}.*run `dvc repro`$"):
        all_charts()
