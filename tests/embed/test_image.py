import logging

import numpy as np
import open_clip
import pytest
import torch

from embed import image
from embed.covers.decode import decode
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.common.paths import (
    ENCODER,
    GIVEN_IMAGE,
    IMAGE,
    IMAGE_PRESENT,
    array_info,
    encoder_files,
    metrics_path,
)
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, N, write_catalogue


def with_image(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"embed_image": params.embed_image.model_copy(update=changes)})


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_the_items_covers(trained: Catalogue, params: Params, workers: int) -> None:
    """Against open_clip's own model and preprocessing, one cover at a time."""
    image.main(with_image(params, workers=workers).embed_image)
    vectors, present = read_array(IMAGE), read_array(IMAGE_PRESENT)
    assert np.flatnonzero(present).tolist() == trained.embeddable
    assert not vectors[~present].any()
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{ENCODER}")
    model.eval()
    for item in trained.embeddable:
        with torch.no_grad():
            expected = model.encode_image(preprocess(decode(trained.covers[item]))[None])[0]
        np.testing.assert_allclose(vectors[item], expected.numpy(), atol=1e-5)


def test_each_encoder_has_files_of_its_own(trained: Catalogue, params: Params) -> None:
    assert trained.covers
    image.main(params.embed_image)
    files, main = encoder_files("image", "small"), IMAGE.read_bytes()
    batches = with_image(params, batch_size=3).embed_image
    image.main(batches, "small")
    np.testing.assert_allclose(read_array(files.vectors), read_array(IMAGE), atol=1e-5)
    assert files.present.read_bytes() == IMAGE_PRESENT.read_bytes()
    assert IMAGE.read_bytes() == main
    assert read_json(metrics_path("embed_image/small")) == read_json(
        metrics_path("embed_image/main")
    )


def test_a_fault_of_another_encoder_is_told_by_its_place(
    trained: Catalogue, params: Params
) -> None:
    assert trained.covers
    message = r"^image_encoders\.dino \(which is embed_image but for .*timm .* knows no such model"
    with pytest.raises(InputError, match=message):
        image.main(with_image(params, library="timm", model="vit_smal").embed_image, "dino")


def test_workers_do_not_change_a_bit(trained: Catalogue, params: Params) -> None:
    assert trained.covers
    image.main(with_image(params, workers=0).embed_image)
    alone = IMAGE.read_bytes()
    image.main(with_image(params, workers=2).embed_image)
    assert IMAGE.read_bytes() == alone


def test_unreadable_covers_are_counted_and_named_once(
    trained: Catalogue, params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    image.main(params.embed_image)
    raw_ids = [trained.item_ids[item] for item in trained.unreadable]
    assert read_json(metrics_path("embed_image/main")) == {
        "items": N,
        "covers": N - len(trained.uncovered),
        "missing": len(trained.uncovered),
        "unreadable": 2,
        "unreadable_items": raw_ids,
        "dim": params.encoder.embed_dim,
    }
    (record,) = [record for record in caplog.records if record.name == "embed.covers.decode"]
    assert record.getMessage().startswith("2 covers are unreadable")
    assert all(f"item {raw_id}:" in record.getMessage() for raw_id in raw_ids)


def test_only_the_first_unreadable_items_are_named(trained: Catalogue, params: Params) -> None:
    for item in range(13, N + 1):
        trained.covers[item] = b"not a picture"
    write_catalogue(trained)
    image.main(params.embed_image)
    metrics = read_json(metrics_path("embed_image/main"))
    assert metrics["unreadable"] == N - 10
    assert metrics["unreadable_items"] == trained.item_ids[11:31]


def test_no_readable_cover_at_all(trained: Catalogue, params: Params) -> None:
    for item in trained.covers:
        trained.covers[item] = b""
    write_catalogue(trained)
    image.main(params.embed_image)
    assert read_array(IMAGE).shape == (N + 1, 0)
    assert not read_array(IMAGE_PRESENT).any()
    assert read_json(metrics_path("embed_image/main"))["unreadable"] == len(trained.covers)


def test_given_vectors_pass_through(catalogue: Catalogue, params: Params) -> None:
    given = np.random.default_rng(0).normal(size=(len(catalogue.titles), 3)).astype(np.float32)
    given[[0, 4]] = 0
    write_array(GIVEN_IMAGE, given)
    image.main(with_image(params, library="given").embed_image)
    np.testing.assert_array_equal(read_array(IMAGE), given)
    assert read_json(metrics_path("embed_image/main"))["missing"] == 1
    assert read_json(array_info(IMAGE_PRESENT))["encoder"] == "given"


def test_given_vectors_that_are_not_there(catalogue: Catalogue, params: Params) -> None:
    write_array(GIVEN_IMAGE, np.zeros((len(catalogue.titles), 0), np.float32))
    with pytest.raises(InputError, match=r"embed_image\.library .* the source has none"):
        image.main(with_image(params, library="given").embed_image)
