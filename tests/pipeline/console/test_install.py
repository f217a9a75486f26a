"""Installations of a made-up project, by pip itself and, where it is found, by uv; no network."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.console import install
from pipeline.console.install import PLATFORM, Environment, choice

ROOT = Path(__file__).parents[3]
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "made-up"
version = "1"
[project.optional-dependencies]
cpu = ["faiss-cpu"]
gpu = ["faiss-gpu"]
dev = ["checker"]
"""
BACKEND = """
import shutil
def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("made_up-1-py3-none-any.whl", folder).rpartition("/")[2]
"""
EXTRAS = "".join(
    f"Provides-Extra: {extra}\nRequires-Dist: {package} ; extra == '{extra}'\n"
    for extra, package in {"cpu": "faiss-cpu", "gpu": "faiss-gpu", "dev": "checker"}.items()
)
WHEEL = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
MODERN = "9.0, 550.54.15"
"""A GPU and a driver that will do."""


def write_wheel(folder: Path, name: str, module: str, version: str = "1", more: str = "") -> None:
    """A package of one module, which says of itself what package it is of."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}"
    with ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/__init__.py", f"PACKAGE = {f'{name} {version}'!r}\n")
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        wheel.writestr(f"{stem}.dist-info/WHEEL", WHEEL)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository: pyproject.toml and constraints.txt; its wheels beside it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "constraints.txt").write_text("checker==1\n")
    write_wheel(folder, "made-up", "made_up", more=EXTRAS)
    (folder / "wheels").mkdir()
    for name in ("faiss-cpu", "faiss-gpu"):
        write_wheel(folder / "wheels", name, "faiss")
    for name in ("checker", "pip"):
        write_wheel(folder / "wheels", name, name)
    write_wheel(folder / "wheels", "checker", "checker", version="2")
    return folder


@pytest.fixture(
    params=[
        "",
        pytest.param(
            shutil.which("uv") or "uv",
            marks=pytest.mark.skipif(not shutil.which("uv"), reason="uv is not installed"),
        ),
    ],
    ids=["pip", "uv"],
)
def environment(
    request: pytest.FixtureRequest, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Environment:
    """To be made, in the project's folder, from its wheels alone; on a machine without a GPU."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name in ("PIP_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(project / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(install, "PROBE", ("no-nvidia-smi",))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.chdir(project)
    return Environment(tmp_path / "venv", request.param)


def said(environment: Environment, code: str) -> str:
    command = [environment.python, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def package(environment: Environment, module: str) -> str:
    return said(environment, f"import {module}; print({module}.PACKAGE)")


def compiled(environment: Environment) -> bool:
    """Whether faiss was compiled as it was installed. To be asked before it is imported."""
    (module,) = environment.folder.glob("lib/python*/site-packages/faiss/__init__.py")
    return (module.parent / "__pycache__").exists()


def marks(environment: Environment) -> list[str]:
    return [mark.name for mark in environment.marks()]


def test_where_uv_fails_pip_goes_on(
    environment: Environment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = tmp_path / "failing_uv"
    failing.write_text("#!/bin/sh\nexit 2\n")
    failing.chmod(0o755)
    Environment(environment.folder, str(failing)).install("cpu")
    assert package(environment, "faiss") == "faiss-cpu 1"
    assert capfd.readouterr().out.count("failed: venv and pip in its place") == 1


def test_it_is_made_filled_changed_and_made_anew(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    environment.install("auto")
    assert marks(environment) == [".installed-cpu"]
    assert not compiled(environment)
    assert package(environment, "faiss") == "faiss-cpu 1"
    assert "faiss-cpu: " in capfd.readouterr().out
    environment.install("dev")
    assert marks(environment) == [".installed-cpu", ".installed-dev"]
    assert package(environment, "checker") == "checker 1"  # as pinned, though there is a 2
    assert package(environment, "faiss") == "faiss-cpu 1"
    own = environment.folder / "own"
    own.touch()
    environment.install("gpu")
    assert package(environment, "faiss") == "faiss-gpu 1"
    assert marks(environment) == [".installed-gpu"]
    assert own.exists()
    (environment.folder / ".installed-gpu").unlink()  # as where that was killed
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    environment.install("gpu")
    assert compiled(environment)
    assert package(environment, "faiss") == "faiss-gpu 1"
    assert said(environment, "import sys; print(sys.version)") == sys.version
    assert not own.exists()
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.delenv(name)
    with pytest.raises(subprocess.CalledProcessError):
        environment.install("cpu")
    assert marks(environment) == []


def test_a_sound_one_ended_its_installation_and_runs_this_python(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert not environment.is_sound()
    (tmp_path / ".installed-cpu").touch()
    assert environment.is_sound()
    other = (*sys.version_info[:2], sys.version_info[2] + 1)
    python.write_text(f"#!/bin/sh\necho '{other}'\n")
    assert not environment.is_sound()
    python.unlink()
    assert not environment.is_sound()


def test_what_fails_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "pipeline.console.install", f"{tmp_path}/file/venv", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert f"error: {tmp_path}/file/venv is not complete: " in done.stderr.splitlines()[-1]


def test_faiss_gpu_is_chosen_where_it_searches(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "PROBE", ("echo", MODERN))
    monkeypatch.setattr(sysconfig, "get_platform", lambda: PLATFORM)
    environment.install("auto")  # its faiss-gpu knows no index at all
    assert marks(environment) == [".installed-cpu"]
    assert package(environment, "faiss") == "faiss-cpu 1"
    printed = capfd.readouterr()
    assert "faiss-cpu in its place" in printed.out
    assert "Traceback" not in printed.err
    monkeypatch.setattr(install, "SEARCH", "import faiss; assert 'gpu' in faiss.PACKAGE")
    environment.install("auto")
    assert marks(environment) == [".installed-gpu"]
    assert package(environment, "faiss") == "faiss-gpu 1"
    printed = capfd.readouterr()
    assert f"faiss-gpu: nvidia-smi finds compute capability and driver {MODERN}\n" in printed.out
    assert "in its place" not in printed.out


def test_the_search_that_is_tried_is_one() -> None:
    """On the CPU, with what faiss-cpu lacks."""
    lacking = "import faiss\nfaiss.StandardGpuResources = object\n"
    lacking += "faiss.index_cpu_to_gpu = lambda resources, device, index: index\n"
    subprocess.run([sys.executable, "-c", lacking + install.SEARCH], check=True)
    wrong = install.SEARCH.replace("IndexFlatIP", "IndexFlatL2").replace("np.arange(64)", "1")
    assert subprocess.run([sys.executable, "-c", lacking + wrong], check=False).returncode == 1


@pytest.mark.parametrize(
    ("platform", "gpus", "kind", "reason"),
    [
        (PLATFORM, "", "cpu", "no GPU"),
        (PLATFORM, MODERN, "gpu", MODERN),
        (PLATFORM, "7.0, 525.60.13\n12.0, 580.9", "gpu", "12.0, 580.9; 7.0, 525.60.13"),
        (PLATFORM, f"{MODERN}\n{MODERN}", "gpu", f"driver {MODERN}"),
        (PLATFORM, "6.1, 550.54.15", "cpu", "'6.1, 550.54.15'; expected compute capability 7.0"),
        (PLATFORM, f"{MODERN}\n6.1, 550.54.15", "cpu", "'6.1, 550.54.15'"),
        (PLATFORM, "9.0, 470.256.02", "cpu", "driver 525 or higher"),
        (PLATFORM, "[N/A], 550.54.15", "cpu", "'[N/A], 550.54.15'"),
        (PLATFORM, "NVIDIA-SMI has failed, make sure", "cpu", "NVIDIA-SMI has failed"),
        ("linux-aarch64", MODERN, "cpu", "this is linux-aarch64"),
        ("macosx-14.0-arm64", "", "cpu", "this is macosx-14.0-arm64"),
    ],
)
def test_choice(platform: str, gpus: str, kind: str, reason: str) -> None:
    found = choice(platform, gpus)
    assert found[0] == kind
    assert reason in found[1]


@given(
    st.lists(st.from_regex(r"[0-9]{1,2}\.[0-9], [0-9]{3}\.[0-9]{2}", fullmatch=True) | st.text())
)
def test_one_gpu_that_will_not_do_is_enough_for_the_cpu(lines: list[str]) -> None:
    kind, reason = choice(PLATFORM, "\n".join(lines).strip())
    every = [line for text in lines for line in text.splitlines()]
    fit = [re.fullmatch(r"(\d+\.\d), (\d+)\.\d+", line) for line in every]
    will_do = [found and float(found[1]) >= 7 and int(found[2]) >= 525 for found in fit]
    assert kind == "cpu" or all(will_do)
    assert "\n" not in reason


def test_a_driver_that_fails_finds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for probe in (("no-nvidia-smi",), ("sh", "-c", "echo 9.0, 550.54.15; exit 9")):
        monkeypatch.setattr(install, "PROBE", probe)
        assert install.driver() == ""
    monkeypatch.setattr(install, "PROBE", ("echo", MODERN))
    assert install.driver() == MODERN
