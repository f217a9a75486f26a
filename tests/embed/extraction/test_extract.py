import logging
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from tqdm import tqdm

from embed.extraction import extract
from embed.extraction.batches import Batch
from embed.extraction.encoder import Encoder
from embed.extraction.extract import agreed, assembled, shards_of
from embed.extraction.shards import Shard, Shards
from pipeline.common.files import InputError
from tests.embed.conftest import CPU


def double(inputs: dict[str, Tensor]) -> Tensor:
    return inputs["x"] * 2


ENCODER = Encoder("embed_text", "double", double, CPU, {})


def batch(shard: int, items: list[int], unreadable: tuple[int, ...] = ()) -> Batch:
    x = np.array([[item, item + 0.5] for item in items], np.float32).reshape(-1, 2)
    return Batch(
        shard, np.array(items, np.int32), {"x": x}, [(item, "torn") for item in unreadable]
    )


def test_batches_come_together_in_their_shards() -> None:
    batches = [batch(2, [5, 3]), batch(2, [], (4,)), batch(2, [1], (2,)), batch(7, [], (6,))]
    (first, two), (second, seven) = shards_of(batches, ENCODER)
    assert (first, second) == (2, 7)
    assert two.items.tolist() == [5, 3, 1]
    assert two.vectors.tolist() == [[10, 11], [6, 7], [2, 3]]
    assert two.unreadable == [(4, "torn"), (2, "torn")]
    assert seven.items.tolist() == []
    assert seven.unreadable == [(6, "torn")]


def test_a_shard_is_there_before_the_one_after_next_is_read() -> None:
    """Whatever is killed, no more than the shard at work and the batch ahead of it are lost."""
    read: list[int] = []

    def batches() -> Iterator[Batch]:
        for number in range(4):
            read.append(number)
            yield batch(number, [number])

    made = shards_of(batches(), ENCODER)
    assert next(made)[0] == 0
    assert read == [0, 1, 2]


def test_vectors_that_are_not_finite_are_refused() -> None:
    broken = batch(0, [1])
    np.asarray(broken.inputs["x"])[0, 1] = np.inf
    with pytest.raises(InputError, match=r"embed_text\.model 'double' gave vectors .* not finite"):
        list(shards_of([broken], ENCODER))


@pytest.mark.usefixtures("catalogue")
def test_rows_are_where_they_belong() -> None:
    shards = Shards("embed_image", "f")
    shards.write(0, Shard(np.empty(0, np.int32), np.empty((0, 0), np.float32), [(7, "b")]))
    shards.write(1, Shard(np.array([5, 3]), np.array([[5, 50], [3, 30]], np.float32), [(4, "a")]))
    shards.write(2, Shard(np.array([1]), np.array([[1, 10]], np.float32), []))
    found = assembled(shards, 3, 8)
    assert found.vectors[:, 1].tolist() == [0, 10, 0, 30, 0, 50, 0, 0]
    assert np.flatnonzero(found.present).tolist() == [1, 3, 5]
    assert found.unreadable == [(4, "a"), (7, "b")]
    assert assembled(shards, 0, 8).vectors.shape == (8, 0)


def test_processes_that_see_different_things_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "gathered", lambda own: [own, own])
    assert agreed({"titles": "a"})
    monkeypatch.setattr(extract, "gathered", lambda own: [own, "another"])
    with pytest.raises(InputError, match="differ in inputs, settings, weights"):
        agreed({"titles": "a"})


def test_progress_is_the_main_processes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def recorded(*arguments: Any, **options: Any) -> Any:
        shown.append(options["disable"])
        return tqdm(*arguments, **options)

    monkeypatch.setattr("embed.extraction.extract.tqdm", recorded)
    for main in (True, False):
        batches = [batch(0, [1])]
        assert list(extract.progress(batches, 1, SimpleNamespace(is_main_process=main)))
    assert shown == [None, True]  # None: where there is a terminal


def test_what_takes_a_while_is_told_after_the_first_batches(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr("pipeline.common.outlook.time.perf_counter", lambda: clock[0])

    def read(seconds: float) -> Iterator[Batch]:
        for number in range(10):
            clock[0] += seconds
            yield batch(0, [number])

    caplog.set_level(logging.INFO)
    for processes, is_main in ((1, True), (2, True), (2, False)):
        state: Any = SimpleNamespace(is_main_process=is_main, num_processes=processes)
        assert len(list(extract.progress(read(10.0), 91_717, state))) == 10
        assert len(list(extract.progress(read(0.001), 91, state))) == 10  # too short
    assert caplog.messages == [
        "91,717 items take about 254 h 46 min",
        "91,717 items for each process take about 254 h 46 min",
    ]


def test_the_start_names_stage_device_and_precision(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.common.launch.unused_gpu", lambda: None)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _device: "NVIDIA H100")
    caplog.set_level(logging.INFO)
    state: Any = SimpleNamespace(num_processes=1)
    extract.tell_start("embed_image", CPU, "bf16", state)
    extract.tell_start("embed_image", torch.device("cuda"), "bf16", state)
    assert re.fullmatch(r"embed_image: on \d+ threads? of a CPU \(\w+\), fp32", caplog.messages[0])
    assert caplog.messages[1] == "embed_image: on NVIDIA H100, bf16"


def test_inputs_arrive_on_the_device_as_they_were() -> None:
    inputs: dict[str, np.ndarray | Tensor] = {
        "ids": np.array([[1, 2]]),
        "mask": torch.ones(1, 2, dtype=torch.bool),
    }
    found = extract.on_device(inputs, CPU)
    assert found["ids"].tolist() == [[1, 2]]
    assert found["mask"].dtype == torch.bool
