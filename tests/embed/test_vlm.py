from pathlib import Path

import numpy as np
import pytest
import torch

from embed import vlm
from embed.covers.decode import decode
from embed.encoders.titled_covers import readable
from embed.encoders.vision_language import load_vision_language
from pipeline.common.files import read_array, read_json
from pipeline.common.paths import VLM, VLM_PRESENT, array_info, metrics_path
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, Catalogue, N, write_catalogue
from tests.support.worlds.tiny_vlm import WIDTH, save_vlm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vlm(tmp_path_factory.mktemp("vlm"))


def with_vlm(params: Params, model: Path, **changes: object) -> Params:
    settings = {"library": "transformers", "model": str(model), "local": str(model), **changes}
    section = params.embed_vlm.model_copy(
        update={"batch_size": 6, "shard_size": 15, "workers": 0} | settings
    )
    return params.model_copy(update={"embed_vlm": section})


def test_rows_are_the_items_titles_and_covers(
    catalogue: Catalogue, params: Params, model: Path
) -> None:
    catalogue.titles[9] = ""  # no cover either
    catalogue.titles[11] = " "  # and its cover is unreadable
    write_catalogue(catalogue)
    settings = with_vlm(params, model)
    vlm.main(settings.embed_vlm)
    vectors, present = read_array(VLM), read_array(VLM_PRESENT)
    assert vectors.shape == (N + 1, WIDTH)
    assert np.flatnonzero(~present).tolist() == [0, 9, 11]
    assert not vectors[~present].any()
    prompts, encoder = load_vision_language(settings.embed_vlm, CPU)
    for item in (1, 5, 6, 7, 8, 10, 12, 40):
        cover = decode(catalogue.covers[item]) if item in catalogue.embeddable else None
        inputs = prompts([catalogue.titles[item].strip()], [cover])
        alone = encoder.forward({name: torch.from_numpy(x) for name, x in inputs.items()})
        np.testing.assert_allclose(vectors[item], alone[0].numpy(), rtol=0, atol=1e-3)
    assert np.abs(vectors[7] - vectors[8]).max() > 1e-3  # one title, two covers


def test_metrics_and_provenance(catalogue: Catalogue, params: Params, model: Path) -> None:
    vlm.main(with_vlm(params, model).embed_vlm)
    raw_ids = [catalogue.item_ids[item] for item in catalogue.unreadable]
    assert read_json(metrics_path("embed_vlm")) == {
        "items": N,
        "absent": 0,
        "dim": WIDTH,
        "unreadable": 2,
        "unreadable_items": raw_ids,
    }
    info = read_json(array_info(VLM))
    assert info["layer"] == -2
    assert info["prompt"] == params.embed_vlm.prompt
    assert info["encoder"] == f"transformers {model}"


@pytest.mark.usefixtures("catalogue")
def test_workers_and_shards_taken_up_do_not_change_a_bit(
    params: Params, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm.main(with_vlm(params, model).embed_vlm)
    undisturbed = VLM.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("embed.extraction.shards.Shards.clear", lambda _self: None)
        vlm.main(with_vlm(params, model, workers=2).embed_vlm)
    assert VLM.read_bytes() == undisturbed
    shards = sorted(Path("scratch/embed_vlm").glob("*/shard-*"))
    assert len(shards) == 3
    shards[1].unlink()
    vlm.main(with_vlm(params, model).embed_vlm)
    assert VLM.read_bytes() == undisturbed


def test_left_out(catalogue: Catalogue, params: Params) -> None:
    assert params.embed_vlm.library == "none"
    vlm.main(params.embed_vlm)
    assert read_array(VLM).shape == (len(catalogue.titles), 0)
    assert read_array(VLM).dtype == np.float32
    assert not read_array(VLM_PRESENT).any()
    assert read_json(metrics_path("embed_vlm"))["absent"] == N
    assert read_json(array_info(VLM))["encoder"] == "none"


def test_nothing_to_read_at_all(catalogue: Catalogue, params: Params, model: Path) -> None:
    catalogue.titles[:] = [""] * (N + 1)
    catalogue.covers.clear()
    catalogue.covers[3] = b"torn"
    write_catalogue(catalogue)
    vlm.main(with_vlm(params, model).embed_vlm)
    assert read_array(VLM).shape == (N + 1, 0)
    assert not read_array(VLM_PRESENT).any()


def test_items_that_can_be_read() -> None:
    assert readable(["", "a", " ", "", "b"], np.array([3, 4])).tolist() == [1, 3, 4]
