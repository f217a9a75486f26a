"""What DVC would not see change is refused, and what is recommended in its place is seen."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.common.files import InputError, Outputs
from pipeline.ingest import files_read, ingest, raw_folder
from pipeline.raw.seen import refuse_ignored
from tests.pipeline.conftest import RawFolder

LINKED = ["item_images", "MicroLens_1M_x1", "item_images/more"]


@pytest.fixture
def repository(workspace: Path) -> Path:
    """The workspace as a DVC repository, in which a stage depends on the folder `raw` alone."""
    Repo.init(no_scm=True)
    (workspace / ".dvcignore").write_text("scratch\n*.webp\n")
    (workspace / "dvc.yaml").write_text(
        "stages:\n  ingest:\n    cmd: echo > made\n    deps: [raw]\n    outs: [made]\n"
    )
    return workspace


def is_seen_by_dvc(change: Path, content: bytes = b"another") -> bool:
    """Whether the stage is up to date, and no longer when the file has another content."""
    with Repo() as repo:
        repo.reproduce()
        assert repo.status() == {}
        change.write_bytes(content)
        return bool(repo.status())


def linked(source: Path, name: str, elsewhere: Path) -> Path:
    """The folder `name` of the source moved to `elsewhere`, and a link to it in its place."""
    folder = source / name
    folder.mkdir(exist_ok=True)
    (folder / "2.png").write_bytes(b"two")
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    return folder


@pytest.mark.parametrize("name", LINKED)
def test_a_link_to_a_folder_is_refused_and_the_remedy_makes_dvc_see(
    name: str, repository: Path, tmp_path: Path
) -> None:
    raw = RawFolder(repository / "raw").write()
    elsewhere = tmp_path / "else where"
    folder = linked(raw.path, name, elsewhere)
    assert not is_seen_by_dvc(elsewhere / "2.png")
    with pytest.raises(InputError, match="is a link to a folder, which DVC does not f") as caught:
        read(raw)
    assert str(caught.value).startswith(str(folder))
    remedy = re.search("`(.*)`", str(caught.value))
    assert remedy
    for command in remedy[1].split(" && "):
        subprocess.run(shlex.split(command), check=True)
    assert read(raw)["covers_missing"] == 2 - (name != "MicroLens_1M_x1")
    assert is_seen_by_dvc(elsewhere / "2.png", b"a third")


def read(raw: RawFolder) -> dict[str, object]:
    with (
        raw_folder(raw.data.model_copy(update={"source": str(raw.path)})) as (folder, _),
        Outputs() as outputs,
    ):
        return ingest(folder, raw.data, outputs)


def test_the_source_itself_may_be_a_link(repository: Path, tmp_path: Path) -> None:
    elsewhere = RawFolder(tmp_path / "elsewhere").write()
    (repository / "raw").symlink_to(elsewhere.path)
    assert read(RawFolder(repository / "raw"))["items"] == 4
    assert is_seen_by_dvc(elsewhere.path / "item_images/5.jpg")


@pytest.mark.parametrize(
    ("folder", "cover", "found"),
    [
        ("scratch/raw", "2.png", "scratch/raw/item_feature.parquet"),
        ("raw", "2.webp", "raw/item_images/2.webp"),
        ("raw", "scratch/2.png", "raw/item_images/scratch/2.png"),
    ],
)
@pytest.mark.usefixtures("repository")
def test_files_that_dvc_ignores_are_refused(folder: str, cover: str, found: str) -> None:
    raw = RawFolder(Path(folder)).write()
    (raw.path / "item_images" / cover).parent.mkdir(exist_ok=True)
    (raw.path / "item_images" / cover).write_bytes(b"two")
    with pytest.raises(InputError, match=f"^{re.escape(found)}: DVC ignores it"):
        read(raw)


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("source", ["raw", "./raw/", "folder/../raw", "the raw files"])
def test_a_source_in_the_repository_is_read(source: str) -> None:
    Path("folder").mkdir()
    raw = RawFolder(Path(source)).write()
    assert read(raw)["items"] == 4


@pytest.mark.usefixtures("repository")
def test_patterns_end_at_the_repository(tmp_path: Path) -> None:
    raw = RawFolder(tmp_path / "scratch/raw").write()
    paths = files_read(raw.path)
    assert len(paths) == 7
    refuse_ignored(raw.path, paths)
