"""What `make check` runs: which tests are near to a change, and for how long they begin."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.code import changed
from tests.support.code.changed import (
    EVERYWHERE,
    MAIN,
    MANY,
    MOST,
    branch_point,
    changed_since,
    near,
    nearest,
    pytest_arguments,
    told,
)
from tests.support.code.imports import CODE, ROOT, imported, python_files

TESTS = [file for file in python_files("tests") if Path(file).name.startswith("test_")]


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        # named after it; importing it
        ("ctr/engine/scoring.py", {"tests/ctr/engine/test_scoring.py", "tests/ctr/test_judge.py"}),
        # by way of QIN, which alone imports it
        ("ctr/models/numbers.py", {"tests/ctr/models/test_qin.py"}),
        # by way of what lies beside it; its name stands here in no test
        (f"gallery/page/page.{'css'}", {"tests/gallery/page/test_page.py"}),
        ("Makefile", {"tests/whole/test_makefile.py", "tests/pipeline/console/test_audit.py"}),
        ("tests/whole/leakage/conftest.py", {"tests/whole/leakage/test_splits.py"}),
        ("tests/whole/test_safety.py", {"tests/whole/test_safety.py"}),
        ("nowhere/nothing.py", set()),
    ],
)
def test_near(file: str, tests: set[str]) -> None:
    found = near(file)
    assert found >= tests
    assert all((ROOT / test).is_file() for test in found)
    assert bool(found) == bool(tests)


def test_a_test_is_near_all_that_it_imports() -> None:
    for test in TESTS:
        for file in imported(test):
            assert test in near(file) or Path(file).name.startswith("test_"), file


def test_near_is_not_far() -> None:
    """The tests of `ctr` import nothing of `embed`."""
    assert not any(test.startswith("tests/ctr/") for test in near("embed/covers/decode.py"))
    assert "tests/ctr/engine/test_scoring.py" not in near("pipeline/ingest.py")
    few = [file for file in python_files(*CODE) if len(near(file)) < 12]
    assert len(few) > 100


def test_what_changed_itself_comes_first_then_the_tests_of_every_file() -> None:
    tests = nearest(["ctr/engine/scoring.py", "tests/ctr/test_judge.py", "tests/gone/test_it.py"])
    assert tests[:5] == [
        "tests/ctr/test_judge.py",
        *EVERYWHERE,
        "tests/ctr/engine/test_scoring.py",
    ]
    assert len(set(tests)) == len(tests)
    tests = nearest(["pipeline/common/files.py"])[len(EVERYWHERE) :]
    assert tests[0] == "tests/pipeline/common/test_files.py"
    own = [test.startswith("tests/pipeline/") for test in tests]
    assert own == sorted(own, reverse=True)
    assert 10 < sum(own) < len(own)
    unknown = "a" * 99  # a name that stands nowhere
    assert nearest([unknown]) == list(EVERYWHERE)


def test_the_nearest_files_alone_are_run_and_that_is_told() -> None:
    every = [str(number) for number in range(MOST + 1)]
    assert pytest_arguments(every)[-MOST:] == every[:MOST]
    assert every[MOST] not in pytest_arguments(every)
    assert told(["a"], "1234", every[:-1]) == "1 files changed since 1234, 16 test files are near"
    assert told(["a"], "1234", every).endswith(
        "17 test files are near; the first 16 run, `make unit` runs every one"
    )


def test_many_files_are_run_in_several_processes() -> None:
    assert not any(option.startswith("--numprocesses") for option in pytest_arguments(["a"] * MANY))
    assert "--numprocesses=auto" in pytest_arguments(["a"] * (MANY + 1))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of two commits on main: `first` and `second` were written by them."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@b")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for name in ("first", "second"):
        commit(tmp_path, name)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, name: str) -> None:
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name)


def changed_by(folder: Path, since: str = "") -> list[str]:
    return changed_since(folder, branch_point(folder, since))


def test_on_main_what_is_not_committed_has_changed(repository: Path) -> None:
    assert changed_by(repository) == []
    (repository / "first").write_text("otherwise")
    (repository / "naïve name").touch()
    (repository / "dvc.lock").touch()
    (repository / "second").unlink()
    assert changed_by(repository) == ["first", "naïve name", "second"]
    assert changed_by(repository, "HEAD~1") == ["first", "naïve name"]  # which had no `second`


def test_on_a_branch_what_it_committed_has_changed(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "-b", "branch")
    commit(repository, "third")
    (repository / "second").write_text("otherwise")
    git(repository, "checkout", "--quiet", "--force", "main")
    commit(repository, "fourth")
    git(repository, "checkout", "--quiet", "branch")
    (repository / "first").write_text("otherwise")
    assert changed_by(repository) == ["first", "third"]
    assert changed_by(repository, "main") == ["first", "third"]
    assert changed_by(repository, "HEAD") == ["first"]


def test_a_clone_counts_from_the_main_of_its_origin(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(repository), str(clone))
    commit(clone, "third")
    assert MAIN[0] == "origin/HEAD"
    assert changed_by(clone) == ["third"]


def test_no_such_revision_is_an_error(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: SINCE=nowhere: no such revision"):
        branch_point(repository, "nowhere")
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    with pytest.raises(SystemExit, match="error: nothing is committed here"):
        branch_point(tmp_path / "empty", "")


def test_nothing_changed_is_told(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(changed, "ROOT", repository)
    monkeypatch.setattr(sys, "argv", ["changed", ""])
    changed.main()
    revision = git(repository, "rev-parse", "--short", "HEAD")
    assert capsys.readouterr().out == f"nothing changed since {revision}: no test to run\n"


@pytest.mark.parametrize(("test", "status"), [("pass", 0), ("assert False", 1)])
def test_what_is_near_is_run(
    test: str,
    status: int,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # what the options are written with
    (repository / "conftest.py").write_bytes((ROOT / "tests/conftest.py").read_bytes())
    file = repository / EVERYWHERE[0]
    file.parent.mkdir(parents=True)
    file.write_text(f"def test_it() -> None:\n    {test}\n")
    monkeypatch.setattr(changed, "ROOT", repository)
    monkeypatch.setattr(sys, "argv", ["changed", "HEAD~1"])
    with pytest.raises(SystemExit) as ended:
        changed.main()
    assert ended.value.code == status
    printed = capfd.readouterr().out
    revision = git(repository, "rev-parse", "--short", "HEAD~1")
    assert f"3 files changed since {revision}, 1 test files are near\n" in printed
    assert ("1 passed" if status == 0 else "1 failed") in printed


def test_no_test_begins_after_the_time() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--within=0", "tests/whole/test_safety.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "not begun within 0 seconds; `make unit` runs every test" in done.stdout
    assert " skipped in " in done.stdout.splitlines()[-1]
    assert "passed" not in done.stdout
