import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.common.paths import CLICKS
from pipeline.console.choose import take_settings
from pipeline.settings.params import load_params

ROOT = Path(__file__).resolve().parents[3]
BEFORE = (ROOT / "params.yaml").read_bytes()
RECIPE = BEFORE.replace(b"epochs: 24", b"epochs: 2")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings, and a source beside another file of settings."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "raw" / CLICKS).mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/short.yaml").write_bytes(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def kept() -> dict[str, bytes]:
    """The earlier settings, by what their names end with."""
    start = "params.yaml.before-"
    return {path.name.removeprefix(start): path.read_bytes() for path in Path().glob(f"{start}*")}


def now() -> bytes:
    return Path("params.yaml").read_bytes()


def test_a_file_of_settings_becomes_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    take_settings(source="", params="recipes/short.yaml")
    assert now() == RECIPE
    assert kept() == {"short": BEFORE}
    assert caplog.messages == [
        "params.yaml has the settings of recipes/short.yaml from now on; "
        "before: params.yaml.before-short"
    ]


def test_a_source_changes_its_line_alone(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    take_settings(source="raw", params="")
    lines = BEFORE.decode().splitlines(), now().decode().splitlines()
    assert [line for line in difflib.ndiff(*lines) if line[:2] in ("+ ", "- ")] == [
        "-   source: sample # sample, microlens_1m, or a folder in the raw layout",
        f"+   source: {workspace}/raw # sample, microlens_1m, or a folder in the raw layout",
    ]
    assert kept() == {"raw": BEFORE}
    assert caplog.messages == [
        f"params.yaml has data.source {workspace}/raw from now on; before: params.yaml.before-raw"
    ]


def test_both_at_once(workspace: Path) -> None:
    take_settings(source="raw", params="recipes/short.yaml")
    expected = load_params(Path("recipes/short.yaml")).model_dump()
    expected["data"]["source"] = str(workspace / "raw")
    assert load_params().model_dump() == expected
    assert kept() == {"short": BEFORE}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sample", "sample"),
        ("sample/", "sample"),
        ("microlens_1m", "microlens_1m"),
        ("raw/", "{here}/raw"),
        ("./raw", "{here}/raw"),
        ("~/clicks", "{here}/home/clicks"),
        ("~/clicks: a # b/", "{here}/home/clicks: a # b"),
        ("~no_such_user/raw", "{here}/~no_such_user/raw"),
    ],
)
def test_what_a_source_is_called(workspace: Path, source: str, expected: str) -> None:
    for folder in ("home/clicks", "home/clicks: a # b", "~no_such_user/raw"):
        Path(folder, CLICKS).mkdir(parents=True)
    take_settings(source, params="")
    assert load_params().data.source == expected.format(here=workspace)


def test_settings_at_home() -> None:
    shutil.copytree("recipes", "home/my recipes")
    take_settings(source="", params="~/my recipes/short.yaml")
    assert now() == RECIPE


@pytest.mark.parametrize(
    ("source", "params"),
    [("", ""), ("sample", ""), ("", "params.yaml"), ("", "recipes/same.yaml")],
)
def test_what_is_there_already_changes_nothing(source: str, params: str) -> None:
    Path("recipes/same.yaml").write_bytes(b"# other words\n" + BEFORE)
    take_settings(source, params)
    assert now() == BEFORE
    assert kept() == {}


def test_no_earlier_settings_are_ever_overwritten() -> None:
    """There and back, edited in between: each version is somewhere."""
    edited = BEFORE + b"# mine\n"
    take_settings(source="", params="recipes/short.yaml")
    Path("params.yaml").write_bytes(edited)
    take_settings(source="", params="recipes/short.yaml")
    take_settings(source="", params="params.yaml.before-short-2")
    assert now() == edited
    assert kept() == {"short": BEFORE, "short-2": edited, "short-2-2": RECIPE}
    take_settings(source="", params="recipes/short.yaml")
    assert len(kept()) == 3  # what was kept with the same bytes serves again


@pytest.mark.parametrize(
    ("source", "params", "message"),
    [
        ("nowhere", "", "SOURCE=.*/nowhere is not a folder; expected sample, microlens_1m, or a f"),
        ("", "nowhere.yaml", r"PARAMS=nowhere\.yaml: not found"),
        ("params.yaml", "", r"SOURCE=.*/params\.yaml is not a folder"),
        ("other", "", r"SOURCE=.*/other is not in the raw layout, in which .* MicroLens_1M_x1/"),
        ("raw", "recipes/bad.yaml", r"recipes/bad\.yaml:\n  train.epochs: .*found -1"),
        ("", "raw", "PARAMS=raw: not found"),
    ],
)
def test_what_is_at_fault_changes_nothing(source: str, params: str, message: str) -> None:
    Path("recipes/bad.yaml").write_bytes(BEFORE.replace(b"epochs: 24", b"epochs: -1"))
    with pytest.raises(InputError, match=message):
        take_settings(source, params)
    assert now() == BEFORE
    assert kept() == {}


def test_an_address_is_not_repeated() -> None:
    with pytest.raises(InputError, match="SOURCE is an address; expected sample") as error:
        take_settings(source="https://me:s3cret@host/raw", params="")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("broken", [None, b"train: 3\n"])
def test_settings_that_are_missing_or_at_fault_are_mended(broken: bytes | None) -> None:
    if broken is None:
        Path("params.yaml").unlink()
    else:
        Path("params.yaml").write_bytes(broken)
    take_settings(source="", params="recipes/short.yaml")
    assert now() == RECIPE
    assert kept() == ({} if broken is None else {"short": broken})


def test_a_kill_in_between_loses_nothing() -> None:
    killed = (
        "import os; from pipeline.console import choose\n"
        "choose.replacing = lambda path, real=choose.replacing:"
        " real(path) if 'before' in path.name else os.kill(os.getpid(), 9)\n"
        "choose.take_settings('', 'recipes/short.yaml')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", killed], env=environment, check=False)
    assert done.returncode == -9
    assert (now(), kept()) == (BEFORE, {"short": BEFORE})
    take_settings(source="", params="recipes/short.yaml")
    assert (now(), kept()) == (RECIPE, {"short": BEFORE})
