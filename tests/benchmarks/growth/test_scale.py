import pytest

from benchmarks.growth.scale import SWEEPS, Point, measure


def test_a_sweep_changes_nothing_but_what_it_sweeps() -> None:
    for name, points in SWEEPS.items():
        values = [getattr(point, name) for point in points]
        assert values == sorted(set(values))
        others = {tuple(v for k, v in vars(p).items() if k != name) for p in points}
        assert len(others) == 1
    assert [point.items for point in SWEEPS["items"]] == [10**4, 10**5, 10**6, 10**7]


@pytest.mark.long
def test_a_point_is_measured() -> None:
    found = measure(Point(batch=64, history=4, items=500, width=8, processes=2), "no")
    assert found["samples_per_s"] > 0
    assert found["peak_bytes"]["host"] > 1e8
