import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import service
from benchmarks.serving.asking import Asked
from benchmarks.serving.requests import Request, Requests
from benchmarks.serving.service import by_kind, failed, is_right, main, table, wrong
from serving.scorer import Scorer
from tests.support.worlds.packaged import IDS, write_package

GOOD = Request("score 1", (200,), "POST", "/score")
CUT = Request("cut", (), "POST", "/score")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("packages") / "tiny")


def test_a_loaded_service_loses_nothing(
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "figures.json"
    arguments = [f"--package={package}", "--seconds=2", "--threads=4", f"--json={file}"]
    monkeypatch.setattr("sys.argv", ["service", *arguments])
    main()
    printed, found = capsys.readouterr().out, json.loads(file.read_text())
    assert "requests/s" in printed
    assert found["kinds"]
    assert found["wrong"] == 0


def test_every_kind_is_drawn() -> None:
    requests = Requests(np.array(IDS), seed=1)
    assert {requests.draw(bad=0.0).statuses for _ in range(50)} == {(200,)}
    kinds = {requests.draw(bad=1.0).kind for _ in range(300)}
    assert len(kinds) == len(requests.bad)
    assert all(200 not in requests.draw(bad=1.0).statuses for _ in range(50))


def test_what_is_lost_or_an_error_or_wrong_fails() -> None:
    fine = [Asked(GOOD, 200, 0.1), Asked(CUT, 0, 0.1)]
    assert not failed({"kinds": by_kind(fine), "wrong": 0})
    assert failed({"kinds": by_kind(fine), "wrong": 1})
    for status in (0, 500, 422):
        assert failed({"kinds": by_kind([*fine, Asked(GOOD, status, 0.1)]), "wrong": 0})


def test_kinds_are_counted_and_shown() -> None:
    asked = [Asked(GOOD, status, 0.1) for status in (200, 200, 0, 503, 404)]
    kind = by_kind(asked)["score 1"]
    assert kind[1:6] == (5, 4, 1, 1, 2)
    assert kind.p50_ms == pytest.approx(100)
    found = {
        "kinds": {"score 1": kind},
        "seconds": 2.0,
        "wrong": 0,
        "compared": 3,
        "megabytes": [1.0, 2.0],
        "load": 1.0,
    }
    lines = table(found).splitlines()
    assert lines[1].split() == ["score", "1", "200", "5", "4", "1", "1", "2", "100.0", "100.0"]
    assert "2 requests/s for 2 s" in lines[3]


def test_an_answer_that_is_off_is_found(package: Path) -> None:
    scorer, ids = Scorer.load(package), IDS
    person = scorer.read(ids[:3])
    score = Request("", (200,), "POST", "/score", asked_with(history=ids[:3], candidates=ids))
    probabilities = person.score(ids)
    ranking = person.rank(5)
    rank = Request("", (200,), "POST", "/rank", asked_with(history=ids[:3], k=5))
    for off, right in ((0.0, True), (1e-4, False)):
        found = {"probabilities": (probabilities + off).tolist()}
        assert is_right(scorer, Asked(score, 200, 0, asked_with(**found))) == right
        items = [
            {"id": int(item), "probability": float(probability + off)}
            for item, probability in zip(ranking.items, ranking.probabilities, strict=True)
        ]
        asked = Asked(rank, 200, 0, asked_with(items=items))
        assert is_right(scorer, asked) == right
        assert wrong(scorer, [asked, Asked(GOOD, 200, 0)]) == (not right)


def asked_with(**content: object) -> bytes:
    return json.dumps(content).encode()


def test_a_service_that_does_not_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has not started"), service.service(tmp_path / "none"):
        pass


def test_seeds_draw_different_requests() -> None:
    first, second = (Requests(np.arange(1, 41), seed).score(5).body for seed in (1, 2))
    assert first != second
