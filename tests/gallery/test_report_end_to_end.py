"""The report of the sample's fresh run, as a newcomer opens it."""

import pytest

from pipeline.common.paths import REPORT
from tests.support.browser import (
    WIDTHS,
    assert_good_page,
    chromium,
    needs_chromium,
    opened,
    texts_on_first_screen,
)
from tests.support.fresh_runs import FreshRuns

pytestmark = pytest.mark.slow

LARGEST = 6_000_000
"""Bytes: what a browser opens at once, and a mail still carries."""


def test_the_report_is_made_and_small(fresh_runs: FreshRuns) -> None:
    assert fresh_runs.report()
    html = fresh_runs.clone.read(str(REPORT))
    assert 500_000 < len(html) < LARGEST
    assert html.count(b"<article") == 20 + 3


@needs_chromium
def test_the_report_is_painted_in_chromium(fresh_runs: FreshRuns) -> None:
    assert fresh_runs.report()
    assert_good_page(fresh_runs.clone.folder / REPORT, pictures=300)


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_screen_tells_how_good_the_sample_is(fresh_runs: FreshRuns, width: int) -> None:
    assert fresh_runs.report()
    valid, blend = (fresh_runs.clone.metrics(name) for name in ("valid/all", "blend"))
    path = fresh_runs.clone.folder / REPORT
    with chromium() as browser, opened(browser, path, width, "light") as (page, _):
        seen = texts_on_first_screen(page, "header, .verdict")
    known = [valid[name] for name in ("auc", "gauc", "logloss", "oracle_auc", "calibration_error")]
    for value in (*known, *blend["model_auc"].values()):
        assert f"{value:.4f}" in seen
    assert f"{valid['oracle_share']:.1%} of the way from chance to the best possible AUC" in seen
