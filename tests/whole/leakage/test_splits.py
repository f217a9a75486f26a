"""No artefact before the model depends on a row of valid or test, nor on their labels.

Valid and test of the raw files are changed in every way that keeps them valid, and all stages run
anew: encoder, vectors, Task 1's file, neighbours, what train's clicks tell of its rows and of the
items, train's rows and tags keep their bytes.
"""

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ctr import companions
from embed import fuse, neighbors
from pipeline import ingest
from pipeline.common import paths
from pipeline.common.files import read_json
from pipeline.tables.split import Split
from tests.support.code.graph import covers, graph
from tests.whole.leakage.changes import (
    LABELS,
    ROWS,
    everything,
    redraw_labels,
    redraw_levels,
    swap_users,
    with_column,
)
from tests.whole.leakage.conftest import Again
from tests.whole.leakage.worlds import (
    CONTENT_STAGES,
    STAGES,
    VECTOR_STAGES,
    Change,
    Run,
    change_splits,
    cold_items,
)

RECIPES = ("align", "pca", "both", "concat")
"""Of both settings; `fuse.task1` is `learned` besides."""

OWN_ROWS = ("data/valid", "data/test", "data/test_id", "companions/valid", "companions/test")
OF_VALID_AND_TEST = {f"{name}.npy{ending}" for name in OWN_ROWS for ending in ("", ".json")}
"""What holds valid's and test's own rows."""
SUMMARIES = {str(paths.STATS), str(paths.metrics_path("companions"))}
"""What counts rows, of every split."""
GRAPH = graph()
OF_SPLITS = (ingest, *VECTOR_STAGES, companions)
VECTORS = ("align", "fuse", "neighbors")
COUNTS = {"rows_valid", "rows_test"}
"""Of `data/stats.json`, besides the settings, in which the source has its name."""


def learned(run: Run) -> dict[str, bytes]:
    """All that may depend on train and on the items alone."""
    kept = {*run.files()} - OF_VALID_AND_TEST - SUMMARIES
    return {name: content for name, content in run.files().items() if name in kept}


def stats(run: Run, *but: str) -> dict[str, object]:
    content = read_json(run.work / paths.STATS)
    return {name: value for name, value in content.items() if name not in (*but, "settings")}


def told(run: Run) -> dict[str, object]:
    """What stage `companions` says, but of valid and test."""
    content = read_json(run.work / paths.metrics_path("companions"))
    return content | {"known": content["known"]["train"]}


def differing(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Names of files that are not the same in both; bytes would make an unreadable message."""
    return [name for name in {*before, *after} if before.get(name) != after.get(name)]


@pytest.mark.parametrize("change", [*LABELS, *ROWS, everything], ids=lambda change: change.__name__)
def test_valid_and_test_reach_nothing_that_is_learned(
    reference: Run, again: Again, change: Change, long: bool
) -> None:
    """Shortly, by the stages that read a split; the others are told of it by `everything`."""
    changed = again(reference, change, STAGES if long or change is everything else OF_SPLITS)
    assert len(learned(reference)) == len(learned(changed)) > 30
    assert differing(learned(reference), learned(changed)) == []
    assert stats(changed, *COUNTS) == stats(reference, *COUNTS)
    assert told(changed) == told(reference)
    moved = differing(reference.files(), changed.files())
    assert "data/valid.npy" in moved, "the change changes nothing"
    if change in LABELS:
        own = {"data/valid.npy", str(paths.STATS)}
        assert {*moved} <= own, "a label of valid or test is told of a row"
    elif change is not redraw_levels and change is not swap_users:
        assert {"companions/valid.npy", "companions/test.npy"} <= {*moved}


def test_in_other_worlds_too(
    reference_of: Callable[[int], Run], again: Again, tmp_path: Path, long: bool
) -> None:
    for seed in range(4, 24 if long else 5):
        run = reference_of(seed)
        assert differing(learned(run), learned(again(run, everything, STAGES))) == []
        shutil.rmtree(tmp_path)


def test_labels_of_test_are_not_even_kept(reference: Run, again: Again) -> None:
    """Test's rows are the same with labels as without them."""
    changed = again(reference, redraw_labels, (ingest,))
    for name in ("data/test.npy", "data/test_id.npy"):
        assert changed.files()[name] == reference.files()[name]
    assert set(Split(np.load(changed.work / "data/test.npy")).label) == {-1}


@pytest.mark.parametrize(
    ("recipe", "task1"), [*((recipe, recipe) for recipe in RECIPES), ("align", "learned")]
)
def test_no_recipe_needs_valid_and_test_to_exist(
    reference: Run, copied: Callable[[Run], Run], recipe: str, task1: str, long: bool
) -> None:
    settings = {"recipe": recipe, "task1": task1}
    run = copied(reference)
    run.stages(fuse, neighbors, fuse=settings)
    before = learned(run)
    for name in OF_VALID_AND_TEST:
        (run.work / name).unlink()
    made = (paths.ALIGNED, paths.LEARNED, paths.ITEM, paths.TASK1_ITEM, paths.ITEM_INFO)
    for path in (*made, paths.NEIGHBORS):
        (run.work / path).unlink()
    content = CONTENT_STAGES if long or task1 == "align" else ()
    run.stages(*content, *VECTOR_STAGES, fuse=settings)
    assert differing(before, learned(run)) == []


@pytest.mark.parametrize("recipe", ["pca", "concat"])
def test_content_knows_of_no_clicks_at_all(
    reference: Run, copied: Callable[[Run], Run], recipe: str, long: bool
) -> None:
    """Encoders, principal components and their neighbours are there before any split is read."""
    run = copied(reference)
    settings = {"recipe": recipe, "task1": recipe}
    run.stages(fuse, neighbors, fuse=settings)
    before = learned(run)
    for split in paths.SPLITS:
        (run.work / paths.split_path(split)).unlink()
    for path in (paths.ITEM, paths.TASK1_ITEM, paths.ITEM_INFO, paths.NEIGHBORS):
        (run.work / path).unlink()
    content = CONTENT_STAGES if long or recipe == "pca" else ()
    run.stages(*content, fuse, neighbors, fuse=settings)
    assert differing(before, learned(run)) == ["data/train.npy"]


def test_the_comparison_sees_a_change_of_train(
    reference: Run, copied: Callable[[Run], Run]
) -> None:
    run = copied(reference)
    path = run.work / paths.split_path("train")
    split = Split(np.load(path))
    split.label[:] = 1 - split.label
    np.save(path, split.rows)
    run.stages(*VECTOR_STAGES, companions)
    moved = differing(learned(reference), learned(run))
    assert {
        "companions/features.json",
        "companions/items.npz",
        "companions/train.npy",
        "embeddings/aligned/vectors.npy",
        "embeddings/aligned/learned.npy",
        "embeddings/item/vectors.npy",
        "embeddings/item/task1.npy",
        "embeddings/neighbors/neighbors.npz",
    } < {*moved}
    assert str(paths.ITEM_INFO) in moved


def test_new_users_of_valid_only_renumber_trains(
    reference: Run, copied: Callable[[Run], Run]
) -> None:
    """User ids are numbers by rank over all splits, which no model reads (`ClickLog`).

    Of train's users stage `companions` makes folds, by their places among each other.
    """
    run = copied(reference)
    new = 37  # of each split, so that no fold of the moved numbers is the same by chance
    change_splits(
        run.raw, lambda table, _: with_column(table, "user_id", -(np.arange(len(table)) % new))
    )
    run.stages(ingest, companions)
    before, after = (Split(np.load(each.work / "data/train.npy")) for each in (reference, run))
    np.testing.assert_array_equal(after.rows[:, :-1], before.rows[:, :-1])
    assert set(after.user - before.user) == {new}
    assert set(differing(learned(reference), learned(run))) == {"data/train.npy"}


def test_the_organisers_statistics_of_items_and_users_are_not_read(
    reference: Run, copied: Callable[[Run], Run]
) -> None:
    """Over which period they counted is unknown, so levels come with the rows that they show."""
    run = copied(reference)
    path = run.raw / "item_feature.parquet"
    table = pq.read_table(path)
    for name in ("likes_level", "views_level"):
        table = with_column(table, name, 10 - np.array(table[name]))
    pq.write_table(table, path)
    (run.raw / "item_seq.parquet").write_bytes(b"no parquet file")
    run.stages(ingest, *VECTOR_STAGES, companions)
    assert differing(learned(reference), learned(run)) == []
    assert stats(run) == stats(reference)


def test_who_reads_valid_and_test() -> None:
    readers = {
        split: {
            name
            for name, stage in GRAPH.items()
            if any(covers(dep, f"data/{split}.npy") for dep in stage["deps"])
        }
        for split in paths.SPLITS
    }
    digests = {"submit"}  # reads every split for nothing else
    trainers = {"judge", "train"}  # choose an epoch by valid
    predictors = {"predict"}
    choosers = {"blend"}  # of models, on valid, for what valid and test are predicted with
    reporters = {"diagnose", "evaluate"}
    describers = {"companions"}  # of their rows, by the clicks of train
    counters = {"align", "companions"}
    packers = {"package"}  # of the levels of their items, which no model has learned by then
    of_all = digests | describers | packers
    assert readers["train"] == counters | trainers | reporters | digests | packers
    of_valid = trainers | predictors | choosers | reporters | {"report"}
    assert readers["valid"] == of_valid | of_all
    assert readers["test"] == predictors | of_all


@pytest.mark.parametrize(
    "name", ["encoder", "embed_text", "embed_image", *VECTORS, "companions", "train"]
)
def test_a_stage_reads_no_more_than_it_declares(reference: Run, tmp_path: Path, name: str) -> None:
    """It runs where nothing else exists, so that the graph's word for what it reads is true."""
    run = Run(reference.raw, tmp_path, reference.seed)
    for dependency in [dep for dep in GRAPH[name]["deps"] if not dep.endswith(".py")]:
        for path in [
            *reference.work.glob(f"{dependency}*"),
            *reference.work.glob(f"{dependency}/**/*"),
        ]:
            if path.is_file():
                target = tmp_path / path.relative_to(reference.work)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    given = set(run.files())
    package = "ctr" if name in ("companions", "train") else "embed"
    run.stages(import_module(f"{package}.{name.split('_')[-1]}"))
    made = {path: content for path, content in run.files().items() if path not in given}
    for file in made:
        assert any(covers(out, file) for out in GRAPH[name]["outs"]), file
    if name != "train":
        before = reference.files()
        assert differing(made, {path: before[path] for path in made}) == []


def test_clicks_on_cold_items_in_valid_leave_them_cold(reference: Run, again: Again) -> None:
    """However often valid and test show an item, its vector is that of an unknown one."""
    cold = cold_items(reference)
    shown = again(
        reference,
        lambda table, rng: with_column(table, "item_id", rng.choice(cold, len(table))),
        OF_SPLITS,
    )
    assert set(Split(np.load(shown.work / "data/valid.npy")).target) <= set(cold)
    assert differing(learned(reference), learned(shown)) == []
