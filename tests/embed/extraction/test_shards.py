import logging
from pathlib import Path

import numpy as np
import pytest

from embed import text
from embed.extraction import extract
from embed.extraction.shards import Shard, Shards
from pipeline.common.files import InputError
from pipeline.common.paths import ENCODER, TEXT
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, write_catalogue

SHARD = Shard(
    np.array([3, 1], np.int32),
    np.array([[1.5, -2, 0], [np.pi, 1e-30, 7]], np.float32),
    [(2, 'torn "file"'), (4, "é")],
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards stay after a run, as if it had been killed before it could remove them."""
    monkeypatch.setattr(Shards, "clear", lambda _self: None)


def inodes() -> dict[str, int]:
    """Of the shards of `embed_text@main` that are there."""
    return {
        str(path): path.stat().st_ino for path in Path("scratch/embed_text@main").glob("*/shard-*")
    }


def recomputed(before: dict[str, int]) -> list[str]:
    return [Path(path).name for path, inode in inodes().items() if before.get(path) != inode]


def test_a_shard_comes_back_as_it_was() -> None:
    folder = Shards("embed_text", "f" * 64)
    folder.write(7, SHARD)
    found = folder.read(7)
    assert found is not None
    np.testing.assert_array_equal(found.items, SHARD.items)
    np.testing.assert_array_equal(found.vectors, SHARD.vectors)
    assert found.vectors.dtype == np.float32
    assert found.unreadable == SHARD.unreadable
    assert folder.missing(9) == [0, 1, 2, 3, 4, 5, 6, 8]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "renamed", "foreign"])
def test_what_was_not_written_here_is_not_read(
    damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Shards("embed_text", "f" * 64)
    folder.write(7, SHARD)
    content = folder.path(7).read_bytes()
    place = len(content) // 2
    if damage == "renamed":
        folder.path(7).rename(folder.path(8))
    elif damage == "foreign":
        folder = Shards("embed_text", "e" * 64)
        folder.folder.mkdir()
        folder.path(7).write_bytes(content)
    else:
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        contents = {"truncated": content[:-1], "flipped": flipped, "empty": b""}
        folder.path(7).write_bytes(contents[damage])
    number = 8 if damage == "renamed" else 7
    assert folder.read(number) is None
    assert f"shard-{number:05d} is damaged" in caplog.text


def test_a_shard_is_not_there_before_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Shards("embed_text", "f" * 64)
    seen: list[bool] = []
    original = Path.write_bytes

    def watched(path: Path, content: bytes) -> int:
        written = original(path, content)
        seen.append(folder.path(0).exists())
        return written

    monkeypatch.setattr(Path, "write_bytes", watched)
    folder.write(0, SHARD)
    assert seen == [False]
    assert [path.name for path in folder.folder.iterdir()] == ["shard-00000"]


@pytest.mark.usefixtures("trained", "kept")
def test_a_damaged_shard_alone_is_computed_again(
    params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    text.main(params.embed_text)
    vectors, before = TEXT.read_bytes(), inodes()
    assert len(before) == 5  # 37 distinct titles in shards of 9
    damaged = Path(sorted(before)[2])
    damaged.write_bytes(damaged.read_bytes()[:-9])
    text.main(params.embed_text)
    assert recomputed(before) == ["shard-00002"]
    assert "shard-00002 is damaged" in caplog.text
    assert "4 of 5 shards are there from an earlier run" in caplog.text
    assert TEXT.read_bytes() == vectors


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("change", ["title", "setting", "weights", "code", "workers"])
def test_what_the_vectors_depend_on(
    change: str, trained: Catalogue, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    text.main(params.embed_text)
    before = inodes()
    if change == "title":
        trained.titles[40] += "!"
        write_catalogue(trained)
    elif change == "weights":
        weights = ENCODER / "open_clip_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif change == "code":
        monkeypatch.setattr(extract, "code_sha256", lambda _: {"text.py": "other"})
    else:
        key, value = ("batch_size", 6) if change == "setting" else ("workers", 1)
        section = params.embed_text.model_copy(update={key: value})
        params = params.model_copy(update={"embed_text": section})
    text.main(params.embed_text)
    assert len(recomputed(before)) == (0 if change == "workers" else 5)


@pytest.mark.usefixtures("trained")
def test_nothing_is_left_when_the_outputs_are_written(params: Params) -> None:
    stale = Shards("embed_text@main", "0" * 64)
    stale.write(0, SHARD)
    text.main(params.embed_text)
    assert TEXT.exists()
    assert not list(Path("scratch/embed_text@main").iterdir())


@pytest.mark.usefixtures("trained")
def test_a_shard_that_another_process_did_not_leave_here(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Shards.write

    def lost(self: Shards, number: int, shard: Shard) -> None:
        if number != 3:
            original(self, number, shard)

    monkeypatch.setattr(Shards, "write", lost)
    with pytest.raises(InputError, match=r"shard-00003 is missing .* storage that all of them"):
        text.main(params.embed_text)
    assert not TEXT.exists()
