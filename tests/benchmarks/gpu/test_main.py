import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.__main__ import PARTS, Part, ended, run, verdicts


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_part_that_fails_or_takes_too_long_says_so(tmp_path: Path) -> None:
    assert ended(python("pass"), 60, tmp_path) == ""
    assert ended(python("raise SystemExit(3)"), 60, tmp_path) == "exit code 3"
    assert ended(python("import time; time.sleep(60)"), 0.2, tmp_path) == "stopped after 0 s"


def test_what_a_part_found_is_kept_and_its_checks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(figures: dict[str, object]) -> dict[str, object]:
        def write(command: list[str], *_: object) -> str:
            path = Path(command[-1].removeprefix("--json="))
            path.write_text(json.dumps(figures))
            return ""

        monkeypatch.setattr(gpu, "ended", write)
        return run(PARTS["agreement"], small=True, left=10)

    assert found({"failed": []})["failure"] == ""
    differing = found({"failed": ["QIN, bf16: scores", "DIN, no: gradient"]})
    assert differing["failure"] == "differ: QIN, bf16: scores, DIN, no: gradient"
    assert differing["figures"] == {"failed": ["QIN, bf16: scores", "DIN, no: gradient"]}


def test_no_part_begins_without_time() -> None:
    late = run(Part(("none",), ("none",), 100), small=True, left=-1)
    assert late["failure"] == "no time is left for it"
    assert late["figures"] == {}


def test_the_verdicts_name_each_part() -> None:
    passed = {"figures": {}, "seconds": 12.3, "failure": ""}
    text = verdicts({"agreement": passed, "training": passed | {"failure": "x"}})
    assert text.splitlines() == ["agreement         12 s  passed", "training          12 s  x"]


def test_one_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = dict.fromkeys(PARTS, "") | {"agreement": "exit code 1"}
    asked = iter(failures.values())
    monkeypatch.setattr(gpu, "ended", lambda *_: next(asked))
    monkeypatch.setattr(sys, "argv", ["gpu", "--small", f"--json={tmp_path / 'gpu.json'}"])
    with pytest.raises(SystemExit) as exited:
        gpu.main()
    assert exited.value.code == 1
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: written[name]["failure"] for name in failures} == failures
    assert "agreement" in capsys.readouterr().out
