"""The recipes on made-up vectors against plain loops, and the stage on a catalogue's files."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed import fuse as stage
from embed.fuse import fuse
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.common.paths import (
    ALIGNED,
    EXPLAINED_VARIANCE,
    GIVEN_ITEM,
    GIVEN_ITEM_EMB,
    ITEM,
    ITEM_INFO,
    metrics_path,
)
from pipeline.settings.embed.fuse import Fuse
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, N
from tests.embed.vectors.made_up import (
    aligned_vectors,
    content_of,
    cosines,
    parts,
    plain_concatenation,
    plain_scores,
    with_signs_of,
    write_parts,
)
from tests.support.worlds.tiny_world import VECTOR_FILES

NOTHING = np.zeros((50, 0), np.float32)
"""What `align` writes where there is nothing to learn from."""


def fused(
    recipe: str, dim: int, *given: np.ndarray, aligned: np.ndarray = NOTHING
) -> tuple[np.ndarray, np.ndarray]:
    """What `recipe` makes of vectors and presence in turn."""
    section = Fuse.model_validate({"recipe": recipe, "given": "item_info", "dim": dim})
    return fuse(content_of(*given), aligned, section)


def test_pca_is_a_plain_svd_up_to_sign_and_one_scale() -> None:
    given = parts()
    vectors, explained = fused("pca", 5, *given)
    scores, ratios = plain_scores(given, 5)
    np.testing.assert_allclose(vectors, with_signs_of(scores, vectors), atol=1e-5)
    np.testing.assert_allclose(explained, ratios, atol=1e-6)


def test_concatenation_alone_keeps_every_cosine() -> None:
    given = parts()
    vectors, explained = fused("concat", 20, *given)
    expected = plain_concatenation(given)
    np.testing.assert_allclose(cosines(vectors[:, :16]), cosines(expected), atol=1e-5)
    assert not vectors[:, 16:].any()
    assert len(explained) == 0


def test_all_components_keep_every_cosine() -> None:
    given = parts()
    vectors, explained = fused("pca", 32, *given)
    np.testing.assert_allclose(cosines(vectors), cosines(plain_concatenation(given)), atol=1e-5)
    assert explained.sum() == pytest.approx(1)
    assert not vectors[:, len(explained) :].any()


def test_align_passes_its_columns_through_up_to_one_scale() -> None:
    aligned = aligned_vectors()
    vectors, explained = fused("align", 6, *parts(), aligned=aligned)
    norms = np.linalg.norm(aligned.astype(float), axis=1)
    np.testing.assert_allclose(vectors[:, :4], aligned / norms[norms > 0].mean(), rtol=1e-5)
    assert not vectors[:, 4:].any()
    assert len(explained) == 0


def test_both_puts_the_first_components_after_the_aligned_columns_at_their_mean_norm() -> None:
    given, aligned = parts(), aligned_vectors()
    vectors, explained = fused("both", 9, *given, aligned=aligned)
    scores, ratios = plain_scores(given, 5)
    present = given[1] | given[3]
    first = aligned / np.linalg.norm(aligned[present].astype(float), axis=1).mean()
    expected = np.hstack([first, with_signs_of(scores, vectors[:, 4:])])
    expected /= np.linalg.norm(expected[present], axis=1).mean()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(explained, ratios, atol=1e-6)


def test_both_without_room_for_a_component_is_align() -> None:
    given, aligned = parts(), aligned_vectors()
    expected, _ = fused("align", 4, *given, aligned=aligned)
    vectors, explained = fused("both", 4, *given, aligned=aligned)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    assert len(explained) == 0


@pytest.mark.parametrize("recipe", ["align", "both"])
def test_aligned_vectors_without_columns_name_what_to_do(recipe: str) -> None:
    with pytest.raises(InputError, match=rf"{ALIGNED}: has no columns.* fuse\.recipe to pca"):
        fused(recipe, 6, *parts())


@pytest.mark.parametrize("recipe", ["pca", "concat", "align", "both"])
def test_mean_norm_is_1_and_absent_items_are_zero(recipe: str) -> None:
    vectors, _ = fused(recipe, 16, *parts(), aligned=aligned_vectors())
    assert vectors.shape == (50, 16)
    assert vectors.dtype == np.float32
    norms = np.linalg.norm(vectors, axis=1)
    assert np.flatnonzero(norms == 0).tolist() == [0, 7]
    assert norms[norms > 0].mean() == pytest.approx(1, abs=1e-6)


def test_what_stands_in_an_absent_row_does_not_matter() -> None:
    text, text_present, image, image_present = parts()
    expected, _ = fused("pca", 8, text, text_present, image, image_present)
    text[~text_present] = np.nan
    vectors, _ = fused("pca", 8, text, text_present, image, image_present)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_length_of_a_modality_does_not_matter() -> None:
    text, text_present, image, image_present = parts()
    expected, _ = fused("pca", 8, text, text_present, image, image_present)
    vectors, _ = fused("pca", 8, text * 64, text_present, image, image_present)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_components_without_variance_are_dropped() -> None:
    text, text_present, image, image_present = parts(image_dim=4)
    doubled = np.hstack([image, image])
    _, explained = fused("pca", 15, text, text_present, doubled, image_present)
    assert len(explained) == 7 + 4
    assert explained.min() > 1e-6


def test_fewer_items_than_dimensions() -> None:
    vectors, explained = fused("pca", 16, *parts(rows=9))
    assert vectors.shape == (9, 16)
    assert len(explained) <= 7
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("recipe", ["pca", "concat"])
def test_nothing_to_fuse_is_zeros(recipe: str) -> None:
    nothing, absent = np.zeros((5, 0), np.float32), np.zeros(5, bool)
    vectors, explained = fused(recipe, 4, nothing, absent, nothing, absent)
    assert not vectors.any()
    assert vectors.shape == (5, 4)
    assert len(explained) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("recipe", ["pca", "concat"])
def test_all_items_alike_are_zeros(recipe: str) -> None:
    same, present = np.ones((5, 3), np.float32), np.arange(5) > 0
    vectors, _ = fused(recipe, 6, same, present, same, present)
    np.testing.assert_allclose(vectors, 0, atol=1e-6)


@pytest.mark.parametrize("recipe", ["pca", "concat"])
def test_a_modality_that_no_item_has_adds_nothing(recipe: str) -> None:
    text, text_present, _, _ = parts()
    expected, _ = fused(recipe, 7, text, text_present)
    vectors, _ = fused(recipe, 7, text, text_present, np.zeros((50, 0)), np.zeros(50, bool))
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    rows = text[text_present] / np.linalg.norm(text[text_present], axis=1, keepdims=True)
    np.testing.assert_allclose(
        cosines(vectors[text_present]), cosines(rows - rows.mean(axis=0)), atol=1e-5
    )


def test_concatenation_that_does_not_fit_names_the_widths() -> None:
    with pytest.raises(InputError, match=r"features are 16 columns together and fuse\.dim is 15"):
        fused("concat", 15, *parts())


def run_stage(params: Params, **changes: object) -> None:
    stage.main(params.fuse.model_copy(update=changes), VECTOR_FILES)


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
    expected = {"recipe": "align", "items": N, "items_without": 1, "dim": 4}
    assert read_json(metrics_path("fuse")) == expected
    np.testing.assert_array_equal(
        np.stack(pq.read_table(ITEM_INFO)["item_emb_d128"].to_pylist()), read_array(ITEM)
    )


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
    expected = {"recipe": "given", "items": N, "items_without": 0, "dim": 128}
    assert read_json(metrics_path("fuse")) == expected


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
    remedy = f"take {f'fuse.given: {other_name}, or ' if other else ''}another fuse.recipe$"
    with pytest.raises(InputError, match=f"{message}.*{remedy}"):
        run_stage(params, recipe="given", given=name)
    assert not ITEM.exists()
