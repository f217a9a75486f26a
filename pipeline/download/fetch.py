"""One file over https: resumed where it broke off, started over if it changed meanwhile."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urljoin

import requests
from pydantic import Field, TypeAdapter, ValidationError
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from pipeline.common.files import InputError, write_json
from pipeline.common.section import Section
from pipeline.download.addresses import is_here, secure, without_secrets
from pipeline.download.disk import require_space, writing

ATTEMPTS = 6
"""Requests in a row that bring nothing new before a download gives up."""
BACKOFF = 1.0
"""Seconds of a pause between two requests, doubled with every failure in a row."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two packets."""
CHUNK = 2**16
"""Bytes read at once; a connection that breaks costs what is missing to a whole chunk."""

MOST_BYTES = 2**37
"""Of a file whose size the manifest does not tell; the competition's largest has some 20 GB."""

GONE = (requests.codes.not_found, requests.codes.gone)

Bytes = Annotated[int, Field(ge=0)]
Content = TypeVar("Content")


class NotThereError(InputError):
    """The server answers, and says that it has no such file."""


class Version(Section):
    """What tells one version of a remote file from another."""

    url: str
    etag: str | None
    last_modified: str | None
    size: Bytes | None
    """Of the whole file."""

    @property
    def validator(self) -> str | None:
        """What If-Range may compare by: a weak ETag does not promise equal bytes."""
        strong = self.etag and not self.etag.startswith("W/")
        return self.etag if strong else self.last_modified

    def agrees(self, other: "Version") -> bool:
        """Whether nothing differs that both know."""
        pairs = zip(self.model_dump().values(), other.model_dump().values(), strict=True)
        return all(None in pair or pair[0] == pair[1] for pair in pairs)


@dataclass(frozen=True)
class Part:
    """The bytes of `target` that are here so far, and the version they belong to."""

    target: Path

    @property
    def path(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def version_path(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> Version:
        return load_json(self.version_path, TypeAdapter(Version))

    def range_headers(self) -> dict[str, str]:
        """Asks for the rest, or for everything should it have changed; empty with no start."""
        if not self.size or not self.version_path.exists():
            return {}
        validator = self.version.validator
        return {"Range": f"bytes={self.size}-", "If-Range": validator} if validator else {}

    def is_continued_by(self, response: Response, version: Version) -> bool:
        """Whether a 206 brings the next bytes of this version, or a 416 says that none is left."""
        if not version.agrees(self.version):
            return False
        if response.status_code == requests.codes.partial_content:
            return response.headers.get("Content-Range", "").startswith(f"bytes {self.size}-")
        return self.size == (self.version.size if version.size is None else version.size)

    def start(self, version: Version) -> None:
        self.discard()
        write_json(self.version_path, version.model_dump())

    def discard(self) -> None:
        # The bytes go first: after a kill in between, none can be taken for another version's.
        self.path.unlink(missing_ok=True)
        self.version_path.unlink(missing_ok=True)

    def finish(self) -> None:
        self.path.replace(self.target)
        self.version_path.unlink()


def receive_all(session: requests.Session, url: str, size: int | None, part: Part) -> None:
    """Request until `part` is whole; InputError after ATTEMPTS requests without a new byte."""
    most, failures, reason = part.size, 0, "no data"
    while failures < ATTEMPTS:
        try:
            if _receive(session, url, size, part):
                return
        except requests.RequestException as error:
            reason = without_secrets(str(error))
        failures = 0 if part.size > most else failures + 1
        most = max(most, part.size)
        time.sleep(BACKOFF * 2**failures)
    raise InputError(
        f"{url}: broke off {ATTEMPTS} times in a row at {part.size} bytes ({reason}); "
        "run again to resume"
    )


def _receive(session: requests.Session, url: str, size: int | None, part: Part) -> bool:
    """One request that adds to `part`; whether it is whole after it."""
    headers = part.range_headers()
    with _get(session, url, headers, part.target) as response:
        if response.status_code == requests.codes.ok:
            part.start(_version(response, url))
        elif not part.is_continued_by(response, _version(response, url)):
            part.discard()
            return False
        total = part.version.size
        if size is not None and total not in (None, size):
            raise InputError(f"{url}: size {total}, expected {size} from the manifest")
        if total is not None:
            require_space(part.target.parent, total - part.size, part.target.name)
        if response.status_code != requests.codes.range_not_satisfiable:
            _save(response, part, total, MOST_BYTES if size is None else size)
    return total in (None, part.size)


def _get(session: requests.Session, url: str, headers: dict[str, str], target: Path) -> Response:
    """The answer to one request, its body unread; InputError unless it brings the file."""
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise InputError(
            f"{url}: cannot be reached ({without_secrets(str(error))}). Run again to resume; "
            f"or download the files by hand, this one as {target}, "
            "or all into a folder that data.source then names"
        ) from None
    kind = response.headers.get("Content-Type", "")
    coding = response.headers.get("Content-Encoding", "identity")
    plain = coding == "identity" and "html" not in kind
    match response.status_code:
        case 416 if headers:  # its body is a page of the server's, not the file
            return response
        case 200 if plain:
            return response
        case 206 if plain and headers:
            return response
    response.close()
    refusal = NotThereError if response.status_code in GONE else InputError
    raise refusal(
        f"{url}: HTTP status {response.status_code} {response.reason}, type {kind or 'unknown'!r}, "
        f"encoding {coding!r}; expected the plain file. Correct the manifest, or try again later"
    )


def _version(response: Response, url: str) -> Version:
    size = response.headers.get("Content-Length", "")
    if response.status_code != requests.codes.ok:
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return Version(
        url=url,
        etag=response.headers.get("ETag"),
        last_modified=response.headers.get("Last-Modified"),
        size=int(size) if size.isdecimal() else None,
    )


def _save(response: Response, part: Part, total: int | None, most: int) -> None:
    """Append the body to `part`, with a bar; what has arrived stays if the connection breaks.

    Raises InputError, and keeps nothing, as soon as `part` is larger than `most` bytes.
    """
    with (
        writing(part.path),
        part.path.open("ab") as out,
        tqdm(
            desc=part.target.name,
            initial=part.size,
            total=total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            disable=None,
        ) as bar,
    ):
        for chunk in response.iter_content(CHUNK):
            bar.update(out.write(chunk))
            if out.tell() > most:
                part.discard()
                raise InputError(
                    f"{part.target}: the server sends more than the {most} bytes expected; "
                    "correct size in the manifest, or try again later"
                )
        out.flush()
        os.fsync(out.fileno())


class _SecureAdapter(HTTPAdapter):
    """Refuses what a redirect may lead to: an address that is neither https nor this machine."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        try:
            secure(request.url or "")
        except ValueError as error:
            raise InputError(f"redirected: {error}") from None
        return super().send(request, *args, **kwargs)


class _Session(requests.Session):
    """Follows no redirect from elsewhere to this machine, whose own services trust its users."""

    def get_redirect_target(self, resp: Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None and is_here(urljoin(resp.url, target)) and not is_here(resp.url):
            raise InputError(f"{without_secrets(resp.url)}: redirected to this machine itself")
        return target


def open_session() -> requests.Session:
    """Repeats what fails before a body comes: no connection, a server that is out of order."""
    retry = Retry(
        total=ATTEMPTS - 1,
        backoff_factor=BACKOFF,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,
        respect_retry_after_header=False,  # a host could ask for hours
    )
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings show signed addresses
    session = _Session()
    session.headers["Accept-Encoding"] = "identity"  # sizes and ranges count the file's own bytes
    for scheme in ("https://", "http://"):
        session.mount(scheme, _SecureAdapter(max_retries=retry))
    return session


def load_json(path: Path, adapter: TypeAdapter[Content]) -> Content:
    """The checked content of a JSON file; every fault in one InputError."""
    try:
        return adapter.validate_json(path.read_bytes())
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, found {fault['input']!r}"
            for fault in error.errors()
        )
        raise InputError(f"{path}: {without_secrets(faults)}") from None
