import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed import fuse as stage
from embed.fuse import fuse
from pipeline.params import Params
from pipeline.schema import (
    GIVEN_ITEM,
    IMAGE,
    IMAGE_PRESENT,
    ITEM,
    ITEM_INFO,
    TEXT,
    TEXT_PRESENT,
    InputError,
    metrics_path,
    read_array,
    read_json,
    write_array,
)
from tests.embed.conftest import Catalogue, N

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


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


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return np.asarray(unit @ unit.T)


def test_pca_is_a_plain_svd_up_to_sign_and_one_scale() -> None:
    given = parts()
    vectors, explained = fuse(*given, dim=5, pca=True)
    joined = plain_concatenation(given)
    present = given[1] | given[3]
    _, singular, axes = np.linalg.svd(joined[present], full_matrices=False)
    scores = joined @ axes[:5].T
    scores /= np.linalg.norm(scores[present], axis=1).mean()
    for column in range(5):
        sign = np.sign(scores[:, column] @ vectors[:, column])
        np.testing.assert_allclose(vectors[:, column], sign * scores[:, column], atol=1e-5)
    np.testing.assert_allclose(explained, (singular**2 / (singular**2).sum())[:5], atol=1e-6)


def test_concatenation_alone_keeps_every_cosine() -> None:
    given = parts()
    vectors, explained = fuse(*given, dim=20, pca=False)
    expected = plain_concatenation(given)
    np.testing.assert_allclose(cosines(vectors[:, :16]), cosines(expected), atol=1e-5)
    assert not vectors[:, 16:].any()
    assert explained.sum() == pytest.approx(1)
    assert len(explained) == 16


def test_all_components_keep_every_cosine() -> None:
    given = parts()
    vectors, explained = fuse(*given, dim=32, pca=True)
    np.testing.assert_allclose(cosines(vectors), cosines(plain_concatenation(given)), atol=1e-5)
    assert explained.sum() == pytest.approx(1)
    assert not vectors[:, len(explained) :].any()


@pytest.mark.parametrize("pca", [True, False])
def test_mean_norm_is_1_and_absent_items_are_zero(pca: bool) -> None:
    vectors, _ = fuse(*parts(), dim=16, pca=pca)
    assert vectors.shape == (50, 16)
    assert vectors.dtype == np.float32
    norms = np.linalg.norm(vectors, axis=1)
    assert np.flatnonzero(norms == 0).tolist() == [0, 7]
    assert norms[norms > 0].mean() == pytest.approx(1, abs=1e-6)


def test_what_stands_in_an_absent_row_does_not_matter() -> None:
    text, text_present, image, image_present = parts()
    expected, _ = fuse(text, text_present, image, image_present, 8, True)
    text[~text_present] = np.nan
    vectors, _ = fuse(text, text_present, image, image_present, 8, True)
    np.testing.assert_array_equal(vectors, expected)


def test_length_of_a_modality_does_not_matter() -> None:
    text, text_present, image, image_present = parts()
    expected, _ = fuse(text, text_present, image, image_present, 8, True)
    vectors, _ = fuse(text * 64, text_present, image, image_present, 8, True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_components_without_variance_are_dropped() -> None:
    text, text_present, image, image_present = parts(image_dim=4)
    doubled = np.hstack([image, image])
    _, explained = fuse(text, text_present, doubled, image_present, 15, True)
    assert len(explained) == 7 + 4
    assert explained.min() > 1e-6


def test_fewer_items_than_dimensions() -> None:
    vectors, explained = fuse(*parts(rows=9), dim=16, pca=True)
    assert vectors.shape == (9, 16)
    assert len(explained) <= 7
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("pca", [True, False])
def test_nothing_to_fuse_is_zeros(pca: bool) -> None:
    nothing, absent = np.zeros((5, 0), np.float32), np.zeros(5, bool)
    vectors, explained = fuse(nothing, absent, nothing, absent, 4, pca)
    assert not vectors.any()
    assert vectors.shape == (5, 4)
    assert len(explained) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pca", [True, False])
def test_all_items_alike_are_zeros(pca: bool) -> None:
    same, present = np.ones((5, 3), np.float32), np.arange(5) > 0
    vectors, _ = fuse(same, present, same, present, 6, pca)
    np.testing.assert_allclose(vectors, 0, atol=1e-6)


def test_one_modality_alone() -> None:
    text, text_present, _, _ = parts()
    vectors, _ = fuse(text, text_present, np.zeros((50, 0)), np.zeros(50, bool), 7, True)
    rows = text[text_present] / np.linalg.norm(text[text_present], axis=1, keepdims=True)
    expected = cosines(rows - rows.mean(axis=0))
    np.testing.assert_allclose(cosines(vectors[text_present]), expected, atol=1e-5)


def test_concatenation_that_does_not_fit_names_the_widths() -> None:
    with pytest.raises(InputError, match=r"text \(7\) and image \(9\) are 16 .* fuse\.dim is 15"):
        fuse(*parts(), dim=15, pca=False)


def with_fuse(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"fuse": params.fuse.model_copy(update=changes)})


def write_parts() -> Parts:
    given = parts(rows=N + 1)
    for path, array in zip((TEXT, TEXT_PRESENT, IMAGE, IMAGE_PRESENT), given, strict=True):
        write_array(path, array)
    return given


def test_stage_writes_vectors_metrics_and_task_1(catalogue: Catalogue, params: Params) -> None:
    given = write_parts()
    stage.main(with_fuse(params, dim=6))
    expected, explained = fuse(*given, 6, True)
    np.testing.assert_array_equal(read_array(ITEM), expected)
    metrics = read_json(metrics_path("fuse"))
    assert metrics == {
        "given": False,
        "components": 6,
        "explained_variance_ratio": pytest.approx(explained.sum()),
        "items": N,
        "items_without": 1,
        "dim": 6,
    }
    table = pq.read_table(ITEM_INFO)
    assert table["item_id"].to_pylist() == catalogue.item_ids
    assert table["item_tags"].to_pylist() == catalogue.tags
    np.testing.assert_array_equal(np.stack(table["item_emb_d128"].to_pylist()), expected)


def test_stage_gives_the_same_bytes_twice(catalogue: Catalogue, params: Params) -> None:
    assert catalogue.titles
    write_parts()
    runs = []
    for _ in range(2):
        stage.main(params)
        runs.append([path.read_bytes() for path in (ITEM, ITEM_INFO, metrics_path("fuse"))])
    assert runs[0] == runs[1]


def test_given_item_vectors_are_used_as_they_are(catalogue: Catalogue, params: Params) -> None:
    given = np.random.default_rng(0).normal(size=(len(catalogue.titles), 128)).astype(np.float32)
    write_array(GIVEN_ITEM, given)
    stage.main(with_fuse(params, given=True))
    np.testing.assert_array_equal(read_array(ITEM)[1:], given[1:])
    assert not read_array(ITEM)[0].any()
    assert pq.read_schema(ITEM_INFO).field("item_emb_d128").type == pa.list_(pa.float32())


@pytest.mark.parametrize(("width", "message"), [(129, "129 columns"), (0, "the source has none")])
def test_given_item_vectors_that_cannot_be_used(
    catalogue: Catalogue, params: Params, width: int, message: str
) -> None:
    write_array(GIVEN_ITEM, np.zeros((len(catalogue.titles), width), np.float32))
    with pytest.raises(InputError, match=message):
        stage.main(with_fuse(params, given=True))
    assert not ITEM.exists()
