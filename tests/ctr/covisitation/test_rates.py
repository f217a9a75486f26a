import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.covisitation.pairs import Folds
from ctr.covisitation.rates import Rates, click_rates
from pipeline.tables.split import Split
from tests.ctr.covisitation.made_up import ITEMS, made_up, splits, tables
from tests.support.references import covisitation as plain

K, PRIOR = 3, 4.0


def rates_of(train: Split, tags: np.ndarray) -> Rates:
    folds = Folds.of(train, K, seed=7)
    return click_rates(train, folds[train.user], K, tags, PRIOR)


def plain_rates(train: Split, tags: np.ndarray) -> list[plain.Rates]:
    """Without each fold, and of all."""
    folds = Folds.of(train, K, seed=7)
    users = [set(folds.users[folds.fold == fold].tolist()) for fold in range(K)]
    return [plain.Rates(train, tags, PRIOR, without) for without in (*users, set())]


@settings(deadline=None)
@given(splits, st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_items_and_tags_as_in_a_loop_over_rows(train: Split, seed: int, number: int) -> None:
    """Tags are padded by 0, some items have none, or all of them."""
    tags, _ = tables(seed, number)
    found = rates_of(train, tags)
    for fold, expected in enumerate(plain_rates(train, tags)):
        assert found.clicks[fold].tolist() == expected.clicks
        assert found.rows[fold].tolist() == expected.rows
        items = range(ITEMS + 1)
        rate, tag_rate = found.rate[fold], found.tag_rate[fold]
        assert rate.tolist() == pytest.approx([expected.rate(item) for item in items], rel=1e-9)
        of_tags = [expected.tag_rate(item) for item in items]
        assert tag_rate.tolist() == pytest.approx(of_tags, rel=1e-9)


def test_by_hand() -> None:
    """Items 1 and 2 share tag 5; item 3 has none; nobody else has item 4's."""
    rows = [[0, 1, 0, 0, 1, 8], [0, 1, 0, 0, 1, 8], [0, 2, 0, 0, 0, 8], [0, 3, 0, 0, 1, 8]]
    tags = np.array([[0, 0], [5, 0], [0, 5], [0, 0], [7, 0]])
    found = rates_of(Split(np.array(rows, np.int32)), tags)
    mean = 3.5 / 5
    assert found.rate[K, 1:] == pytest.approx(
        [(2 + 4 * mean) / 6, (4 * mean) / 5, (1 + 4 * mean) / 5, mean]
    )
    assert found.tag_rate[K, 1:] == pytest.approx([(2 + 4 * mean) / 7] * 2 + [mean, mean])
    own = Folds.of(Split(np.array(rows, np.int32)), K, seed=7).fold[0]
    assert found.rate[own] == pytest.approx(0.5), "nothing is known without the only user"


def test_items_without_any_tags_at_all() -> None:
    train = made_up(1)
    found = rates_of(train, np.zeros((ITEMS + 1, 0), np.int32))
    mean = [rates.mean for rates in plain_rates(train, np.zeros((ITEMS + 1, 0), np.int32))]
    np.testing.assert_allclose(found.tag_rate, np.tile(mean, (ITEMS + 1, 1)).T, rtol=1e-12)
