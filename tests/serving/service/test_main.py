"""The command: what it says where it cannot start, and the service as a process."""

import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from urllib3 import HTTPConnectionPool

from serving.scorer import Scorer
from serving.service.__main__ import listening, main
from tests.support.worlds.packaged import IDS

LIMIT = 3
PATIENCE = 60


def said(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """By `main` where it ends at once."""
    monkeypatch.setattr(sys, "argv", ["service", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, str)  # then the exit code is 1
    assert "\n" not in end.value.code
    return end.value.code


def test_a_folder_that_is_no_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = said(monkeypatch, "--package", str(tmp_path / "none"))
    assert told.startswith(f"error: {tmp_path / 'none'}: no such folder")


def test_a_port_in_use_is_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = said(monkeypatch, "--package", str(package), "--port", str(port))
    assert told == (f"error: 127.0.0.1, port {port}: Address already in use; see --host and --port")


def test_a_host_that_is_not_there_is_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = said(monkeypatch, "--package", str(package), "--port=0", "--host=no.such.invalid")
    assert told.startswith("error: no.such.invalid, port 0: ")


def test_nothing_is_held_back_for_an_acknowledgement() -> None:
    with listening("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()[:2], PATIENCE):
            connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [*sys.modules]:
        if name.startswith("serving.service.app"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    told = said(monkeypatch)
    assert missing in told
    assert 'pip install -c constraints.txt -e ".[serve]"' in told


@pytest.mark.parametrize(
    "arguments", [["--port=65536"], ["--port=-1"], ["--limit-concurrency=0"], ["--port=x"]]
)
def test_a_wrong_number_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["service", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "expected a whole number from" in capsys.readouterr().err


def test_the_service_answers_refuses_and_stops(package: Path, scorer: Scorer) -> None:
    command = [sys.executable, "-m", "serving.service", f"--package={package}", "--port=0"]
    command.append(f"--limit-concurrency={LIMIT}")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            match = re.fullmatch(rf"{package} at http://127\.0\.0\.1:(\d+)\n", line)
            assert match, line
            port = int(match[1])
            content = {"history": IDS[:4], "candidates": IDS}
            status, answer = posted(port, content)
            assert status == 200
            assert answer["probabilities"] == pytest.approx(scorer.score(IDS[:4], IDS), abs=1e-6)
            with ExitStack() as held:
                for _ in range(LIMIT):
                    held.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
                assert posted(port, content)[0] == 503
            wait_until_answered(port, content)
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in errors


def posted(port: int, content: object) -> tuple[int, dict[str, list[float]]]:
    with HTTPConnectionPool("127.0.0.1", port, timeout=PATIENCE, retries=False) as pool:
        answer = pool.request("POST", "/score", json=content)
    return answer.status, json.loads(answer.data) if answer.status == 200 else {}


def wait_until_answered(port: int, content: object) -> None:
    """The connections that were held are gone at some time."""
    for _ in range(1_000):
        if posted(port, content)[0] == 200:
            return
    pytest.fail("503 still")
