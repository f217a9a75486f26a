"""Certificates, redirects, and what a message may show of an address."""

import logging
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from requests import PreparedRequest, Response

from pipeline.common.files import InputError
from pipeline.download import fetch
from pipeline.download.addresses import secure, without_secrets
from pipeline.download.fetch import open_session
from pipeline.download.files import download
from tests.pipeline.download.server import CONTENT, Handler, Site, manifest, names, record, served

SECRET = "hunter2"


@pytest.fixture
def encrypted(tmp_path: Path, site: Site) -> Iterator[Site]:
    """A site over https, whose certificate nobody has signed but itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate by the command openssl, which is not here")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext"
    options = ["subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with served(Site(site.files), context) as secured:
        yield secured


def test_a_certificate_that_nobody_vouches_for(
    encrypted: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, folder = manifest(encrypted, tmp_path), tmp_path / "raw"
    with pytest.raises(InputError, match=r"cannot be reached.*certificate verify failed"):
        download(listing, folder)
    assert names(folder) == []
    assert encrypted.requests == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    download(listing, folder)
    assert (folder / "big.parquet").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "root",
    [
        f"https://user:{SECRET}@example.org/",
        f"https://{SECRET}@example.org/",
        f"https://example.org/?token={SECRET}/",
        f"http://user:{SECRET}@example.org/?a={SECRET}/",
        f"https://example.org/a?token={SECRET}",
    ],
)
def test_a_manifest_with_credentials_is_refused_without_showing_them(
    root: str, site: Site, tmp_path: Path
) -> None:
    site.url = root
    with pytest.raises(InputError, match=r"files\.json: root: ") as error:
        download(manifest(site, tmp_path), tmp_path / "raw")
    assert SECRET not in str(error.value)


def redirect(monkeypatch: pytest.MonkeyPatch, site: Site, target: str) -> None:
    """The site's next answers lead to `target`."""
    site.statuses = [302] * 20
    answer = Handler.answer

    def elsewhere(self: Handler, status: int, body: bytes, fields: dict[str, str]) -> None:
        answer(self, status, body, fields | ({"Location": target} if status == 302 else {}))

    monkeypatch.setattr(Handler, "answer", elsewhere)


@pytest.mark.parametrize(
    "target",
    [
        f"http://example.org/?X-Amz-Signature={SECRET}",
        f"https://user:{SECRET}@example.org/",
        f"https://127.0.0.1:1/x?X-Amz-Signature={SECRET}",
        f"ftp://user:{SECRET}@example.org/",
    ],
)
def test_no_message_shows_a_signed_address(
    target: str,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither the error, nor a log, nor what lies on the disk."""
    redirect(monkeypatch, site, target)
    caplog.set_level(logging.INFO)
    with pytest.raises(InputError) as error:
        download(manifest(site, tmp_path), tmp_path / "raw")
    printed = capfd.readouterr()
    assert SECRET not in str(error.value) + caplog.text + printed.out + printed.err
    for path in (tmp_path / "raw").rglob("*"):
        assert SECRET not in path.read_text(errors="replace")


def test_the_record_names_the_manifests_address_and_no_other(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["signed"] = CONTENT
    redirect(monkeypatch, site, f"{site.url}signed?X-Amz-Signature={SECRET}")
    site.statuses = [302]
    site.files[f"signed?X-Amz-Signature={SECRET}"] = CONTENT
    download(manifest(site, tmp_path), tmp_path / "raw")
    assert record(tmp_path / "raw")["big.parquet"]["url"] == f"{site.url}big.parquet"
    assert SECRET not in (tmp_path / "raw/downloaded.json").read_text()


def redirected(source: str, target: str) -> str | None:
    """Where the session goes from `source`, whose answer leads to `target`."""
    response = Response()
    response.url, response.status_code = source, 302
    response.headers["Location"] = target
    response.request = PreparedRequest()
    with open_session() as session:
        return session.get_redirect_target(response)


@pytest.mark.parametrize("here", ["http://127.0.0.1:8080/x", "https://localhost/", "http://[::1]/"])
def test_nothing_from_elsewhere_reaches_this_machine(here: str) -> None:
    with pytest.raises(InputError, match=r"https://example\.org/\?\.\.\.: redirected to this mach"):
        redirected(f"https://example.org/?token={SECRET}", here)
    assert redirected("http://127.0.0.1:1/", here) == here
    assert redirected("https://example.org/", "/other") == "/other"


def test_an_address_without_its_secrets() -> None:
    shown = "HTTPSConnectionPool(host='a.org'): url: /x?... (Caused by y), 'https://a.org/b?...'"
    text = shown.replace("?...", f"?token={SECRET}&b=1").replace("//a", f"//me:{SECRET}@a")
    assert SECRET in text
    assert without_secrets(text) == shown
    plain = "https://a.org/b: HTTP status 404, type 'x'; is it there? Correct a@b.org"
    assert without_secrets(plain) == plain


@pytest.mark.parametrize(
    "url",
    ["https://a.org/", "https://a.org/b?c=d", "http://localhost:1/", "http://127.0.0.1/"],
)
def test_secure_addresses(url: str) -> None:
    assert secure(url) == url


def test_requests_warnings_are_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 would log the address of each attempt that it repeats."""
    open_session().close()
    caplog.set_level(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").warning("Retrying: /x?token=%s", SECRET)
    assert caplog.text == ""
    assert fetch.ATTEMPTS > 1
