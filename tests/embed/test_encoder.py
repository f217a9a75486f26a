import errno
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
from safetensors.numpy import load_file
from torch import Tensor

from embed import encoder
from embed.covers.batches import CoverBatch, read_covers
from embed.encoder import HELD_OUT, split
from pipeline.common.files import InputError, read_json
from pipeline.common.paths import COVERS, ENCODER, metrics_path
from pipeline.common.stage import StoppedError
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, N, write_catalogue


def test_open_clip_loads_what_was_written(trained: Catalogue, params: Params) -> None:
    assert trained.titles[1].startswith("lime")
    model, _, _ = open_clip.create_model_and_transforms(
        f"local-dir:{ENCODER}", require_pretrained=True
    )
    written = load_file(ENCODER / "open_clip_model.safetensors")
    assert model.state_dict().keys() == written.keys()
    assert model.visual.image_size == (32, 32)
    assert model.context_length == params.encoder.context_length
    np.testing.assert_array_equal(model.state_dict()["text_projection"], written["text_projection"])


def test_metrics(trained: Catalogue) -> None:
    metrics = read_json(metrics_path("encoder"))
    pairs = [i for i in trained.embeddable if i not in trained.untitled]
    held_out = metrics["held_out_pairs"]
    assert metrics["pairs"] == len(pairs)
    assert metrics["pairs_trained"] == len(pairs) - held_out
    assert held_out >= round(HELD_OUT * (len(pairs) - 1))
    assert metrics["chance_1"] == pytest.approx(1 / round(HELD_OUT * (len(pairs) - 1)))
    assert 0 <= metrics["recall_1"] <= metrics["recall_10"] == metrics["chance_10"] == 1
    assert 0 < metrics["loss"] < 2 * np.log(16)


def test_same_seed_gives_the_same_bytes(
    catalogue: Catalogue,
    params: Params,
    trained_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many titles are read at a time."""
    assert catalogue.covers
    monkeypatch.setattr(encoder, "TITLES", 7)
    encoder.main(params.encoder)
    assert {name: Path(name).read_bytes() for name in trained_files} == trained_files


def test_other_seed_gives_other_weights(
    catalogue: Catalogue, params: Params, trained_files: dict[str, bytes]
) -> None:
    assert catalogue.covers
    section = params.encoder.model_copy(update={"seed": 1})
    encoder.main(params.model_copy(update={"encoder": section}).encoder)
    weights = ENCODER / "open_clip_model.safetensors"
    assert weights.read_bytes() != trained_files[str(weights)]


def test_training_can_be_switched_off(catalogue: Catalogue, params: Params) -> None:
    assert catalogue.covers
    section = params.encoder.model_copy(update={"train": False})
    encoder.main(params.model_copy(update={"encoder": section}).encoder)
    assert read_json(ENCODER / "open_clip_config.json") == {}
    assert load_file(ENCODER / "open_clip_model.safetensors") == {}
    assert read_json(metrics_path("encoder")) == {"trained": False}


def test_too_few_pairs_say_what_to_set(catalogue: Catalogue, params: Params) -> None:
    for item in catalogue.embeddable[19:]:
        del catalogue.covers[item]
    write_catalogue(catalogue)
    with pytest.raises(InputError, match=rf"{COVERS}: 17 items.*set encoder\.train to false"):
        encoder.main(params.encoder)
    assert [path.name for path in ENCODER.iterdir()] == []


def test_a_source_without_covers_is_told_as_such(catalogue: Catalogue, params: Params) -> None:
    catalogue.covers.clear()
    write_catalogue(catalogue)
    titled = sum(bool(title.strip()) for title in catalogue.titles)
    found = rf"0 items have both a title \({titled} have one\) and a readable cover \(0 have one\)"
    with pytest.raises(InputError, match=f"{found}.*see what `ingest` says of its covers"):
        encoder.main(params.encoder)


@pytest.mark.usefixtures("catalogue")
def test_a_full_disk_is_told_before_any_work(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int, start: int, size: int) -> None:
        assert (start, size) == (0, (N + 1) * 3 * 32 * 32)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse, raising=False)
    with pytest.raises(InputError, match=r"models/encoder: no room for 125,952 .*No space left"):
        encoder.main(params.encoder)
    assert list(ENCODER.iterdir()) == []


def test_who_ends_it_waits_for_few_titles(
    catalogue: Catalogue, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Sequence[str]] = []
    tokenizer = open_clip.SimpleTokenizer()

    def end_after_the_first(*arguments: Any) -> Iterator[CoverBatch]:
        yield next(read_covers(*arguments))
        while not read:
            time.sleep(0.001)
        raise StoppedError("", 15)

    def slowly(titles: Sequence[str]) -> Tensor:
        read.append(titles)
        time.sleep(0.05)
        return tokenizer(titles)

    monkeypatch.setattr(encoder, "read_covers", end_after_the_first)
    monkeypatch.setattr(open_clip, "SimpleTokenizer", lambda **_: slowly)
    monkeypatch.setattr(encoder, "TITLES", 1)
    with pytest.raises(StoppedError):
        encoder.main(params.encoder)
    assert 1 <= len(read) < len(catalogue.titles) / 2
    assert [path.name for path in ENCODER.iterdir()] == []


def test_split_shares_no_title() -> None:
    titles = ["", *(f"title {i % 30}" for i in range(1, 100))]
    items = np.arange(1, 100)
    fitted, held_out = split(items, titles, seed=4)
    assert sorted([*fitted, *held_out]) == items.tolist()
    assert not {titles[i] for i in fitted} & {titles[i] for i in held_out}
    assert len({titles[i] for i in held_out}) == 3
    again = split(items, titles, seed=4)
    np.testing.assert_array_equal(again[1], held_out)
    assert split(items, titles, seed=5)[1].tolist() != held_out.tolist()
