from collections.abc import Iterator

import pytest

from pipeline.download import fetch
from tests.pipeline.download.server import CONTENT, Site, served


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "BACKOFF", 0.0)
    with served(Site({"big.parquet": CONTENT})) as site:
        yield site
