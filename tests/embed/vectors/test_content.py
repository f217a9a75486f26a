from pathlib import Path

import numpy as np
import pytest

from embed.vectors.content import load_content, standardize
from pipeline.common.files import write_array
from pipeline.common.paths import (
    IMAGE,
    IMAGE_PRESENT,
    TEXT,
    TEXT_PRESENT,
    VLM,
    VLM_PRESENT,
    content_files,
    encoder_files,
)
from tests.support.worlds.tiny_world import VECTOR_FILES


def test_present_rows_have_unit_length_less_their_mean_by_hand() -> None:
    vectors = np.array([[9, 9], [3, 4], [0, -2], [9, 9]], np.float32)
    result = standardize(vectors, np.array([False, True, True, False]))
    assert result.dtype == np.float64
    # Unit rows (0.6, 0.8) and (0, -1), of mean (0.3, -0.1).
    expected = np.array([[0, 0], [0.3, 0.9], [-0.3, -0.9], [0, 0]])
    np.testing.assert_allclose(result, expected, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_a_present_row_of_zeros_is_the_mean_apart() -> None:
    result = standardize(np.array([[0.0, 0], [0, 0], [2, 0]]), np.array([False, True, True]))
    np.testing.assert_allclose(result, np.array([[0, 0], [-0.5, 0], [0.5, 0]]))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("width", [0, 3])
def test_no_rows_at_all_stay_zeros(width: int) -> None:
    result = standardize(np.full((4, width), np.nan), np.zeros(4, bool))
    assert result.shape == (4, width)
    assert not result.any()


def test_content_is_each_modality_and_present_any_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    text, image = random.normal(size=(5, 3)), random.normal(size=(5, 2))
    has_text, has_image = np.array([0, 1, 1, 0, 0], bool), np.array([0, 0, 1, 1, 0], bool)
    for path, array in (
        (TEXT, text),
        (TEXT_PRESENT, has_text),
        (IMAGE, image),
        (IMAGE_PRESENT, has_image),
        (VLM, np.zeros((5, 0))),
        (VLM_PRESENT, np.zeros(5, bool)),
    ):
        write_array(path, array)
    content = load_content(VECTOR_FILES)
    assert content.present.tolist() == [False, True, True, True, False]
    assert [part.shape for part in content.parts] == [(5, 3), (5, 2), (5, 0)]
    np.testing.assert_allclose(content.parts[0], standardize(text, has_text), atol=1e-12)
    np.testing.assert_allclose(content.parts[1], standardize(image, has_image), atol=1e-12)


def test_every_encoder_that_is_named_is_read_and_no_other(workspace: Path) -> None:
    assert workspace.is_dir()
    rng = np.random.default_rng(1)
    for name in ("main", "dino", "of_an_earlier_run"):
        for files in (encoder_files("text", name), encoder_files("image", name)):
            write_array(files.vectors, rng.normal(size=(4, 2)))
            write_array(files.present, np.array([0, 1, name != "main", 0], bool))
    write_array(VLM, np.zeros((4, 0)))
    write_array(VLM_PRESENT, np.zeros(4, bool))
    content = load_content(content_files(["main"], ["main", "dino"]))
    assert len(content.parts) == 4
    assert content.present.tolist() == [False, True, True, False]
    alone = load_content(content_files(["main"], ["main"]))
    assert alone.present.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(alone.parts[1], content.parts[1])
