import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.covisitation.describe import KINDS, NAMES, Describer
from ctr.covisitation.pairs import recent
from pipeline.settings.ctr.companions import Companions
from pipeline.settings.ctr.training import NUMBERS
from pipeline.tables.split import Split
from tests.ctr.covisitation.made_up import ITEMS, SECTION, changed, made_up, splits, tables
from tests.support.references import covisitation as plain

TAGS, UNIT = tables(1)


def describer_of(train: Split, section: Companions = SECTION) -> Describer:
    return Describer(train, TAGS, UNIT, section)


def numbers_of(describer: Describer, split: Split, row: int, fold: int) -> dict[str, float]:
    history = recent(split, np.array([row]), describer.window)
    (found,) = describer(int(split.target[row]), history, np.array([fold]))
    return dict(zip(NAMES, found.tolist(), strict=True))


def users_of(describer: Describer, fold: int) -> set[int]:
    """Nobody is of the fold after the last."""
    return set(describer.folds.users[describer.folds.fold == fold].tolist())


def test_every_number_has_a_name_of_its_own_and_a_kind_that_can_be_switched() -> None:
    assert len(set(NAMES)) == len(NAMES) == 49
    assert tuple(KINDS) == NUMBERS
    assert [name for names in KINDS.values() for name in names] == [*NAMES]


sections = st.builds(
    changed,
    window=st.integers(3, 30),
    within=st.integers(0, 3),
    decay=st.sampled_from([0.5, 0.9, 1.0]),
    smoothing=st.sampled_from([0.1, 20.0]),
    shrinkage=st.sampled_from([0.0, 0.3]),
    folds=st.integers(2, 5),
)


@settings(max_examples=25, deadline=None)
@given(splits, splits, sections, st.data())
def test_rows_of_train_without_their_fold_and_others_by_all_of_train(
    train: Split, valid: Split, section: Companions, data: st.DataObject
) -> None:
    describer = describer_of(train, section)
    own = describer.folds[train.user].astype(int)
    chosen = [(train, row, own[row]) for row in data.draw(rows_of(train))]
    chosen += [(valid, row, describer.none) for row in data.draw(rows_of(valid))]
    for split, row, fold in chosen:
        found = numbers_of(describer, split, row, int(fold))
        expected = plain.described(
            train,
            TAGS,
            UNIT,
            section,
            int(split.target[row]),
            split.history[row],
            without=users_of(describer, int(fold)),
        )
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)  # vectors are float32


def rows_of(split: Split) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, len(split) - 1), min_size=1, max_size=3, unique=True)


def test_long_histories() -> None:
    """So that no two ways of pooling are the same, and the nearest are not all."""
    train = made_up(2, rows=60, history=40)
    section = changed(window=35, within=3)
    describer = describer_of(train, section)
    row = int(np.argmax((train.history > 0).sum(1)))
    found = numbers_of(describer, train, row, describer.none)
    assert len({round(found[f"after_{way}"], 9) for way in plain.WAYS}) >= 6
    target, history = int(train.target[row]), train.history[row]
    expected = plain.described(train, TAGS, UNIT, section, target, history, without=())
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_rows_of_a_target_do_not_see_each_other() -> None:
    train = made_up(4)
    describer = describer_of(train)
    rows = np.flatnonzero(train.target == 3)
    assert len(rows) > 2
    fold = describer.folds[train.user[rows]].astype(int)
    together = describer(3, recent(train, rows, describer.window), fold)
    for place, row in enumerate(rows):
        alone = numbers_of(describer, train, int(row), int(fold[place]))
        assert together[place] == pytest.approx([*alone.values()], rel=1e-6, abs=1e-6)


def test_an_item_that_train_has_nowhere_tells_nothing_but_its_content() -> None:
    train, describer = made_up(4), describer_of(made_up(4))
    row = Split(train.rows[:1].copy())
    row.target[:] = ITEMS
    assert (row.history > 0).any()
    found = numbers_of(describer, row, 0, describer.none)
    for name in (*KINDS["companions"], *KINDS["contrast"], "clicks", "rows"):
        assert found[name] == pytest.approx(0, abs=1e-9), name
    assert found["rate"] == pytest.approx((train.label.sum() + 0.5) / (len(train) + 1))
    told = describer.of_new()
    assert {*NAMES} - {*told} == {*KINDS["profile"], *KINDS["similarity"], "tag_rate"}
    assert told == pytest.approx({name: found[name] for name in told}, abs=1e-9)


def test_an_item_that_was_taken_but_never_shown_is_not_new() -> None:
    """It is the first of a history alone."""
    rows = np.array([[ITEMS, 1, 2, 0, 0, 1, 8], [0, 3, 4, 0, 0, 0, 9]])
    describer = describer_of(Split(rows.astype(np.int32)))
    assert not describer.is_new(ITEMS)[describer.none]
    assert describer.is_new(ITEMS)[describer.folds.fold[0]]
    assert describer.is_new(ITEMS - 1).all()


def test_the_strongest_companions() -> None:
    train = made_up(6)
    describer = describer_of(train)
    pairs = plain.pairs_of_rows(train, 1, SECTION.window)
    pairs += plain.pairs_within_histories(train, SECTION.within)
    counted = plain.Counted(pairs, SECTION.decay, ())
    for item in range(ITEMS + 1):
        values = {
            other: counted.information(item, other, ITEMS, SECTION.smoothing, SECTION.shrinkage)
            for later, other in counted.both
            if later == item
        }
        strongest = sorted((i for i in values if values[i] > 0), key=lambda i: (-values[i], i))
        for count in (2, 50):
            ids, information = describer.pairs_of(item).strongest(count)
            assert ids.tolist() == strongest[:count]
            expected = [values[i] for i in strongest[:count]]
            assert information.tolist() == pytest.approx(expected, rel=1e-9)
    assert len(describer.pairs_of(ITEMS).strongest(4)[0]) == 0
