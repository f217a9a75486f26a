"""New weights under an old name: DVC sees them, or they are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from embed.encoders.local_files import check_watched, ignored, place_of
from embed.encoders.text.titles import load_text_encoder
from embed.encoders.vision_language import load_vision_language
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.embed.conftest import CPU
from tests.support.clone import ROOT, change
from tests.support.code.graph import graph
from tests.support.worlds.tiny_text import save_bert, section


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: str, content: str = "weights") -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    return path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("named", "local"),
    [
        ("weights/a", "weights/a"),
        ("weights/a", "weights"),
        ("weights/a/own.pt", "./weights"),
        ("linked", "weights/a"),
        ("weights/a", "linked"),
        ("org/name", "models/encoder"),  # the hub's
    ],
)
def test_what_dvc_watches_may_be_read(named: str, local: str) -> None:
    put("weights/a/own.pt")
    Path("linked").symlink_to("weights/a")
    check_watched("embed_text", "model", named, local)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("named", "kind"), [("org/name", "folder"), ("weights", "folder"), ("weights/a/own.pt", "file")]
)
def test_what_dvc_does_not_watch_is_refused(named: str, kind: str) -> None:
    """A hub's name is a folder to transformers where there is one."""
    put("weights/a/own.pt")
    put("org/name/config.json")
    message = (
        f"params.yaml: embed_text.model names the local {kind} {named}, which DVC watches only "
        f"where embed_text.local names it, and that is 'weights/b': set embed_text.local to {named}"
    )
    with pytest.raises(InputError) as told:
        check_watched("embed_text", "model", named, "weights/b")
    assert str(told.value) == message


@pytest.mark.usefixtures("folder")
def test_links_to_folders_and_what_is_ignored_are_refused() -> None:
    put("elsewhere/config.json")
    put("weights/a/own.pt")
    Path("weights/a/1_Pooling").symlink_to(Path("elsewhere").absolute())
    with pytest.raises(InputError, match=r"new weights in weights/a/1_Pooling: it is a link to a"):
        check_watched("embed_text", "model", "weights/a", "weights")
    put(".dvcignore", "scratch\n*.tmp\n")
    for path in ("scratch/a/own.pt", "b/own.tmp", "c/.git/own.pt"):
        put(path)
        with pytest.raises(InputError, match=r"\.dvcignore .*leaves out '(scratch|\*\.tmp|\.git)'"):
            check_watched("embed_text", "model", Path(path).parts[0], Path(path).parts[0])


def test_nothing_is_ignored_outside_the_repository(folder: Path) -> None:
    put(".dvcignore", "scratch\n")
    inside = folder / "repository"
    inside.mkdir()
    assert ignored(Path("scratch/a")) == "scratch"
    assert ignored(Path(f"{folder.parent}/scratch/a")) is None


def test_the_text_encoder_asks(params: Params, tmp_path: Path) -> None:
    settings = section(params, save_bert(tmp_path), local="models/encoder")
    with pytest.raises(InputError, match=r"embed_text\.model names the local folder .*: set embed"):
        load_text_encoder(settings, CPU)


def test_the_vision_language_model_asks(params: Params, tmp_path: Path) -> None:
    changes = {"library": "transformers", "model": str(tmp_path)}
    settings = params.embed_vlm.model_copy(update=changes)
    with pytest.raises(InputError, match=r"embed_vlm\.model names the local folder .*: set embed"):
        load_vision_language(settings, CPU)


STAGES = ("embed_text", "embed_image", "embed_vlm")


@pytest.fixture
def repository(folder: Path) -> Repo:
    """The encoder and what reads weights, with their own outputs and paths that they watch, and
    commands that take no time."""
    declared = graph()
    stages: dict[str, Any] = {}
    for name in ("encoder", *STAGES):
        outs = declared[name]["outs"]
        watched = [f"${{{name}.local}}"] if name in STAGES else []
        made, folders = " ".join(outs), " ".join(str(Path(out).parent) for out in outs)
        stages[name] = {"deps": watched, "outs": outs}
        stages[name]["cmd"] = f"mkdir -p models/encoder {folders} && touch {made}"
    YAML().dump({"stages": stages}, folder / "dvc.yaml")
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (folder / ".dvcignore").write_bytes((ROOT / ".dvcignore").read_bytes())
    put("weights/embed_vlm/README.md")
    return Repo.init(no_scm=True)


def changed(repository: Repo) -> set[str]:
    repository._reset()
    return set(repository.status())


def test_dvc_sees_new_weights_in_a_folder_that_is_named(repository: Repo, folder: Path) -> None:
    ran = [stage.name for stage in repository.reproduce()]
    assert ran.index("encoder") < min(ran.index("embed_text"), ran.index("embed_image"))
    outside = folder.parent / f"{folder.name}-elsewhere"
    own = {"embed_text": "weights/own", "embed_image": str(outside), "embed_vlm": "weights/linked"}
    files = [Path(place) / "model.safetensors" for place in own.values()]
    for place in (*own.values(), "blobs"):
        Path(place).mkdir(parents=True)
        Path(place, "model.safetensors").write_text("old")
    files[2].unlink()
    files[2].symlink_to(Path("blobs/model.safetensors").absolute())  # as in the hub's cache
    change(folder / "params.yaml", {stage: {"local": place} for stage, place in own.items()})
    assert changed(repository) == set(STAGES)
    repository.reproduce()
    assert changed(repository) == set()
    for stage, file in zip(STAGES, files, strict=True):
        file.write_text("these are new")
        assert changed(repository) == {stage}
        file.write_text("old")


def test_every_way_to_a_local_folder_is_declared() -> None:
    declared = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for stage in STAGES:
        entry = declared[stage].get("do", declared[stage])
        assert f"${{{stage}.local}}" in entry["deps"]
    settings = YAML(typ="safe").load(ROOT / "params.yaml")
    assert (ROOT / settings["embed_vlm"]["local"] / "README.md").is_file()


def test_what_a_package_brings_is_found_where_it_is_installed() -> None:
    found = place_of("embed_text", "model", "package:numpy/linalg/__init__.py")
    assert Path(found) == Path(np.linalg.__file__)
    assert place_of("embed_text", "model", "package:numpy") == str(Path(np.__file__).parent)
    assert place_of("embed_text", "model", "org/name") == "org/name"
    check_watched("embed_text", "model", "package:numpy/linalg", "models/encoder")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("package:no_such_module/a", "no Python package 'no_such_module' is installed"),
        ("package:numpy.linalg/a", "no Python package 'numpy.linalg' is installed"),
        ("package:", "no Python package '' is installed"),
        (
            "package:numpy/no/such",
            "installed package numpy holds no no/such; expected package:",
        ),
    ],
)
def test_a_package_that_is_not_installed_or_lacks_the_file_is_named(
    named: str, message: str
) -> None:
    with pytest.raises(InputError, match=rf"^params\.yaml: embed_text\.model is .*{message}"):
        place_of("embed_text", "model", named)
