"""The report of the sample's fresh run, as a newcomer opens it."""

import pytest

from pipeline.common.paths import REPORT
from tests.support.browser import assert_good_page, needs_chromium
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
