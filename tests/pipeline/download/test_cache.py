import multiprocessing
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from pipeline.download import cache


def test_it_is_the_users_own_and_may_be_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "mmctr"


def work(folder: Path, log: Path, begun: Event) -> None:
    with cache.held(folder):
        begun.set()
        for _ in range(2):
            with log.open("a") as file:
                file.write(f"{multiprocessing.current_process().name}\n")
            time.sleep(0.2)


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log, folder = tmp_path / "log", tmp_path / "mmctr" / "downloads"
    for name in ("first", "second"):
        begun = context.Event()
        process = context.Process(target=work, args=(folder, log, begun), name=name)
        process.start()
        if name == "first":
            assert begun.wait(30)
            first = process
    process.join(30)
    first.join(30)
    assert log.read_text().split() == ["first", "first", "second", "second"]


def test_the_folder_itself_holds_no_lock(tmp_path: Path) -> None:
    with cache.held(tmp_path / "deep" / "downloads"):
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["downloads.lock"]
