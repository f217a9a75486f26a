"""The recipes on made-up vectors, against plain loops."""

import numpy as np
import pytest

from embed.vectors.recipes import fuse
from pipeline.common.files import InputError
from pipeline.common.paths import (
    ALIGNED,
)
from tests.embed.vectors.made_up import (
    aligned_vectors,
    content_of,
    cosines,
    parts,
    plain_concatenation,
    plain_scores,
    with_signs_of,
)

NOTHING = np.zeros((50, 0), np.float32)
"""What `align` writes where there is nothing to learn from."""


def fused(
    recipe: str, dim: int, *given: np.ndarray, aligned: np.ndarray = NOTHING
) -> tuple[np.ndarray, np.ndarray]:
    """What `recipe` makes of vectors and presence in turn."""
    return fuse(content_of(*given), aligned, recipe, dim)


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
