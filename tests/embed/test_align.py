"""A catalogue of two kinds of items that look different, whose users click one kind only."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from embed import align as stage
from embed import fuse
from embed.align import FEWEST
from embed.vectors.behaviour import behaviour
from embed.vectors.content import load_content
from embed.vectors.learned import learned
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.common.paths import (
    ALIGNED,
    IMAGE,
    IMAGE_PRESENT,
    ITEM,
    ITEM_INFO,
    ITEMS,
    LEARNED,
    PARAMS,
    TASK1_ITEM,
    TEXT,
    TEXT_PRESENT,
    VLM,
    VLM_PRESENT,
    array_info,
    metrics_path,
    split_path,
)
from pipeline.settings.params import Params
from pipeline.tables.split import Split
from tests.support.code.graph import covers, graph, makers
from tests.support.stage_processes import ENVIRONMENT
from tests.support.worlds.tiny_world import VECTOR_FILES

N, WARM, HISTORY, TRAIN_ROWS = 80, 60, 6, 1500
EMPTY = [0, 5, 62]
"""Padding, a warm and a cold item without content."""
KIND = np.arange(N + 1) % 2
RATES = np.array([0.7, 0.3])
"""Of clicks on items of either kind."""
STAGES = graph()
OUTPUTS = [ALIGNED, array_info(ALIGNED), LEARNED, array_info(LEARNED), metrics_path("align")]


def some_clicks(rng: np.random.Generator, rows: int, items: int) -> np.ndarray:
    """int32 (rows, HISTORY + 5): users of either kind, shown items of it, of `items` ones."""
    kind = rng.integers(0, 2, (rows, 1))
    drawn = 2 * rng.integers(0, items // 2, (rows, HISTORY + 1)) + 2 - kind
    drawn[:, :HISTORY][np.arange(HISTORY) < rng.integers(0, 3, (rows, 1))] = 0
    label = rng.random((rows, 1)) < RATES[kind]
    return np.hstack([drawn, 0 * kind, 0 * kind, label, kind + 1]).astype(np.int32)


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that `align` and `fuse` read; items above WARM occur in valid and test alone."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(7)
    write_array(split_path("train"), some_clicks(rng, TRAIN_ROWS, WARM))
    for split in ("valid", "test"):
        write_array(split_path(split), some_clicks(rng, 200, N))
    present = ~np.isin(np.arange(N + 1), EMPTY)
    for path, width in ((TEXT, 8), (IMAGE, 5)):
        vectors = rng.normal(size=(2, width))[KIND] * 2 + rng.normal(size=(N + 1, width)) * 0.7
        vectors[~present] = 0
        write_array(path, vectors.astype(np.float32))
    write_array(TEXT_PRESENT, present)
    write_array(IMAGE_PRESENT, present)
    write_array(VLM, np.zeros((N + 1, 0), np.float32))
    write_array(VLM_PRESENT, np.zeros(N + 1, bool))
    tags = [[0, 0], *([0, i % 3] for i in range(1, N + 1))]
    items = {"item_id": np.arange(N + 1), "tags": pa.array(tags, pa.list_(pa.int32()))}
    pq.write_table(pa.table(items), ITEMS)


def small(params: Params) -> Params:
    changes = {"dim": 4, "window": 5}
    return params.model_copy(update={"align": params.align.model_copy(update=changes)})


def aligned(params: Params) -> np.ndarray:
    stage.main(small(params).align, VECTOR_FILES)
    return np.array(read_array(ALIGNED))


def known_items() -> np.ndarray:
    """In train, with content."""
    return np.setdiff1d(np.arange(1, WARM + 1), EMPTY)


def cold_items() -> np.ndarray:
    return np.setdiff1d(np.arange(WARM + 1, N + 1), EMPTY)


def test_cold_items_lie_by_their_kind(params: Params) -> None:
    vectors = aligned(params)
    company = vectors[:, :-1]
    centroids = np.stack([company[known_items()][KIND[known_items()] == k].mean(0) for k in (0, 1)])
    for item in cold_items():
        distance = np.linalg.norm(centroids - company[item], axis=1)
        assert distance[KIND[item]] < 0.5 * distance[1 - KIND[item]]


def test_cold_items_of_the_kind_that_is_clicked_more_have_more_appeal(params: Params) -> None:
    appeal = aligned(params)[:, -1]
    cold = cold_items()
    assert appeal[cold[KIND[cold] == 0]].min() > appeal[cold[KIND[cold] == 1]].max()
    gap = appeal[cold[KIND[cold] == 0]].mean() - appeal[cold[KIND[cold] == 1]].mean()
    odds = RATES / (1 - RATES)
    assert gap == pytest.approx(np.log(odds[0] / odds[1]), rel=0.35)  # shrunk by the prior


def test_items_without_content_are_zero_and_the_others_mean_is(params: Params) -> None:
    vectors = aligned(params)
    assert vectors.shape == (N + 1, 5)
    assert vectors.dtype == np.float32
    assert np.flatnonzero(~vectors.any(axis=1)).tolist() == EMPTY
    np.testing.assert_allclose(vectors.astype(float).sum(axis=0) / N, 0, atol=1e-6)


def test_vectors_of_encoders_that_were_taken_out_are_removed(params: Params) -> None:
    for modality in ("text", "image"):
        gone = Path(f"embeddings/{modality}/gone")
        write_array(gone / "vectors.npy", np.zeros((N + 1, 2)))
        aligned(params)
        assert not gone.exists()
    assert all(files.vectors.exists() for files in VECTOR_FILES)


def test_metrics_say_what_was_learned_from(params: Params) -> None:
    aligned(params)
    train = read_array(split_path("train"))
    clicked = train[train[:, -2] == 1]
    metrics = read_json(metrics_path("align"))
    assert metrics["items"] == N
    assert metrics["learned_from"] == len(known_items())
    assert metrics["pairs"] == np.count_nonzero(clicked[:, HISTORY - 5 : HISTORY])
    assert metrics["dim"] == 5
    assert 0 < metrics["r2_company"] < 1
    assert 0.5 < metrics["r2_appeal"] < 1
    assert read_json(array_info(ALIGNED))["shape"] == [N + 1, 5]


def embedding_bytes(params: Params) -> list[bytes]:
    stage.main(small(params).align, VECTOR_FILES)
    fuse.main(small(params).fuse, VECTOR_FILES)
    return [path.read_bytes() for path in (ALIGNED, LEARNED, ITEM, TASK1_ITEM, ITEM_INFO)]


def test_nothing_of_valid_and_test_reaches_the_vectors(params: Params) -> None:
    before = embedding_bytes(params)
    rng = np.random.default_rng(1)
    for split in ("valid", "test"):
        rows = np.array(read_array(split_path(split)))
        write_array(split_path(split), rng.permuted(rows, axis=0))
    assert embedding_bytes(params) == before
    for split in ("valid", "test"):
        write_array(split_path(split), some_clicks(rng, 300, WARM))
    assert embedding_bytes(params) == before
    for split in ("valid", "test"):
        split_path(split).unlink()
    assert embedding_bytes(params) == before
    train = np.array(read_array(split_path("train")))
    train[:, -2] = 1 - train[:, -2]
    write_array(split_path("train"), train)
    for old, new in zip(before, embedding_bytes(params), strict=True):
        assert old != new  # or the comparison would say nothing


def test_the_graph_knows_of_no_way_from_valid_and_test_to_the_vectors() -> None:
    todo, seen = {"fuse"}, set()
    while todo:
        seen.add(name := todo.pop())
        before = [makers(dep, STAGES) for dep in STAGES[name]["deps"]]
        todo |= set().union(*before) - seen - {"ingest"}
    assert {"align", "embed_text", "embed_image", "embed_vlm", "encoder"} <= seen
    for name in seen:
        for split in ("valid", "test"):
            path = str(split_path(split))
            assert not any(covers(dep, path) for dep in STAGES[name]["deps"]), (name, split)


def test_a_second_run_gives_the_same_bytes(params: Params) -> None:
    runs = []
    for _ in range(2):
        stage.main(small(params).align, VECTOR_FILES)
        runs.append([path.read_bytes() for path in OUTPUTS])
    assert runs[0] == runs[1]


def test_an_items_own_clicks_say_little_of_its_own_vector(params: Params) -> None:
    """The appeal of a warm item is as far from what train says of it as its content is."""
    train = np.array(read_array(split_path("train")))
    item, before = 8, aligned(params)[8, -1]
    train[train[:, -5] == item, -2] = 0  # of the kind that is clicked more
    write_array(split_path("train"), train)
    assert aligned(params)[item, -1] == pytest.approx(before, abs=0.1)


def test_learned_vectors_are_written_beside(params: Params) -> None:
    told, content = aligned(params), load_content(VECTOR_FILES)
    section = small(params).align
    seen = behaviour(Split.load("train"), N, section)
    expected = learned(told, content.present, seen, section.balance)
    np.testing.assert_allclose(read_array(LEARNED), expected, atol=1e-6)
    cold = cold_items()
    np.testing.assert_allclose(read_array(LEARNED)[cold], told[cold], atol=1e-6)
    warm = known_items()
    assert np.abs(read_array(LEARNED)[warm] - told[warm]).max() > 0.1


def few_items(count: int) -> None:
    """Leave content to `count` items of train."""
    present = np.zeros(N + 1, bool)
    present[known_items()[:count]] = True
    for path in (TEXT_PRESENT, IMAGE_PRESENT):
        write_array(path, present)


def test_too_few_items_give_no_columns_and_fuse_says_what_to_do(params: Params) -> None:
    few_items(FEWEST - 1)
    assert aligned(params).shape == (N + 1, 0)
    metrics = read_json(metrics_path("align"))
    assert metrics["learned_from"] == FEWEST - 1
    assert metrics["dim"] == 0
    assert metrics["r2_company"] is metrics["r2_appeal"] is None
    with pytest.raises(
        InputError, match=r"aligned/vectors\.npy: has no columns.*fuse\.recipe to pca"
    ):
        fuse.main(small(params).fuse, VECTOR_FILES)
    assert not ITEM.exists()


def test_just_enough_items_give_columns(params: Params) -> None:
    few_items(FEWEST)
    assert aligned(params).shape == (N + 1, 5)


def start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "embed.align"]
    return subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL)


def kill_after(process: subprocess.Popen[bytes], seconds: float, writing: bool) -> int:
    """Kill it then, or as soon as it writes if that is what to wait for; its return code."""
    stop = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < stop:
        if writing and list(ALIGNED.parent.glob(".*")):
            break
        time.sleep(0 if writing else 0.01)
    process.kill()
    return process.wait()


def test_a_run_that_is_killed_leaves_nothing_half_and_can_be_repeated(params: Params) -> None:
    with PARAMS.open("w") as file:
        YAML().dump(small(params).model_dump(), file)
    started = time.monotonic()
    assert start().wait(timeout=60) == 0
    whole = time.monotonic() - started
    undisturbed = {path: path.read_bytes() for path in OUTPUTS}
    killed = 0
    for seconds, writing in ((0.5 * whole, False), (0.9 * whole, False), (60, True)):
        for path in OUTPUTS:
            path.unlink(missing_ok=True)
        killed += kill_after(start(), seconds, writing) == -signal.SIGKILL
        for path in OUTPUTS:
            assert not path.exists() or path.read_bytes() == undisturbed[path]
    assert killed  # of a machine that is suddenly quicker some runs may end first
    assert start().wait(timeout=60) == 0
    assert {path: path.read_bytes() for path in OUTPUTS} == undisturbed
    assert not [path for output in OUTPUTS for path in output.parent.glob(".*")]


def test_content_that_is_all_the_same_tells_nothing(params: Params) -> None:
    for path in (TEXT, IMAGE, VLM):
        write_array(path, np.ones((N + 1, 3), np.float32))
    stage.main(small(params).align, VECTOR_FILES)
    assert not read_array(ALIGNED).any()  # and not rounding, which would be scaled up
