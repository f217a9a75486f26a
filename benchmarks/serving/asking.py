"""Threads that ask the service, one request after the other, and keep what came of each."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from benchmarks.serving.requests import Request, Requests

HOST = "127.0.0.1"
TIMEOUT = 60
KEPT = 20
"""Of so many good answers one is kept."""
ANSWER = 1 << 16


class Asked(NamedTuple):
    request: Request
    status: int
    """0 where there was no answer."""
    seconds: float
    answer: bytes | None = None
    """Of some of the scores and rankings."""


def ask_from_threads(
    port: int, ids: np.ndarray, seconds: float, threads: int, bad: float
) -> list[Asked]:
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(ask, port, Requests(ids, seed), end, bad) for seed in range(threads)]
        return [each for part in parts for each in part.result()]


def ask(port: int, requests: Requests, end: float, bad: float) -> list[Asked]:
    """Until `end`, by the clock of `time.perf_counter`."""
    asked: list[Asked] = []
    with HTTPConnectionPool(HOST, port, maxsize=1, timeout=TIMEOUT, retries=False) as pool:
        while time.perf_counter() < end:
            request = requests.draw(bad)
            keep = 200 in request.statuses and request.body and len(asked) % KEPT == 0
            began = time.perf_counter()
            raw = "content-length" in request.headers or not request.method
            status, answer = by_socket(port, request) if raw else by_pool(pool, request)
            taken = time.perf_counter() - began
            asked.append(slim(Asked(request, status, taken, answer if keep else None)))
    return asked


def slim(asked: Asked) -> Asked:
    """A body is kept where its answer is."""
    if asked.answer is not None:
        return asked
    return asked._replace(request=asked.request._replace(body=b""))


def by_pool(pool: HTTPConnectionPool, request: Request) -> tuple[int, bytes]:
    """On a connection that is kept from one request to the next."""
    try:
        response = pool.urlopen(
            request.method, request.path, request.body or None, {**request.headers}, redirect=False
        )
    except HTTPError:
        return 0, b""
    return response.status, response.data


def by_socket(port: int, request: Request) -> tuple[int, bytes]:
    """What no client would send: the bytes as they are, on a connection of its own."""
    head = ""
    if request.method:
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join([f"{request.method} {request.path} HTTP/1.1", "host: x", *lines, "", ""])
    try:
        with socket.create_connection((HOST, port), TIMEOUT) as connection:
            connection.sendall(head.encode() + request.body)
            if not request.statuses:
                return 0, b""
            found = connection.recv(ANSWER)
    except OSError:
        return 0, b""
    words = found.split(maxsplit=2)
    return (int(words[1]), found) if len(words) > 1 and words[1].isdigit() else (0, found)
