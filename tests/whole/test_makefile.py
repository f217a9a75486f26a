"""Which Python and which faiss `make` takes, and the pins for every Python that it would take."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["python3.11", "python3.12", "python3.13", "python3.14", "python3"]
"""In the order of preference."""
RANGE = "Python 3.11 to 3.14"
PYTHON = """#!/bin/sh
case $1 in
-V) echo Python {version} ;;
-c) exec {real} -c "import sys; sys.version_info = ({major}, {minor}, 1, 'final', 0); $2" ;;
*) echo "$0 $*" >> {log} ;;
esac
"""
"""That says to be of a version, and notes down what else it is to run."""


@dataclass(frozen=True)
class Machine:
    """A folder of programs, the only ones that are found, and a virtual environment to be made."""

    programs: Path
    venv: Path
    log: Path

    def has(self, name: str, version: str) -> None:
        path = self.programs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        major, minor = version.split(".")
        values = {"version": f"{version}.1", "major": major, "minor": minor}
        path.write_text(PYTHON.format(**values, real=sys.executable, log=self.log))
        path.chmod(0o755)

    def has_installed(self, extra: str, version: str) -> Path:
        self.has(f"{self.venv}/bin/python", version)
        mark = self.venv / f".installed-{extra}"
        mark.touch()
        return mark

    def make(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`make submission`, whose last step the Python only notes down."""
        return subprocess.run(
            [str(shutil.which("make")), "submission", f"VENV={self.venv}", *options],
            cwd=ROOT,
            env={"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            check=False,
        )

    def ran(self) -> list[str]:
        """What Pythons were to install, each with its path."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if "pipeline.console.install" in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "programs", tmp_path / "venv", tmp_path / "log")
    machine.programs.mkdir()
    (machine.programs / "git").symlink_to(str(shutil.which("git")))
    return machine


def installed(machine: Machine, python: str, faiss: str = "auto", uv: str = "") -> str:
    path = machine.programs / python
    return f"{path} -m pipeline.console.install --uv {uv} {machine.venv} {faiss}"


@pytest.mark.parametrize("first", range(len(NAMES)))
def test_the_first_python_is_taken(machine: Machine, first: int) -> None:
    for name in reversed(NAMES[first:]):
        machine.has(name, name.removeprefix("python") if "." in name else "3.13")
    machine.make()
    assert machine.ran() == [installed(machine, NAMES[first])]


def test_one_that_does_not_run_or_is_another_is_passed_over(machine: Machine) -> None:
    broken = machine.programs / "python3.11"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    machine.has("python3.12", "3.10")
    machine.has("python3", "3.14")
    machine.make()
    assert machine.ran() == [installed(machine, "python3")]


def test_the_one_that_is_named_wins(machine: Machine) -> None:
    machine.has("python3.11", "3.11")
    machine.has("python3.13", "3.13")
    machine.make("PYTHON=python3.13")
    assert machine.ran() == [installed(machine, "python3.13")]


@pytest.mark.parametrize("version", ["2.7", "3.10", "3.15", "4.0"])
@pytest.mark.parametrize("options", [(), ("PYTHON=python3",)], ids=["found", "named"])
def test_too_old_or_too_new_is_refused(
    machine: Machine, version: str, options: tuple[str, ...]
) -> None:
    machine.has("python3", version)
    refused = machine.make(*options)
    assert refused.returncode == 2
    error, of_make = refused.stderr.splitlines()
    told = f"python3 is {version}, expected {RANGE}; name one: make ... PYTHON=<path>"
    assert error == f"error: {told}"
    assert of_make.startswith("make: ***")
    assert not machine.venv.exists()
    assert not machine.log.exists()


def test_none_is_refused(machine: Machine) -> None:
    for options in ((), ("PYTHON=python3.12",)):
        error = machine.make(*options).stderr.splitlines()[0]
        assert error == f"error: none found, expected {RANGE}; name one: make ... PYTHON=<path>"
    assert not machine.venv.exists()


def test_what_is_installed_stays(machine: Machine) -> None:
    """And is brought up to date by its own Python, whichever others there are."""
    machine.has("python3.11", "3.11")
    mark = machine.has_installed("gpu", "3.13")
    machine.make()
    assert machine.ran() == []
    os.utime(mark, (0, 0))
    machine.make()
    assert machine.ran() == [installed(machine, f"{machine.venv}/bin/python", "gpu")]


def test_another_python_or_none_makes_it_anew(machine: Machine) -> None:
    machine.has("python3.12", "3.12")
    machine.has_installed("gpu", "3.13")
    machine.make("PYTHON=python3.12")
    (machine.venv / "bin/python").unlink()
    machine.make()
    assert machine.ran() == [installed(machine, "python3.12", "gpu")] * 2


def test_the_faiss_that_is_named_wins(machine: Machine) -> None:
    machine.has("python3.11", "3.11")
    for faiss in ("gpu", "cpu"):
        machine.make(f"FAISS={faiss}")
    assert machine.ran() == [installed(machine, "python3.11", faiss) for faiss in ("gpu", "cpu")]
    machine.has_installed("gpu", "3.11")
    machine.make("FAISS=cpu")
    assert machine.ran()[2:] == [installed(machine, f"{machine.venv}/bin/python", "cpu")]


def test_uv_is_taken_where_it_is_found_unless_told_otherwise(machine: Machine) -> None:
    for name in ("python3.11", "uv"):
        machine.has(name, "3.11")
    for options in ((), ("UV=",)):
        machine.make(*options)
    uv = str(machine.programs / "uv")
    assert machine.ran() == [installed(machine, "python3.11", uv=path) for path in (uv, "")]


def test_source_and_params_are_passed_on(machine: Machine) -> None:
    machine.has_installed("cpu", "3.11")
    machine.make("SOURCE=a folder/", "PARAMS=b.yaml")
    python = f"{machine.venv}/bin/python"
    passed = "-m pipeline.console.submission --source a folder/ --params b.yaml"
    assert machine.log.read_text() == f"{python} {passed}\n"


def test_what_trust_alone_runs_is_run_by_it(machine: Machine) -> None:
    machine.has_installed("cpu", "3.11")
    (machine.venv / ".installed-dev").touch()
    found = subprocess.run(
        ["make", "--dry-run", "trust", f"VENV={machine.venv}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # not that of a make whose test this is
        capture_output=True,
        text=True,
        check=True,
    )
    asked = found.stdout.splitlines()[-1].partition("pytest --long ")[2].split()
    assert asked
    mark = "@pytest.mark." + "long"
    marked = [path for path in ROOT.glob("tests/**/test_*.py") if mark in path.read_text("utf-8")]
    assert marked
    for path in marked:
        assert any(path.is_relative_to(ROOT / each) for each in asked), path


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


PROJECT = tomllib.loads(text_of("pyproject.toml"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
PYTHONS = [name.removeprefix("python") for name in NAMES if "." in name]


def test_all_speak_of_the_same_pythons() -> None:
    every = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(99) if every.contains(f"3.{minor}.9")] == PYTHONS
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" == RANGE
    assert RANGE in text_of("README.md")
    assert RANGE in text_of("Makefile")
    workflow = text_of(".github/workflows/ci.yml")
    assert re.findall(r"python: \[(.*)\]", workflow) == [", ".join(f'"{x}"' for x in PYTHONS)]


def pins(python: str) -> Iterator[Requirement]:
    """The lines of constraints.txt that hold for a version of Python."""
    for line in text_of("constraints.txt").splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate({"python_version": python}):
                yield pin


@pytest.mark.parametrize("python", PYTHONS)
def test_each_package_that_is_asked_for_is_pinned(python: str) -> None:
    pinned: dict[str, str] = {}
    for pin in pins(python):
        (specifier,) = pin.specifier
        assert specifier.operator == "==", pin
        assert (
            pinned.setdefault(canonicalize_name(pin.name), specifier.version) == specifier.version
        )
    for line in DIRECT:
        asked = Requirement(line)
        version = pinned[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version), f"{line}: {version}"
