"""The stage on a catalogue's files."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed import fuse as stage
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.common.paths import (
    EXPLAINED_VARIANCE,
    GIVEN_ITEM,
    GIVEN_ITEM_EMB,
    ITEM,
    ITEM_INFO,
    LEARNED,
    TASK1_ITEM,
    metrics_path,
)
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, N
from tests.embed.vectors.made_up import (
    aligned_vectors,
    cosines,
    learned_vectors,
    plain_concatenation,
    write_parts,
)
from tests.embed.vectors.test_recipes import fused
from tests.support.worlds.tiny_world import VECTOR_FILES


def run_stage(params: Params, **changes: object) -> None:
    """Task 1 by the same recipe where `changes` name no other."""
    both = {"task1": changes.get("recipe", params.fuse.task1)}
    stage.main(params.fuse.model_copy(update=both | changes), VECTOR_FILES)


def test_stage_writes_vectors_metrics_and_task_1(catalogue: Catalogue, params: Params) -> None:
    given = write_parts()
    run_stage(params, recipe="pca", dim=6)
    expected, explained = fused("pca", 6, *given)
    np.testing.assert_allclose(read_array(ITEM), expected, atol=1e-6)
    assert read_json(metrics_path("fuse")) == {
        "recipe": "pca",
        "components": 6,
        "explained_variance_ratio": pytest.approx(explained.sum()),
        "items": N,
        "items_without": 0,
        "dim": 6,
        "task1": {"recipe": "pca", "items_without": 0, "dim": 6},
    }
    table = pq.read_table(ITEM_INFO)
    assert table["item_id"].to_pylist() == catalogue.item_ids
    assert table["item_tags"].to_pylist() == catalogue.tags
    np.testing.assert_array_equal(np.stack(table["item_emb_d128"].to_pylist()), read_array(ITEM))


@pytest.mark.usefixtures("catalogue")
def test_stage_reads_the_aligned_vectors(params: Params) -> None:
    write_parts()
    run_stage(params, recipe="align", dim=4)
    np.testing.assert_allclose(
        cosines(read_array(ITEM)), cosines(aligned_vectors()[: N + 1].astype(float)), atol=1e-6
    )
    found = {"recipe": "align", "items_without": 1, "dim": 4}
    assert read_json(metrics_path("fuse")) == found | {"items": N, "task1": found}
    np.testing.assert_array_equal(task1_file(), read_array(ITEM))


def task1_file() -> np.ndarray:
    return np.stack(pq.read_table(ITEM_INFO)["item_emb_d128"].to_pylist())


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("recipe", ["align", "pca", "concat"])
def test_task_1_has_a_recipe_of_its_own(params: Params, recipe: str) -> None:
    given = write_parts()
    run_stage(params, recipe=recipe, task1="learned", dim=20)
    expected, _ = fused(recipe, 20, *given, aligned=aligned_vectors()[: N + 1])
    np.testing.assert_allclose(read_array(ITEM), expected, atol=1e-6)
    learned = learned_vectors()[: N + 1].astype(float)
    norms = np.linalg.norm(learned, axis=1)
    np.testing.assert_allclose(
        task1_file()[:, :3], learned / norms[norms > 0].mean(), rtol=1e-5, atol=1e-7
    )
    assert not task1_file()[:, 3:].any()
    np.testing.assert_array_equal(task1_file(), read_array(TASK1_ITEM))
    told = read_json(metrics_path("fuse"))
    assert told["recipe"] == recipe
    assert told["task1"] == {"recipe": "learned", "items_without": 1, "dim": 20}
    run_stage(params, recipe="align", task1=recipe, dim=20)
    np.testing.assert_allclose(task1_file(), expected, atol=1e-6)


@pytest.mark.usefixtures("catalogue")
def test_learned_vectors_without_columns_name_what_to_do(params: Params) -> None:
    write_parts()
    write_array(LEARNED, np.zeros((N + 1, 0), np.float32))
    with pytest.raises(InputError, match=r"learned\.npy: has no columns.*fuse\.task1 to pca"):
        run_stage(params, recipe="pca", task1="learned")
    assert not ITEM.exists()


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("recipe", ["align", "pca"])
def test_stage_tells_what_pca_explains_whatever_the_recipe(params: Params, recipe: str) -> None:
    given = write_parts()
    run_stage(params, recipe=recipe, dim=6)
    _, ratios = fused("pca", 6, *given)
    table = pd.read_csv(EXPLAINED_VARIANCE)
    assert table["components"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(table["explained"], ratios.cumsum(), rtol=1e-9)
    assert table["explained"].iloc[-1] < 1


@pytest.mark.usefixtures("catalogue")
def test_vlm_vectors_are_a_third_part(params: Params) -> None:
    given = write_parts()
    run_stage(params, recipe="concat", dim=20)
    two = plain_concatenation((given[0], given[1], given[2], given[3]), N + 1)
    rows = given[4][given[5]].astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    third = np.zeros((N + 1, 3))
    third[given[5]] = rows - rows.mean(axis=0)
    expected = cosines(np.hstack([two, third]))
    np.testing.assert_allclose(cosines(read_array(ITEM)[:, :19]), expected, atol=1e-5)


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("recipe", ["both", "pca"])
def test_stage_gives_the_same_bytes_twice(params: Params, recipe: str) -> None:
    write_parts()
    runs = []
    for _ in range(2):
        run_stage(params, recipe=recipe)
        runs.append([path.read_bytes() for path in (ITEM, ITEM_INFO, metrics_path("fuse"))])
    assert runs[0] == runs[1]


GIVEN = {"item_info": GIVEN_ITEM, "item_emb": GIVEN_ITEM_EMB}


@pytest.mark.parametrize("name", GIVEN)
def test_given_item_vectors_are_used_as_they_are(
    catalogue: Catalogue, params: Params, name: str
) -> None:
    random, shape = np.random.default_rng(0), (len(catalogue.titles), 128)
    for path in GIVEN.values():
        write_array(path, random.normal(size=shape).astype(np.float32))
    given = read_array(GIVEN[name])
    run_stage(params, recipe="given", given=name)
    np.testing.assert_array_equal(read_array(ITEM)[1:], given[1:])
    assert not read_array(ITEM)[0].any()
    assert pd.read_csv(EXPLAINED_VARIANCE)["explained"].iloc[-1] == pytest.approx(1)
    assert pq.read_schema(ITEM_INFO).field("item_emb_d128").type == pa.list_(pa.float32())
    found = {"recipe": "given", "items_without": 0, "dim": 128}
    assert read_json(metrics_path("fuse")) == found | {"items": N, "task1": found}


@pytest.mark.parametrize("other", [0, 128])
@pytest.mark.parametrize(("width", "message"), [(129, "129 columns"), (0, "the source has none")])
@pytest.mark.parametrize("name", GIVEN)
def test_given_item_vectors_that_cannot_be_used(
    catalogue: Catalogue, params: Params, name: str, width: int, message: str, other: int
) -> None:
    for each, path in GIVEN.items():
        columns = width if each == name else other
        write_array(path, np.zeros((len(catalogue.titles), columns), np.float32))
    (other_name,) = GIVEN.keys() - {name}
    remedy = f"take {f'fuse.given: {other_name}, or ' if other else ''}another fuse.recipe"
    with pytest.raises(InputError, match=f"{message}.*{remedy} and fuse.task1$"):
        run_stage(params, recipe="given", given=name)
    write_parts()
    with pytest.raises(InputError, match=f"{message}.*{remedy}$"):
        run_stage(params, recipe="given", given=name, task1="learned")
    assert not ITEM.exists()
