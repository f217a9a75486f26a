"""The service as an ASGI application: one scorer, which all requests share.

    POST /score   probabilities of a click on candidates, after a history
    POST /rank    the most likely of all items
    GET  /health  which model it is

`/openapi.json` describes them. What is wrong with a request is answered by 422 under `detail`, in
FastAPI's form. Scoring runs in as many threads as there are cores, and what comes meanwhile waits
for one of them in its turn.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response

from pipeline.common.files import InputError
from pipeline.common.outlook import available_cores
from serving.folder import Package
from serving.scorer import Scorer
from serving.service.limits import BodyLimits
from serving.service.messages import (
    MOST_BYTES,
    TOLD,
    Health,
    RankAnswer,
    RankedItem,
    RankRequest,
    ScoreAnswer,
    ScoreRequest,
)

BODY_SECONDS = 30
LONGEST = 100
"""Characters of a name in a request that are repeated."""


def application(package: Package) -> FastAPI:
    """Raises InputError where `Scorer` does."""
    scorer, began = Scorer(package), time.monotonic()
    health = {"model": package.config["model"], "items": len(scorer), "package": scorer.folder.name}
    app = FastAPI(
        title="mmctr",
        docs_url=None,  # a page that would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=threads_as_cores,
    )
    app.add_middleware(BodyLimits, most=MOST_BYTES, seconds=BODY_SECONDS)
    add_refusals(app, str(scorer.folder))

    @app.post("/score")
    def score(request: ScoreRequest) -> ScoreAnswer:
        person = scorer.read(request.history)
        found = person.score(request.candidates, request.likes_level, request.views_level)
        return ScoreAnswer(
            probabilities=found.tolist(), unknown=person.unknown.tolist(), older=person.older
        )

    @app.post("/rank")
    def rank(request: RankRequest) -> RankAnswer:
        person = scorer.read(request.history)
        ranking = person.rank(request.k, seen=request.seen)
        columns = ranking.items.tolist(), ranking.titles, ranking.probabilities.tolist()
        items = [
            RankedItem(id=item, title=title, probability=probability)
            for item, title, probability in zip(*columns, strict=True)
        ]
        return RankAnswer(items=items, unknown=person.unknown.tolist(), older=person.older)

    @app.get("/health")
    async def healthy() -> Health:  # in no thread, so that it waits for no scoring
        return Health(**health, uptime_s=round(time.monotonic() - began, 3))

    return app


@asynccontextmanager
async def threads_as_cores(_: FastAPI) -> AsyncIterator[None]:
    """More at a time would take memory, and be no faster (benchmarks/README.md)."""
    current_default_thread_limiter().total_tokens = available_cores()
    yield


def add_refusals(app: FastAPI, folder: str) -> None:
    """What is answered in place of an answer; where the package lies is nobody's business."""

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        faults = [
            {"type": each["type"], "loc": [shortened(x) for x in each["loc"]], "msg": each["msg"]}
            for each in error.errors()[:TOLD]
        ]
        return refused(422, faults)

    @app.exception_handler(InputError)
    async def wrong(_: Request, error: InputError) -> Response:
        text = str(error).replace(folder, "the package")
        return refused(422, [{"type": "value_error", "loc": ["body"], "msg": text}])

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, _error: Exception) -> Response:
        return refused(500, "an error of the service; its log has more")


def shortened(part: str | int) -> str | int:
    return part[:LONGEST] if isinstance(part, str) else part


def refused(status: int, detail: Any) -> Response:
    """In ASCII: a name in a request may be no text that UTF-8 has."""
    content = json.dumps({"detail": detail})
    return Response(content, status, media_type="application/json")
