import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed import fuse as stage
from embed.fuse import fuse
from embed.vectors.content import Content, standardize
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.common.paths import (
    ALIGNED,
    EXPLAINED_VARIANCE,
    GIVEN_ITEM,
    GIVEN_ITEM_EMB,
    IMAGE,
    IMAGE_PRESENT,
    ITEM,
    ITEM_INFO,
    TEXT,
    TEXT_PRESENT,
    VLM,
    VLM_PRESENT,
    metrics_path,
)
from pipeline.settings.embed.fuse import Fuse
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, N

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
NOTHING = np.zeros((50, 0), np.float32)
"""What `align` writes where there is nothing to learn from."""


def parts(rows: int = 50, text_dim: int = 7, image_dim: int = 9) -> Parts:
    """Text and image vectors; items 3 to 6 lack one, item 7 both; row 0 is padding."""
    random = np.random.default_rng(1)
    text = random.normal(2, [1 + i for i in range(text_dim)], (rows, text_dim)).astype(np.float32)
    image = random.normal(-1, 3, (rows, image_dim)).astype(np.float32)
    text_present, image_present = np.ones(rows, bool), np.ones(rows, bool)
    text_present[[0, 3, 4, 7]] = False
    image_present[[0, 5, 6, 7]] = False
    text[~text_present] = 0
    image[~image_present] = 0
    return text, text_present, image, image_present


def content_of(*given: np.ndarray) -> Content:
    """Vectors and presence in turn, as `load_content` would make them content."""
    present = list(given[1::2])
    joined = [standardize(vectors, rows) for vectors, rows in zip(given[::2], present, strict=True)]
    return Content(joined, np.logical_or.reduce(present))


def asked(recipe: str, dim: int) -> Fuse:
    return Fuse.model_validate({"recipe": recipe, "given": "item_info", "dim": dim})


def fused(recipe: str, dim: int, *given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`given` by a recipe that does not ask for aligned vectors."""
    section = asked(recipe, dim)
    return fuse(content_of(*given), NOTHING, section)


def aligned_vectors(columns: int = 4) -> np.ndarray:
    """Of the items of `parts`; float32, of mean norm about 20."""
    vectors = np.random.default_rng(2).normal(0, 10, (50, columns)).astype(np.float32)
    vectors[[0, 7]] = 0
    return vectors


def plain_concatenation(text: Parts, rows: int = 50) -> np.ndarray:
    """Item by item, in plain loops: unit rows less their mean, zeros where absent."""
    columns = []
    for vectors, present in ((text[0], text[1]), (text[2], text[3])):
        unit = {
            i: vectors[i].astype(float) / np.sqrt((vectors[i].astype(float) ** 2).sum())
            for i in range(rows)
            if present[i]
        }
        mean = sum(unit.values()) / len(unit)
        columns.append([unit[i] - mean if i in unit else mean * 0 for i in range(rows)])
    return np.concatenate(columns, axis=1)


def plain_scores(given: Parts, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(50, columns) by a plain SVD, of mean norm 1 over present rows, and the variance ratios."""
    joined = plain_concatenation(given)
    present = given[1] | given[3]
    _, singular, axes = np.linalg.svd(joined[present], full_matrices=False)
    scores = joined @ axes[:columns].T
    ratios = singular**2 / (singular**2).sum()
    return scores / np.linalg.norm(scores[present], axis=1).mean(), ratios[:columns]


def with_signs_of(columns: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    return np.asarray(columns * np.sign((columns * pattern).sum(axis=0)))


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return np.asarray(unit @ unit.T)


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
    section = asked("align", 6)
    vectors, explained = fuse(content_of(*parts()), aligned, section)
    norms = np.linalg.norm(aligned.astype(float), axis=1)
    np.testing.assert_allclose(vectors[:, :4], aligned / norms[norms > 0].mean(), rtol=1e-5)
    assert not vectors[:, 4:].any()
    assert len(explained) == 0


def test_both_puts_the_first_components_after_the_aligned_columns_at_their_mean_norm() -> None:
    given, aligned = parts(), aligned_vectors()
    vectors, explained = fuse(content_of(*given), aligned, asked("both", 9))
    scores, ratios = plain_scores(given, 5)
    present = given[1] | given[3]
    first = aligned / np.linalg.norm(aligned[present].astype(float), axis=1).mean()
    expected = np.hstack([first, with_signs_of(scores, vectors[:, 4:])])
    expected /= np.linalg.norm(expected[present], axis=1).mean()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(explained, ratios, atol=1e-6)


def test_both_without_room_for_a_component_is_align() -> None:
    content, aligned = content_of(*parts()), aligned_vectors()
    expected, _ = fuse(content, aligned, asked("align", 4))
    vectors, explained = fuse(content, aligned, asked("both", 4))
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    assert len(explained) == 0


@pytest.mark.parametrize("recipe", ["align", "both"])
def test_aligned_vectors_without_columns_name_what_to_do(recipe: str) -> None:
    section = asked(recipe, 6)
    with pytest.raises(InputError, match=r"aligned\.npy: has no columns.* fuse\.recipe to pca"):
        fuse(content_of(*parts()), NOTHING, section)


@pytest.mark.parametrize("recipe", ["pca", "concat", "align", "both"])
def test_mean_norm_is_1_and_absent_items_are_zero(recipe: str) -> None:
    section = asked(recipe, 16)
    vectors, _ = fuse(content_of(*parts()), aligned_vectors(), section)
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


def with_fuse(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"fuse": params.fuse.model_copy(update=changes)})


def write_parts() -> list[np.ndarray]:
    """What the embedding stages and `align` write; item 7 has nothing but a vector of the VLM."""
    vlm, vlm_present = np.random.default_rng(3).normal(size=(N + 1, 3)), np.arange(N + 1) % 5 == 2
    given = [*parts(rows=N + 1), vlm.astype(np.float32), vlm_present]
    paths = (TEXT, TEXT_PRESENT, IMAGE, IMAGE_PRESENT, VLM, VLM_PRESENT)
    for path, array in zip(paths, given, strict=True):
        write_array(path, array)
    write_array(ALIGNED, aligned_vectors()[: N + 1])
    return given


def test_stage_writes_vectors_metrics_and_task_1(catalogue: Catalogue, params: Params) -> None:
    given = write_parts()
    stage.main(with_fuse(params, recipe="pca", dim=6).fuse)
    expected, explained = fused("pca", 6, *given)
    np.testing.assert_allclose(read_array(ITEM), expected, atol=1e-6)
    metrics = read_json(metrics_path("fuse"))
    assert metrics == {
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
    stage.main(with_fuse(params, recipe="align", dim=4).fuse)
    np.testing.assert_allclose(
        cosines(read_array(ITEM)), cosines(aligned_vectors()[: N + 1].astype(float)), atol=1e-6
    )
    metrics = read_json(metrics_path("fuse"))
    assert metrics == {
        "recipe": "align",
        "items": N,
        "items_without": 1,
        "dim": 4,
    }
    np.testing.assert_array_equal(
        np.stack(pq.read_table(ITEM_INFO)["item_emb_d128"].to_pylist()), read_array(ITEM)
    )


@pytest.mark.usefixtures("catalogue")
@pytest.mark.parametrize("recipe", ["align", "pca"])
def test_stage_tells_what_pca_explains_whatever_the_recipe(params: Params, recipe: str) -> None:
    given = write_parts()
    stage.main(with_fuse(params, recipe=recipe, dim=6).fuse)
    _, ratios = fused("pca", 6, *given)
    table = pd.read_csv(EXPLAINED_VARIANCE)
    assert table["components"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(table["explained"], ratios.cumsum(), rtol=1e-9)
    assert table["explained"].iloc[-1] < 1


@pytest.mark.usefixtures("catalogue")
def test_vlm_vectors_are_a_third_part(params: Params) -> None:
    given = write_parts()
    stage.main(with_fuse(params, recipe="concat", dim=20).fuse)
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
        stage.main(with_fuse(params, recipe=recipe).fuse)
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
    stage.main(with_fuse(params, recipe="given", given=name).fuse)
    np.testing.assert_array_equal(read_array(ITEM)[1:], given[1:])
    assert not read_array(ITEM)[0].any()
    assert pd.read_csv(EXPLAINED_VARIANCE)["explained"].iloc[-1] == pytest.approx(1)
    assert pq.read_schema(ITEM_INFO).field("item_emb_d128").type == pa.list_(pa.float32())
    assert read_json(metrics_path("fuse")) == {
        "recipe": "given",
        "items": N,
        "items_without": 0,
        "dim": 128,
    }


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
        stage.main(with_fuse(params, recipe="given", given=name).fuse)
    assert not ITEM.exists()
