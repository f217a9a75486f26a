import numpy as np
import pytest

from embed import text
from embed.text import distinct
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.common.paths import GIVEN_TEXT, TEXT, TEXT_PRESENT, array_info, metrics_path
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, N, encode_titles, write_catalogue


def test_rows_are_the_items_titles(trained: Catalogue, params: Params) -> None:
    text.main(params.embed_text)
    vectors, present = read_array(TEXT), read_array(TEXT_PRESENT)
    absent = [0, *trained.untitled]
    assert np.flatnonzero(~present).tolist() == absent
    assert not vectors[absent].any()
    for item in np.flatnonzero(present):
        expected = encode_titles(params.embed_text, [trained.titles[item]])[0]
        np.testing.assert_allclose(vectors[item], expected, atol=1e-5)
    first, second = trained.same_title
    np.testing.assert_array_equal(vectors[first], vectors[second])


def test_metrics_and_provenance(trained: Catalogue, params: Params) -> None:
    text.main(params.embed_text)
    assert read_json(metrics_path("embed_text/main")) == {
        "items": N,
        "empty": len(trained.untitled),
        "dim": params.encoder.embed_dim,
    }
    info = read_json(array_info(TEXT))
    assert info["shape"] == [N + 1, params.encoder.embed_dim]
    assert info["dtype"] == "float32"
    assert info["encoder"] == "open_clip trained"
    assert len(info["weights_sha256"]) == 64
    assert {"torch", "open_clip_torch"} <= info["versions"].keys()


def test_no_title_at_all(trained: Catalogue, params: Params) -> None:
    trained.titles[:] = [""] * (N + 1)
    write_catalogue(trained)
    text.main(params.embed_text)
    assert read_array(TEXT).shape == (N + 1, 0)
    assert not read_array(TEXT_PRESENT).any()


def test_given_vectors_pass_through(catalogue: Catalogue, params: Params) -> None:
    given = np.random.default_rng(0).normal(size=(len(catalogue.titles), 3)).astype(np.float32)
    given[4] = 0
    write_array(GIVEN_TEXT, given)
    section = params.embed_text.model_copy(update={"library": "given"})
    text.main(params.model_copy(update={"embed_text": section}).embed_text)
    np.testing.assert_array_equal(read_array(TEXT)[1:], given[1:])
    assert np.flatnonzero(~read_array(TEXT_PRESENT)).tolist() == [0, 4]
    assert read_json(array_info(TEXT))["encoder"] == "given"


def test_given_vectors_that_are_not_there(catalogue: Catalogue, params: Params) -> None:
    write_array(GIVEN_TEXT, np.zeros((len(catalogue.titles), 0), np.float32))
    section = params.embed_text.model_copy(update={"library": "given"})
    with pytest.raises(InputError, match=r"embed_text\.library .* the source has none"):
        text.main(params.model_copy(update={"embed_text": section}).embed_text)
    assert not TEXT.exists()


def test_distinct_titles_keep_their_order() -> None:
    texts, index = distinct(["", "b", "a", " ", "b", "c"])
    assert texts == ["b", "a", "c"]
    assert index.tolist() == [-1, 0, 1, -1, 0, 2]
