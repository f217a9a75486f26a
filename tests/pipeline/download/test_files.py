"""What is downloaded, unpacked and recorded once, and where the challenge's files are kept."""

import errno
import hashlib
import io
import logging
import shutil
import zipfile
from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.download.files import Manifest, challenge, download
from tests.pipeline.download.server import (
    CONTENT,
    NEWER,
    Site,
    broken_off,
    manifest,
    names,
    record,
    sha256,
)


def test_file_and_record(site: Site, tmp_path: Path) -> None:
    site.files = {"sub/big.parquet": CONTENT}
    folder = tmp_path / "raw"
    download(manifest(site, tmp_path, "sub/big.parquet"), folder)
    assert names(folder) == ["downloaded.json", "sub/big.parquet"]
    assert (folder / "sub/big.parquet").read_bytes() == CONTENT
    assert record(folder) == {
        "sub/big.parquet": {
            "url": f"{site.url}sub/big.parquet",
            "size": len(CONTENT),
            "sha256": sha256(CONTENT),
            "etag": '"v1"',
            "unpacked": None,
        }
    }


def test_complete_file_is_neither_requested_nor_hashed_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, folder = manifest(site, tmp_path, sha256=sha256(CONTENT)), tmp_path / "raw"
    download(listing, folder)
    before = (folder / "downloaded.json").read_bytes()
    site.requests.clear()
    monkeypatch.delattr(hashlib, "file_digest")
    download(listing, folder)
    assert site.requests == []
    assert (folder / "downloaded.json").read_bytes() == before


def test_file_put_there_by_hand(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "big.parquet").write_bytes(NEWER)
    download(manifest(site, tmp_path), folder)
    assert site.requests == []
    assert record(folder)["big.parquet"]["sha256"] == sha256(NEWER)
    assert record(folder)["big.parquet"]["etag"] is None
    with pytest.raises(InputError, match=f"sha256 {sha256(NEWER)}, expected {sha256(CONTENT)}"):
        download(manifest(site, tmp_path, sha256=sha256(CONTENT)), folder)
    assert (folder / "big.parquet").read_bytes() == NEWER


def test_file_damaged_after_its_download(site: Site, tmp_path: Path) -> None:
    listing, folder = manifest(site, tmp_path), tmp_path / "raw"
    download(listing, folder)
    (folder / "big.parquet").write_bytes(b"short")
    with pytest.raises(InputError, match=f"5 bytes, expected the {len(CONTENT)}.*delete the file"):
        download(listing, folder)


@pytest.mark.parametrize("path", ["../evil.parquet", "/evil.parquet", ""])
def test_manifest_that_leaves_the_folder(path: str, site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"files\.json: files\.0\.path: "):
        download(manifest(site, tmp_path, path), tmp_path / "raw")
    assert site.requests == []


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("item_images/1.jpg", content)
    return buffer.getvalue()


def test_archive_is_unpacked_once_and_again_when_it_is_another(site: Site, tmp_path: Path) -> None:
    site.files["item_images.zip"] = zipped(b"one")
    listing = manifest(site, tmp_path, "item_images.zip", unpack="item_images")
    folder, cover = tmp_path / "raw", tmp_path / "raw/item_images/1.jpg"
    download(listing, folder)
    assert names(folder) == ["downloaded.json", "item_images.zip", "item_images/1.jpg"]
    assert cover.read_bytes() == b"one"
    before = cover.stat().st_mtime_ns
    download(listing, folder)
    assert cover.stat().st_mtime_ns == before
    (folder / "item_images.zip").unlink()
    site.files["item_images.zip"] = zipped(b"two")
    download(listing, folder)
    assert cover.read_bytes() == b"two"


def test_folder_unpacked_by_hand_is_kept(site: Site, tmp_path: Path) -> None:
    site.files["item_images.zip"] = zipped(b"one")
    cover = tmp_path / "raw/item_images/1.jpg"
    cover.parent.mkdir(parents=True)
    cover.write_bytes(b"by hand")
    listing = manifest(site, tmp_path, "item_images.zip", unpack="item_images")
    download(listing, tmp_path / "raw")
    assert site.requests == []
    (tmp_path / "raw/item_images.zip").write_bytes(zipped(b"two"))
    download(listing, tmp_path / "raw")
    assert cover.read_bytes() == b"by hand"


def test_a_missing_library_is_told_before_any_request(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise InputError("libarchive cannot be loaded")

    site.files["item_images.zip"] = zipped(b"one")
    listing = manifest(site, tmp_path, "item_images.zip", unpack="item_images")
    monkeypatch.setattr("pipeline.download.files.load_libarchive", missing)
    with pytest.raises(InputError, match="libarchive cannot be loaded"):
        download(listing, tmp_path / "raw")
    assert site.requests == []
    assert not (tmp_path / "raw").exists()


def test_a_file_that_will_not_fit_is_told_before_its_bytes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, folder = broken_off(site, tmp_path, 2**20)
    free = len(CONTENT) - 2**20 - 1
    usage = shutil._ntuple_diskusage(2**30, 2**30 - free, free)
    with monkeypatch.context() as full:
        full.setattr("pipeline.download.disk.shutil.disk_usage", lambda _: usage)
        message = (
            rf"raw: {free + 1:,} bytes of big\.parquet are to come and {free:,} are free, 1 too"
        )
        with pytest.raises(InputError, match=message):
            download(listing, folder)
    assert (folder / "big.parquet.part").stat().st_size == 2**20
    download(listing, folder)
    assert (folder / "big.parquet").read_bytes() == CONTENT


def test_a_disk_that_becomes_full_is_told_by_name(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    version = '{"url": "", "etag": null, "last_modified": null, "size": null}'
    monkeypatch.setattr("pipeline.download.fetch.os.fsync", fsync)
    monkeypatch.setattr(
        "pipeline.download.fetch.write_json", lambda path, _: path.write_text(version)
    )
    with pytest.raises(InputError, match=r"big\.parquet\.part: could not be written: .*XDG_CACHE_"):
        download(manifest(site, tmp_path), tmp_path / "raw")


@pytest.fixture
def cache(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, and the challenge's files on `site`, seen from a repository."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.download.files.CHALLENGE", manifest(site, tmp_path))
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "cache" / "mmctr"


def test_the_challenge_is_downloaded_once_for_all_copies_of_the_repository(
    cache: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert challenge() == cache / "microlens_1m"
    assert (cache / "microlens_1m/big.parquet").read_bytes() == CONTENT
    assert list(Path.cwd().iterdir()) == []
    site.requests.clear()
    monkeypatch.chdir(tmp_path)  # as a queued experiment's copy
    assert (challenge() / "big.parquet").read_bytes() == CONTENT
    assert site.requests == []


def test_an_earlier_versions_downloads_are_moved(
    cache: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    earlier = Path("scratch/microlens_1m")
    earlier.mkdir(parents=True)
    (earlier / "big.parquet").write_bytes(NEWER)
    assert (challenge() / "big.parquet").read_bytes() == NEWER
    assert site.requests == []
    assert not earlier.exists()
    assert caplog.messages == [
        f"scratch/microlens_1m now lies in {cache}/microlens_1m, where `make clean` leaves it"
    ]
    earlier.mkdir()
    challenge()
    assert caplog.messages[1].startswith("scratch/microlens_1m is not read any more")


def test_downloads_on_another_disk_are_moved_by_hand(
    cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*_: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    Path("scratch/microlens_1m").mkdir(parents=True)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InputError, match=f"`mv scratch/microlens_1m {cache}/microlens_1m`"):
        challenge()
    assert site.requests == []


def test_the_competition_manifest() -> None:
    listing = Path(__file__).parents[3] / "microlens_1m" / "files.json"
    loaded = Manifest.model_validate_json(listing.read_bytes())
    assert loaded.root == "https://recsys.westlake.edu.cn/MicroLens_1M_MMCTR/"
    assert {file.path: file.unpack for file in loaded.files} == {
        "item_feature.parquet": None,
        "item_seq.parquet": None,
        "item_emb.parquet": None,
        "item_images.rar": "item_images",
        "MicroLens_1M_x1/train.parquet": None,
        "MicroLens_1M_x1/valid.parquet": None,
        "MicroLens_1M_x1/test.parquet": None,
        "MicroLens_1M_x1/item_info.parquet": None,
    }
    optional = {file.path for file in loaded.files if file.optional}
    assert optional == {"item_seq.parquet", "item_emb.parquet"}
