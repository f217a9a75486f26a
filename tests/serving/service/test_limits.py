"""Bodies as they come in pieces, too many of them, too slowly, or not to the end."""

import asyncio
import json
from collections.abc import Iterable, Mapping

import pytest

from serving.service.limits import DRAINED, BodyLimits, Event, Receive, Scope, Send

MOST = 10
LAST = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool = True) -> Event:
    return {"type": "http.request", "body": body, "more_body": more}


class Run:
    """One request through the limits to an application that repeats the body."""

    def __init__(
        self,
        events: Iterable[Event],
        headers: Mapping[bytes, bytes] | None = None,
        kind: str = "http",
        seconds: float = 5,
    ) -> None:
        self.left, self.sent, self.called = list(events), list[Event](), False
        raw = list((headers or {}).items())
        limits = BodyLimits(self.app, MOST, seconds)
        asyncio.run(limits({"type": kind, "headers": raw}, self.receive, self.send))

    async def receive(self) -> Event:
        if not self.left:
            await asyncio.sleep(60)
        return self.left.pop(0)

    async def send(self, event: Event) -> None:
        self.sent.append(event)

    async def app(self, _: Scope, receive: Receive, send: Send) -> None:
        self.called = True
        event = await receive()
        assert not event.get("more_body")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": event.get("body", b"")})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.sent[0]["headers"]


@pytest.mark.parametrize(
    "events", [[LAST], [piece(b"abc"), piece(b"defghij", more=False)], [piece(b"a" * MOST), LAST]]
)
def test_a_body_within_the_limit_arrives_whole(events: list[Event]) -> None:
    run = Run(events)
    assert run.status == 200
    assert run.sent[1]["body"] == b"".join(event["body"] for event in events)


def test_one_byte_too_many_is_read_to_its_end_and_refused() -> None:
    run = Run([piece(b"a" * MOST), piece(b"a"), piece(b"a"), LAST])
    assert (run.status, run.called, run.left) == (413, False, [])
    assert not run.closes
    assert json.loads(run.sent[1]["body"]) == {"detail": "expected a body of at most 10 bytes"}


def test_a_body_without_end_is_not_read_for_ever() -> None:
    run = Run([piece(b"a" * MOST)] * (2 * DRAINED))
    assert (run.status, run.called) == (413, False)
    assert len(run.left) == DRAINED - 1
    assert run.closes


@pytest.mark.parametrize(
    "headers",
    [
        {b"content-length": b"100000000000000000000"},
        {b"content-length": b"11", b"expect": b"100-continue"},
    ],
)
def test_what_says_that_it_is_too_large_is_not_read(headers: dict[bytes, bytes]) -> None:
    run = Run([LAST], headers)
    assert (run.status, run.called, run.left) == (413, False, [LAST])
    assert run.closes


def test_a_body_that_does_not_come_is_408() -> None:
    run = Run([piece(b"abc")], seconds=0.05)
    assert (run.status, run.called) == (408, False)
    assert run.closes


def test_who_is_gone_is_not_answered() -> None:
    run = Run([piece(b"abc"), GONE])
    assert (run.sent, run.called) == ([], False)


def test_what_is_no_request_passes() -> None:
    assert Run([{"type": "lifespan.startup"}], kind="lifespan").called
