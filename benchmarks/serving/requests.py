"""Requests to the service, good ones and every kind of bad one, and what should come of each."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from serving.service.messages import MOST_BYTES, MOST_CANDIDATES, MOST_HISTORY, MOST_RANKED

JSON = {"content-type": "application/json"}
HISTORY = 100
"""Items of the longest that is asked with."""
CANDIDATES = (1, 100, 1_000)
KS = (10, 100)
DEEP = 100_000


class Request(NamedTuple):
    kind: str
    statuses: tuple[int, ...]
    """Any of them is right; none where the sender is gone before an answer."""
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = JSON


class Requests:
    """Drawn at random, of the items of a package."""

    def __init__(self, ids: np.ndarray, seed: int) -> None:
        """`ids` is int64 (N,): raw ids that the model knows."""
        self.ids, self.rng = ids, np.random.default_rng(seed)
        self.unknown = int(ids.max()) + 1
        good = [
            *(lambda n=n: self.score(n) for n in CANDIDATES),
            *(lambda k=k: self.rank(k) for k in KS),
            self.health,
        ]
        bad = [
            self.no_json,
            self.too_deep,
            self.wrong_type,
            self.not_asked_for,
            self.unknown_candidate,
            self.wrong_levels,
            self.too_long,
            self.too_many,
            self.too_large,
            self.declared_too_large,
            self.wrong_method,
            self.wrong_path,
            self.no_http,
            self.cut_body,
            self.no_reader,
        ]
        self.good: list[Callable[[], Request]] = good
        self.bad: list[Callable[[], Request]] = bad

    def draw(self, bad: float) -> Request:
        """`bad` is the share of bad ones."""
        makers = self.bad if self.rng.random() < bad else self.good
        return makers[int(self.rng.integers(len(makers)))]()

    def history(self) -> list[int]:
        return self.rng.choice(self.ids, int(self.rng.integers(HISTORY + 1))).tolist()

    def score(self, count: int) -> Request:
        content: dict[str, Any] = {
            "history": self.history(),
            "candidates": self.rng.choice(self.ids, count).tolist(),
        }
        if self.rng.random() < 0.5:
            content["likes_level"] = self.rng.integers(0, 11, count).tolist()
        return posted(f"score {count:,}", 200, "/score", content)

    def rank(self, k: int) -> Request:
        return posted(f"rank {k}", 200, "/rank", {"history": self.history(), "k": k})

    def health(self) -> Request:
        return Request("health", (200,), "GET", "/health")

    def no_json(self) -> Request:
        body = [b"{", b"history=1", b"\xff\xfe", b"", b'{"history": [1,}'][self.rng.integers(5)]
        return Request("no JSON", (400, 422), "POST", "/rank", body)

    def too_deep(self) -> Request:
        return Request("100,000 brackets", (400, 422), "POST", "/score", b"[" * DEEP)

    def wrong_type(self) -> Request:
        wrong = [1.0, True, "1", None, [1], {}, 1e400, 2**63, 10**4_000][self.rng.integers(9)]
        content = {"history": [*self.history(), wrong], "candidates": [wrong]}
        return posted("wrong type", (400, 422), "/score", content)

    def not_asked_for(self) -> Request:
        content = {"history": [], "candidates": [], "\ud800": "__import__('os')"}
        return posted("unknown field", 422, "/score", content)

    def unknown_candidate(self) -> Request:
        content = {"history": self.history(), "candidates": [self.unknown, -1, 0]}
        return posted("unknown candidate", 422, "/score", content)

    def wrong_levels(self) -> Request:
        levels: list[Any] = [[11], [-1], [1, 2], [0.5]]
        content = {
            "history": [],
            "candidates": self.ids[:1].tolist(),
            "views_level": levels[self.rng.integers(4)],
        }
        return posted("wrong levels", 422, "/score", content)

    def too_long(self) -> Request:
        content = {"history": [1] * (MOST_HISTORY + 1), "k": MOST_RANKED}
        return posted("too long a history", 422, "/rank", content)

    def too_many(self) -> Request:
        if self.rng.random() < 0.5:
            return posted("too many", 422, "/rank", {"history": [], "k": MOST_RANKED + 1})
        content = {"history": [], "candidates": [1] * (MOST_CANDIDATES + 1)}
        return posted("too many", 422, "/score", content)

    def too_large(self) -> Request:
        return Request("too large a body", (413,), "POST", "/score", b" " * (MOST_BYTES + 1))

    def declared_too_large(self) -> Request:
        headers = JSON | {"content-length": str(10**15)}
        return Request("a petabyte declared", (413,), "POST", "/score", b"{", headers)

    def wrong_method(self) -> Request:
        method = ["GET", "PUT", "DELETE", "PATCH"][self.rng.integers(4)]
        return Request("wrong method", (405,), method, "/score")

    def wrong_path(self) -> Request:
        path = ["/", "/score/", "/docs", "/../etc/passwd", "/%2e%2e/x", "/rank/1?k=1"]
        return Request("wrong path", (404,), "GET", path[self.rng.integers(len(path))])

    def no_http(self) -> Request:
        return Request("no HTTP", (400,), "", "", b"\x16\x03\x01 hello\r\n\r\n")

    def cut_body(self) -> Request:
        headers = JSON | {"content-length": "1000"}
        return Request("gone within the body", (), "POST", "/rank", b'{"history": [', headers)

    def no_reader(self) -> Request:
        request = self.rank(KS[0])
        headers = JSON | {"content-length": str(len(request.body))}
        return request._replace(kind="gone before the answer", statuses=(), headers=headers)


def posted(kind: str, status: int | tuple[int, ...], path: str, content: Any) -> Request:
    statuses = status if isinstance(status, tuple) else (status,)
    return Request(kind, statuses, "POST", path, json.dumps(content).encode())
