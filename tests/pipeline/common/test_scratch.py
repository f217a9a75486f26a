import hashlib
import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.common import scratch
from pipeline.common.files import InputError
from tests.support.terminal import bars

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys
from pathlib import Path
from pipeline.common.scratch import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_run(stage: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is told to end."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(stage)]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_run_beside_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "WAIT", 0.3)
    with (
        other_run(tmp_path),
        pytest.raises(InputError, match=r"another run of this stage is at work .*lock is locked"),
        scratch.locked(tmp_path),
    ):
        raise AssertionError


def test_a_run_waits_for_one_that_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with other_run(tmp_path) as other:
        original = time.sleep

        def end_the_other(seconds: float) -> None:
            other.kill()
            original(seconds)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(time, "sleep", end_the_other)
            with scratch.locked(tmp_path):
                assert other.wait() != 0
    assert "waiting for it to end" in caplog.text


def test_clear_leaves_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with scratch.locked(tmp_path):
        (tmp_path / "abc").mkdir()
        (tmp_path / "abc/file").write_text("x")
        scratch.clear(tmp_path, "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_clear_leaves_what_dvc_has_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    for name in ("abc", "def"):
        (tmp_path / name).mkdir()
    scratch.clear(tmp_path, "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]


def test_the_fingerprint_is_that_of_the_content() -> None:
    assert scratch.fingerprint({"a": 1, "b": [2]}) == scratch.fingerprint({"b": [2], "a": 1})
    assert scratch.fingerprint({"a": 1}) != scratch.fingerprint({"a": 2})


def test_the_code_is_that_of_the_folders_alone() -> None:
    found = scratch.code_sha256("pipeline/common")
    assert {"pipeline/common/scratch.py", "pipeline/common/files.py"} <= found.keys()
    assert all(name.startswith("pipeline/common/") for name in found)
    file = "pipeline/common/scratch.py"
    assert found[file] == scratch.file_sha256(ROOT / file)


def test_the_code_is_that_of_the_folders_below_too() -> None:
    found = scratch.code_sha256("tests", "ctr")
    own = Path(__file__).relative_to(ROOT).as_posix()
    assert found[own] == scratch.file_sha256(Path(__file__))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 20])
def test_a_file_is_hashed_whole(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "PIECE", 4)
    file = tmp_path / "file"
    file.write_bytes(bytes(range(size)))
    with bars() as shown:
        assert scratch.file_sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [(bar.n, bar.total, bar.delay) for bar in shown] == [(size, size, 1)]
    monkeypatch.setenv("RANK", "1")
    with bars() as of_another_process:
        scratch.file_sha256(file)
    assert of_another_process == []


def test_differences_name_the_keys_that_changed() -> None:
    old = {"settings": {"rate": 0.1, "rows": 2}, "threads": 1, "gone": 1}
    new = {"settings": {"rate": 0.2, "rows": 2}, "threads": 1, "came": 1}
    assert scratch.differences(old, new) == ["came", "gone", "settings.rate"]
    assert scratch.differences(old, old) == []
