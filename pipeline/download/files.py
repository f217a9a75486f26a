"""Fetches a data set's files once: resumable, checked, with a record of what came from where."""

import logging
import shlex
import shutil
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import requests
from pydantic import AfterValidator, Field, TypeAdapter

from pipeline.common.files import InputError, write_json
from pipeline.common.scratch import file_sha256
from pipeline.common.section import Section
from pipeline.download import cache
from pipeline.download.addresses import secure
from pipeline.download.archive import is_unpacked, load_libarchive, relative_path, unpack
from pipeline.download.fetch import Bytes, NotThereError, Part, load_json, open_session, receive_all

RECORD = "downloaded.json"
CHALLENGE = Path("microlens_1m/files.json")
"""The manifest of `data.source: microlens_1m`."""
EARLIER = Path("scratch/microlens_1m")
"""Where earlier versions put its files, and `make clean` removed them."""

log = logging.getLogger(__name__)


def _relative(path: str) -> str:
    return str(relative_path(path))


Root = Annotated[str, Field(pattern="^[^?#]*/$"), AfterValidator(secure)]
RelativePath = Annotated[str, Field(min_length=1), AfterValidator(_relative)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class RemoteFile(Section):
    """One file of a manifest."""

    path: RelativePath
    """Below the root, and below the folder it lands in."""
    size: Bytes | None
    """None where unknown."""
    sha256: Sha256 | None
    unpack: RelativePath | None
    """The folder an archive is unpacked into; None for a plain file."""
    optional: bool = False
    """Whether it is done without, and told, where the server has no such file."""


class Manifest(Section):
    """What a data set consists of."""

    root: Root
    files: list[RemoteFile]


class Downloaded(Section):
    """What is known of a file in place."""

    url: str
    size: Bytes
    sha256: Sha256
    etag: str | None
    """None where the server gave none, or where the file was put there by hand."""
    unpacked: Sha256 | None = None
    """The checksum of the archive that the unpacked folder came from."""


def challenge() -> Path:
    """The challenge's files in the user's cache folder, fetched as far as they are not there."""
    folder = cache.folder() / "microlens_1m"
    with cache.held(folder):
        if EARLIER.is_dir():
            _take_over(EARLIER, folder)
        download(CHALLENGE, folder)
    return folder


def _take_over(earlier: Path, folder: Path) -> None:
    """Move what an earlier version fetched, or the user put there, to its new place."""
    if folder.exists():
        log.info("%s is not read any more, since %s is there; remove it", earlier, folder)
        return
    try:
        earlier.resolve().rename(folder)
    except OSError as error:
        raise InputError(
            f"{earlier}: downloads lie in {folder} now, and it cannot be moved there ({error}). "
            f"`mv {earlier} {shlex.quote(str(folder))}`, or remove it to fetch all again"
        ) from None
    log.info("%s now lies in %s, where `make clean` leaves it", earlier, folder)


def download(manifest: Path, folder: Path) -> None:
    """Bring every file of `manifest` (JSON) into `folder`, and unpack its archives.

    A file in place is not fetched again: it is hashed once, compared with the manifest, and noted
    in `downloaded.json`. An interrupted download resumes.

    Raises InputError for a bad manifest, an unreachable host, an HTTP error, a size or checksum
    that is not the manifest's, a bad archive, and a full disk; before any request where the library
    that unpacks is missing.
    """
    listing = load_json(manifest, TypeAdapter(Manifest))
    if any(file.unpack and not _is_unpacked(file, folder) for file in listing.files):
        load_libarchive()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD
    entries = load_json(record, TypeAdapter(dict[str, Downloaded])) if record.exists() else {}
    with open_session() as session:
        for file in listing.files:
            url, known = listing.root + quote(file.path), entries.get(file.path)
            target = folder / file.path
            if known is None and not target.exists() and _is_unpacked(file, folder):
                continue  # by hand: there is no need of the archive
            try:
                entry = _bring(session, target, file, url, known)
            except NotThereError:
                if not file.optional:
                    raise
                log.info("%s: the server has no such file; done without it", url)
                continue
            _note(record, entries, file.path, entry)
            if file.unpack is not None:
                _unpack(target, folder / file.unpack, entry)
                _note(record, entries, file.path, _with_unpacked(entry, entry.sha256))


def _bring(
    session: requests.Session, target: Path, file: RemoteFile, url: str, known: Downloaded | None
) -> Downloaded:
    return _accept(target, file, url, known) or _fetch(session, target, file, url, known)


def _is_unpacked(file: RemoteFile, folder: Path) -> bool:
    return file.unpack is not None and is_unpacked(folder / file.unpack)


def _note(record: Path, entries: dict[str, Downloaded], path: str, entry: Downloaded) -> None:
    if entries.get(path) != entry:
        entries[path] = entry
        write_json(record, {name: known.model_dump() for name, known in entries.items()})


def _with_unpacked(entry: Downloaded, sha256: str | None) -> Downloaded:
    return entry.model_copy(update={"unpacked": sha256})


def _accept(
    target: Path, file: RemoteFile, url: str, known: Downloaded | None
) -> Downloaded | None:
    """The entry of a file in place, hashed unless it is `known`; None where there is no file."""
    if not target.exists():
        return None
    size = target.stat().st_size
    if known is not None and known.size != size:
        raise InputError(
            f"{target}: {size} bytes, expected the {known.size} that were downloaded; "
            "delete the file to fetch it again"
        )
    entry = known or Downloaded(url=url, size=size, sha256=file_sha256(target), etag=None)
    _check(target, file, entry)
    return entry


def _fetch(
    session: requests.Session, target: Path, file: RemoteFile, url: str, known: Downloaded | None
) -> Downloaded:
    """Fetch `target`, or the rest of it; it appears under its name once it is whole and checked."""
    part = Part(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    receive_all(session, url, file.size, part)
    sha256 = file_sha256(part.path)
    entry = Downloaded(url=url, size=part.size, sha256=sha256, etag=part.version.etag)
    try:
        _check(target, file, entry)
    except InputError:
        part.discard()
        raise
    part.finish()
    return _with_unpacked(entry, known.unpacked if known else None)


def _check(target: Path, file: RemoteFile, entry: Downloaded) -> None:
    """InputError unless size and checksum are the manifest's, where it knows them."""
    for key, expected, found in (
        ("size", file.size, entry.size),
        ("sha256", file.sha256, entry.sha256),
    ):
        if expected not in (None, found):
            raise InputError(
                f"{target} (from {entry.url}): {key} {found}, expected {expected}. Delete the file "
                f"if it is there and run again; or correct {key} in the manifest"
            )


def _unpack(archive: Path, folder: Path, entry: Downloaded) -> None:
    """Unpack `archive`, over what an earlier version of it left in `folder`."""
    if entry.unpacked not in (None, entry.sha256) and folder.exists():
        shutil.rmtree(folder)
    unpack(archive, folder)
