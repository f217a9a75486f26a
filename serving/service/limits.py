"""Bodies of requests are read whole before anything else sees them, and refused where they are too
large or too slow: 413 and 408, as ASGI middleware."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse, Response

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAINED = 16
"""Times the most bytes that a body may have: so much of a larger one is still read, and dropped, so
that its sender gets to read the answer; of one that is larger still nothing is."""
CLOSE = {"connection": "close"}


class BodyLimits:
    def __init__(self, app: App, most: int, seconds: float) -> None:
        """`most` bytes, which must be there within `seconds`."""
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self.read(dict(scope["headers"]), receive)
        except TimeoutError:
            body = refusal(408, f"expected the whole body within {self.seconds:g} seconds", CLOSE)
        if body is None:
            return
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        left: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Event:
            return left.pop() if left else await receive()

        await self.app(scope, replayed, send)

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | Response | None:
        """The body, or what is answered in its place; nothing where the sender is gone."""
        told = f"expected a body of at most {self.most:,} bytes"
        declared = headers.get(b"content-length", b"")  # the server has checked it
        length = int(declared) if declared.isdigit() else 0
        if length > DRAINED * self.most or (length > self.most and b"expect" in headers):
            return refusal(413, told, CLOSE)
        parts, size = [], 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return None
            part: bytes = event.get("body", b"")
            size += len(part)
            if size <= self.most:
                parts.append(part)
            elif size > DRAINED * self.most:
                return refusal(413, told, CLOSE)
            else:
                parts.clear()
            if not event.get("more_body", False):
                return b"".join(parts) if size <= self.most else refusal(413, told)


def refusal(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)
