"""The service under load on loopback, with bad requests among the good ones.

Starts `python -m serving.service` on a free port, and asks it from several threads at once, each as
soon as it has an answer: scores of 1 to 1,000 candidates, rankings of all items, and, for a share
of them, every kind of bad request that `benchmarks/serving/requests.py` has. Counts what was sent
and answered, by kind; takes a sample of the answers and asks a scorer in this process for the same.
Fails (exit code 1) where a request is lost, answered by 5xx or by another status than the one that
it should have, or where a probability is off by more than 1e-6. The threads that ask take as much
of the cores as they need, so that there is more to be had from two machines.

    python -m benchmarks.serving.service [--package packages/main] [--seconds 30] [--threads 8]
        [--bad 0.4] [--json PATH]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.serving.asking import Asked, ask_from_threads
from pipeline.common.files import write_json
from serving.scorer import DEFAULT, Scorer

CLOSE = 1e-6
PATIENCE = 120
"""Seconds that the service may take to start, or to stop."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The service under load, bad requests among it.")
    parser.add_argument("--package", type=Path, default=DEFAULT)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--bad", type=float, default=0.4, help="the share of bad requests")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    scorer = Scorer.load(options.package)
    with service(options.package) as (process, port):
        before = process.memory_info().rss
        asked = ask_from_threads(
            port, scorer.raw[1:], options.seconds, options.threads, options.bad
        )
        memory = before, process.memory_info().rss
    found = {
        "kinds": by_kind(asked),
        "seconds": options.seconds,
        "wrong": wrong(scorer, asked),
        "compared": sum(each.answer is not None for each in asked),
        "megabytes": [each / 1e6 for each in memory],
        "load": os.getloadavg()[0],
    }
    print(table(found))
    if options.json:
        write_json(options.json, found)
    if failed(found):
        sys.exit(1)


@contextmanager
def service(package: Path) -> Iterator[tuple[psutil.Process, int]]:
    """The service's process and its port; it must stop when it is told to."""
    command = [sys.executable, "-m", "serving.service", "--package", str(package), "--port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            sys.exit("error: the service has not started")
        yield psutil.Process(process.pid), int(line.rsplit(":", 1)[1])
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()


class Kind(NamedTuple):
    expected: str
    sent: int
    answered: int
    lost: int
    server_errors: int
    unexpected: int
    p50_ms: float
    p99_ms: float


def by_kind(asked: Sequence[Asked]) -> dict[str, Kind]:
    """In the order in which each was first sent, good ones first."""
    kinds: dict[str, list[Asked]] = {}
    for each in asked:
        kinds.setdefault(each.request.kind, []).append(each)
    order = sorted(kinds, key=lambda kind: (kinds[kind][0].request.statuses or (999,), kind))
    return {kind: summary(kinds[kind]) for kind in order}


def summary(asked: Sequence[Asked]) -> Kind:
    statuses = asked[0].request.statuses
    waited = [each for each in asked if each.request.statuses]
    answered = [each for each in waited if each.status]
    times = [each.seconds * 1e3 for each in answered] or [0.0]
    return Kind(
        expected=" or ".join(map(str, statuses)) or "none",
        sent=len(asked),
        answered=len(answered),
        lost=len(waited) - len(answered),
        server_errors=sum(each.status >= 500 for each in answered),
        unexpected=sum(each.status not in each.request.statuses for each in answered),
        p50_ms=float(np.quantile(times, 0.5)),
        p99_ms=float(np.quantile(times, 0.99)),
    )


def wrong(scorer: Scorer, asked: Sequence[Asked]) -> int:
    """Of the answers that were kept, those that the scorer does not give."""
    return sum(not is_right(scorer, each) for each in asked if each.answer is not None)


def is_right(scorer: Scorer, asked: Asked) -> bool:
    content, answer = json.loads(asked.request.body), json.loads(asked.answer or b"")
    person = scorer.read(content["history"])
    if asked.request.path == "/score":
        expected = person.score(content["candidates"], content.get("likes_level"))
        found = answer["probabilities"]
    else:
        expected = person.rank(content["k"]).probabilities
        found = [item["probability"] for item in answer["items"]]
        again = person.score([item["id"] for item in answer["items"]])
        if not np.allclose(found, again, rtol=0, atol=CLOSE):
            return False
    return len(found) == len(expected) and np.allclose(found, expected, rtol=0, atol=CLOSE)


def failed(found: Mapping[str, Any]) -> bool:
    kinds = found["kinds"].values()
    return bool(found["wrong"]) or any(
        kind.lost or kind.server_errors or kind.unexpected for kind in kinds
    )


def table(found: Mapping[str, Any]) -> str:
    """A line a kind, and what is to be said of all."""
    heads = ("sent", "answered", "lost", "5xx", "other")
    lines = [f"{'':24}{'expected':>12}" + "".join(f"{x:>10}" for x in heads)]
    lines[0] += f"{'p50 ms':>10}{'p99 ms':>10}"
    for name, kind in found["kinds"].items():
        counts = "".join(f"{count:10,}" for count in kind[1:6])
        lines.append(f"{name:24}{kind.expected:>12}{counts}{kind.p50_ms:10.1f}{kind.p99_ms:10.1f}")
    kinds = found["kinds"].values()
    totals = [sum(column) for column in zip(*(kind[1:6] for kind in kinds), strict=True)]
    lines.append(f"{'together':36}" + "".join(f"{total:10,}" for total in totals))
    before, after = found["megabytes"]
    lines += [
        f"{totals[0] / found['seconds']:,.0f} requests/s for {found['seconds']:g} s; the service "
        f"took {before:,.0f} MB before and {after:,.0f} MB after",
        f"{found['compared']:,} answers compared with a scorer of this process, {found['wrong']} "
        f"of them wrong; load {found['load']:.1f}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
