"""Damaged and odd pictures through the readers that the stages `embed_image` and `encoder` use."""

import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg

from embed.covers.batches import CoverFile, read_covers
from embed.covers.decode import CoverError, decode
from embed.covers.shards import CoverShards
from embed.encoders.open_clip_models import ResizeToPixels
from pipeline.raw.cover_files import find_covers
from pipeline.raw.covers import MAX_BYTES, write_covers
from pipeline.raw.ids import DenseIds
from tests.whole.fuzz.support.damaged_pictures import damaged_pictures, most_pixels
from tests.whole.fuzz.support.odd_pictures import odd_pictures
from tests.whole.fuzz.support.pictures import Picture

ROOT = Path(__file__).parents[3]
TO_PIXELS = ResizeToPixels(PreprocessCfg(size=16))


@pytest.fixture(scope="module")
def corpus(tally: Counter[str]) -> list[Picture]:
    made = [*damaged_pictures(), *odd_pictures()]
    assert len({picture.name for picture in made}) == len(made) >= 60
    tally["pictures"] = len(made)
    return made


def test_every_picture_is_right_or_refused_with_a_reason(corpus: list[Picture]) -> None:
    wrong: dict[str, str] = {}
    for picture in corpus:
        try:
            pixels = np.asarray(decode(picture.data))
        except CoverError as error:
            if picture.pixels is not None and not picture.may_be_refused:
                wrong[picture.name] = f"refused: {error}"
            continue
        if picture.pixels is None:
            wrong[picture.name] = "not refused"
        elif pixels.shape != picture.pixels.shape:
            wrong[picture.name] = f"shape {pixels.shape}"
        elif (off := np.abs(pixels.astype(int) - picture.pixels).mean()) > picture.tolerance:
            wrong[picture.name] = f"pixels are off by {off}"
    assert wrong == {}


def no_covers(folder: Path) -> dict[str, Path]:
    """What may lie under a cover's name and is no file to read."""
    made = {
        name: folder / name for name in ("folder", "loop", "dangling", "pipe", "endless", "empty")
    }
    made["folder"].mkdir()
    made["loop"].symlink_to("loop")
    made["dangling"].symlink_to("nowhere")
    os.mkfifo(made["pipe"])
    made["endless"].touch()
    os.truncate(made["endless"], MAX_BYTES + 1)
    made["empty"].touch()
    return made


def test_the_stages_get_every_cover_once(
    corpus: list[Picture], workspace: Path, tally: Counter[str], capfd: pytest.CaptureFixture[str]
) -> None:
    images = workspace / "item_images"
    images.mkdir()
    for item, picture in enumerate(corpus, start=1):
        (images / f"{item}.jpg").write_bytes(picture.data)
    for item, path in enumerate(no_covers(workspace).values(), start=len(corpus) + 1):
        path.rename(images / f"{item}.jpg")
    count = len(list(images.iterdir()))
    tally["covers that are no pictures"] = count - len(corpus)
    ids = DenseIds.of(np.arange(1, count + 1))
    path = workspace / "covers.parquet"
    write_covers(path, find_covers(workspace, ids).files)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_encoder = list(read_covers(path, 7, TO_PIXELS, 0))
        file = CoverFile(path)
        shards = CoverShards(file, [(0, 50), (50, count)], [0, 1], 7, TO_PIXELS)
        as_embed_image = [batch for place in range(len(shards)) for batch in shards[place]]
    assert capfd.readouterr().err == ""

    seen = {
        int(item): pixels
        for batch in as_encoder
        for item, pixels in zip(batch.items, batch.pixels, strict=True)
    }
    unreadable = dict(fault for batch in as_encoder for fault in batch.unreadable)
    assert sorted([*seen, *unreadable]) == list(range(1, count + 1))
    assert all(unreadable.values())
    for item, picture in enumerate(corpus, start=1):
        assert (item in unreadable) == (picture.pixels is None) or picture.may_be_refused
        if item in seen:
            np.testing.assert_array_equal(seen[item], TO_PIXELS(decode(picture.data)))
    assert unreadable == dict(fault for batch in as_embed_image for fault in batch.unreadable)
    again = {
        int(item): pixels
        for batch in as_embed_image
        for item, pixels in zip(batch.items, batch.inputs["pixels"], strict=True)
    }
    assert again.keys() == seen.keys()
    for item, pixels in again.items():
        np.testing.assert_array_equal(pixels, seen[item])


def test_memory_of_a_decoder_is_bounded(corpus: list[Picture], tmp_path: Path) -> None:
    """Below 40 million pixels of 8 bytes, four times over; claims alone reach many times that."""
    for number, picture in enumerate(corpus):
        (tmp_path / f"{number}").write_bytes(picture.data)
    (tmp_path / "most pixels").write_bytes(most_pixels())
    decoder = """if True:
        import sys
        from contextlib import suppress
        from pathlib import Path
        from resource import RUSAGE_SELF, getrusage
        from embed.covers.decode import CoverError, decode
        before = getrusage(RUSAGE_SELF).ru_maxrss
        for path in Path(sys.argv[1]).iterdir():
            with suppress(CoverError):
                decode(path.read_bytes())
        print(getrusage(RUSAGE_SELF).ru_maxrss - before)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", decoder, str(tmp_path)]
    grown = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    assert int(grown.stdout) * 1024 < 40_000_000 * 8 * 4
