"""Answers of the service beside those of the scorer; what is refused, and how."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.folder import read_package
from serving.scorer import Scorer
from serving.service import app as app_module
from serving.service.app import LONGEST, application
from serving.service.messages import (
    MOST_BYTES,
    MOST_CANDIDATES,
    MOST_HISTORY,
    MOST_RANKED,
    TOLD,
    RankRequest,
    ScoreRequest,
)
from tests.support.worlds.packaged import IDS

UNKNOWN = IDS[0] + 1
JSON = {"content-type": "application/json"}
HISTORIES: tuple[list[int], ...] = (
    [],
    IDS[3:5],
    IDS[:20],
    [UNKNOWN, *IDS[:9], UNKNOWN, -7],
    [UNKNOWN],
)


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("candidates", [[], IDS[:1], [*IDS, *IDS[:3]]])
def test_scores_are_the_scorers(
    client: TestClient, scorer: Scorer, history: list[int], candidates: list[int]
) -> None:
    answer = client.post("/score", json={"history": history, "candidates": candidates})
    person = scorer.read(history)
    assert answer.status_code == 200
    assert answer.json() == {
        "probabilities": person.score(candidates).tolist(),
        "unknown": [each for each in history if each not in IDS],
        "older": max(0, sum(each in IDS for each in history) - scorer.window),
    }


def test_levels_are_heeded(client: TestClient, scorer: Scorer) -> None:
    levels = {"likes_level": [0, 10, 3], "views_level": [10, 0, 5]}
    content = {"history": IDS[5:9], "candidates": IDS[:3]}
    found = client.post("/score", json=content | levels).json()["probabilities"]
    assert found == scorer.score(IDS[5:9], IDS[:3], *levels.values()).tolist()
    assert found != client.post("/score", json=content).json()["probabilities"]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize(("k", "seen"), [(1, False), (10, True), (MOST_RANKED, False)])
def test_rankings_are_the_scorers(
    client: TestClient, scorer: Scorer, history: list[int], k: int, seen: bool
) -> None:
    answer = client.post("/rank", json={"history": history, "k": k, "seen": seen}).json()
    ranking = scorer.read(history).rank(k, seen=seen)
    columns = ranking.items.tolist(), ranking.titles, ranking.probabilities.tolist()
    assert answer["items"] == [
        {"id": item, "title": title, "probability": probability}
        for item, title, probability in zip(*columns, strict=True)
    ]
    assert answer["unknown"] == [each for each in history if each not in IDS]


def test_ten_are_ranked_unless_more_are_asked_for(client: TestClient) -> None:
    assert len(client.post("/rank", json={"history": []}).json()["items"]) == 10


def test_health_tells_which_model_it_is(client: TestClient, package: Path) -> None:
    answer = client.get("/health").json()
    assert answer.pop("uptime_s") >= 0
    assert answer == {"model": "qin", "items": len(IDS), "package": package.name}


def test_what_it_takes_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/score", "/rank", "/health"}
    fields = described["components"]["schemas"]["ScoreRequest"]["properties"]
    assert fields["history"]["maxItems"] == MOST_HISTORY
    assert set(fields) == set(ScoreRequest.model_fields)


WRONG: dict[str, tuple[str, Any, str]] = {
    "unknown candidate": ("/score", {"candidates": [IDS[0], UNKNOWN]}, f"candidates: {UNKNOWN} is"),
    "no candidates": ("/score", {}, "Field required"),
    "no object": ("/score", [], "valid dictionary"),
    "a float": ("/score", {"candidates": [100.0]}, "valid integer"),
    "a boolean": ("/score", {"candidates": [True]}, "valid integer"),
    "text": ("/score", {"candidates": ["100"]}, "valid integer"),
    "beyond int64": ("/score", {"candidates": [2**63]}, "less than"),
    "level 11": ("/score", {"candidates": IDS[:1], "likes_level": [11]}, "less than 11"),
    "level -1": ("/score", {"candidates": IDS[:1], "views_level": [-1]}, "greater than"),
    "a level too many": (
        "/score",
        {"candidates": IDS[:1], "views_level": [1, 2]},
        "views_level has 2 levels; expected 1",
    ),
    "many candidates": ("/score", {"candidates": [IDS[0]] * (MOST_CANDIDATES + 1)}, "at most"),
    "a long history": ("/rank", {"history": [IDS[0]] * (MOST_HISTORY + 1)}, "at most"),
    "k 0": ("/rank", {"k": 0}, "greater than or equal to 1"),
    "a large k": ("/rank", {"k": MOST_RANKED + 1}, "less than or equal to"),
    "a float as k": ("/rank", {"k": 5.0}, "valid integer"),
    "seen by a number": ("/rank", {"seen": 1}, "valid boolean"),
    "a field that is not asked for": ("/rank", {"package": "/etc"}, "not permitted"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told(client: TestClient, package: Path, kind: str) -> None:
    path, content, told = WRONG[kind]
    answer = client.post(
        path, json={"history": [], **content} if isinstance(content, dict) else content
    )
    assert answer.status_code == 422
    (fault,) = answer.json()["detail"]
    assert set(fault) == {"type", "loc", "msg"}
    assert told in fault["msg"]
    assert str(package.parent) not in answer.text


BODIES = {
    "none": b"",
    "no JSON": b"history=5",
    "no text": b"\xff\xfe\x00",
    "half": b'{"history": [1, ',
    "deep": b"[" * 200_000,
    "no number": b'{"history": [NaN, Infinity]}',
    "digits": b'{"history": [' + b"1" * 5_000 + b"]}",
    "half a character": b'{"history": [], "\\ud800": 1}',
    "half a character in text": b'{"history": "\\udfff"}',
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("headers", [JSON, {"content-type": "text/plain"}, {}])
def test_no_body_ends_in_an_error_of_the_service(
    client: TestClient, kind: str, headers: dict[str, str]
) -> None:
    answer = client.post("/rank", content=BODIES[kind], headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_a_body_too_large_is_413(client: TestClient) -> None:
    answer = client.post("/score", content=b" " * (MOST_BYTES + 1), headers=JSON)
    assert answer.status_code == 413
    assert f"{MOST_BYTES:,} bytes" in answer.json()["detail"]
    most = {"history": [2**62] * MOST_HISTORY, "candidates": [-(2**62)] * MOST_CANDIDATES}
    levels = dict.fromkeys(("likes_level", "views_level"), [10] * MOST_CANDIDATES)
    assert len(json.dumps(most | levels)) < MOST_BYTES


def test_other_paths_and_methods_are_404_and_405(client: TestClient) -> None:
    assert client.get("/score").status_code == 405
    assert client.post("/health").status_code == 405
    for path in ("/", "/docs", "/score/", "/score/x", "/..%2f..%2fetc/passwd"):
        assert client.get(path).status_code == 404


def test_few_faults_are_told_and_little_of_them_repeated(client: TestClient) -> None:
    names = {f"{'x' * 1_000}{number}": 1 for number in range(50)}
    answer = client.post("/rank", json={"history": [], **names})
    assert len(answer.json()["detail"]) == TOLD
    assert "x" * LONGEST in answer.text
    assert "x" * (LONGEST + 1) not in answer.text


def test_a_hundred_thousand_faults_are_not_told_one_by_one() -> None:
    """Each would take pydantic 2 KB: a body of 4 MB would stop all others for seconds."""
    names = {f"x{number}": 1 for number in range(100_000)}
    levels = {"candidates": [1] * 1000, "likes_level": [99] * 1000, "views_level": [-1] * 1000}
    for request, content in ((RankRequest, names), (ScoreRequest, {**names, **levels})):
        with pytest.raises(ValidationError) as refused:
            request.model_validate({"history": [], **content})
        assert TOLD <= refused.value.error_count() <= TOLD + len(levels)


def test_an_unforeseen_error_shows_nothing_of_the_code(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Scorer, "read", fail)
    answer = client.post("/rank", json={"history": []})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "an error of the service; its log has more"}


def test_threads_get_the_answers_of_one_after_the_other(client: TestClient) -> None:
    contents = [{"history": IDS[n : n + 7], "candidates": IDS[: n + 1]} for n in range(30)]
    expected = [client.post("/score", json=content).json() for content in contents]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda content: client.post("/score", json=content).json(), contents))
    for answer, other in zip(found, expected, strict=True):
        assert answer.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-6)
        assert answer == other


def test_as_many_are_scored_at_a_time_as_there_are_cores(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores, now, most, lock = 2, 0, 0, threading.Lock()

    def read(scorer: Scorer, history: list[int]) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return scorer.told(history)

    monkeypatch.setattr(app_module, "available_cores", lambda: cores)
    with TestClient(application(read_package(package))) as client, monkeypatch.context() as patch:
        original = Scorer.read
        patch.setattr(Scorer, "told", original)
        patch.setattr(Scorer, "read", read)
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda _: client.post("/rank", json={"history": []}), range(16))
            assert {answer.status_code for answer in answers} == {200}
    assert most == cores


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(IDS)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
fields = st.sampled_from(["history", "candidates", "likes_level", "views_level", "k", "seen", "x"])
ids = st.lists(st.sampled_from([*IDS, UNKNOWN]))
bodies = st.binary() | (
    values | st.dictionaries(fields, values | ids) | st.fixed_dictionaries({"history": ids})
).map(lambda content: json.dumps(content).encode())


@given(path=st.sampled_from(["/score", "/rank"]), body=bodies)
@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_is_sent_is_answered_or_refused(
    client: TestClient, path: str, body: bytes
) -> None:
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in (200, 400, 422)
    assert answer.json()
