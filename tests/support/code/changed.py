"""`make check`: the tests nearest to what changed since this branch left main, for a minute or so.

A test is near a module that it is named after or imports, and near any other file that it names.
By what is written, so that a fresh clone needs no recorded run of all tests first. What a test
reaches through further modules is not near: `make unit` runs every one.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.support.code.imports import CODE, ROOT, imported, python_files

EVERYWHERE = tuple(
    f"tests/whole/test_{name}.py" for name in ("architecture", "documents", "safety")
)
"""They read every file, in seconds."""
MAIN = ("origin/HEAD", "origin/main", "main", "master")
"""What a branch leaves, the first that is there."""
WRITTEN = "dvc.lock"
"""By every run."""
MOST = 16
"""Test files, the nearest; to import all of them takes longer than there is."""
SECONDS = 30
"""After them no further test begins; the longest goes on for half a minute."""
MANY = 6
"""Test files from which several processes, of which each imports torch, are quicker than one."""
PROCESSES = ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile", "--no-loadscope-reorder"]


def main() -> None:
    since = branch_point(ROOT, sys.argv[1])
    changed = changed_since(ROOT, since)
    if not changed:
        print(f"nothing changed since {since}: no test to run")
        return
    tests = nearest(changed)
    print(told(changed, since, tests), flush=True)
    command = [sys.executable, "-m", "pytest", *pytest_arguments(tests)]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


def told(changed: list[str], since: str, tests: list[str]) -> str:
    line = f"{len(changed)} files changed since {since}, {len(tests)} test files are near"
    left = f"; the first {MOST} run, `make unit` runs every one" if len(tests) > MOST else ""
    return line + left


def pytest_arguments(tests: list[str]) -> list[str]:
    several = PROCESSES if len(tests) > MANY else []
    return ["-m", "not slow", f"--within={SECONDS}", *several, *tests[:MOST]]


def branch_point(folder: Path, since: str) -> str:
    """The last commit that the branch shares with `since`, else with main; abbreviated."""
    if not git(folder, "rev-parse", "--verify", "HEAD"):
        sys.exit("error: nothing is committed here to compare with; `make test` runs every test")
    for name in [since] if since else MAIN:
        if found := git(folder, "merge-base", "HEAD", name):
            return git(folder, "rev-parse", "--short", *found)[0]
    if since:
        sys.exit(f"error: SINCE={since}: no such revision here; expected one, as HEAD~1 or main")
    return git(folder, "rev-parse", "--short", "HEAD")[0]


def changed_since(folder: Path, revision: str) -> list[str]:
    """Files that differ from `revision`, were removed since or are new; without what runs write."""
    differ = git(folder, "diff", "--name-only", "--no-renames", revision)
    new = git(folder, "ls-files", "--others", "--exclude-standard")
    return sorted({*differ, *new} - {WRITTEN})


def git(folder: Path, *arguments: str) -> list[str]:
    """Lines; none where git refuses."""
    command = ["git", "-c", "core.quotePath=false", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def nearest(changed: Sequence[str]) -> list[str]:
    """Test files in the order to run them: changed themselves, of all files, named after one that
    changed, near one and of its package, near one."""
    packages = {file.split("/")[0] for file in changed}
    themselves = [file for file in changed if is_test(file)]
    named = [name for file in changed for name in named_after(file)]
    others = {test for file in changed for test in near(file)}
    nearer = sorted(others, key=lambda test: (test.split("/")[1] not in packages, test))
    ordered = dict.fromkeys([*themselves, *EVERYWHERE, *named, *nearer])
    return [test for test in ordered if (ROOT / test).is_file()]


def near(file: str) -> set[str]:
    """Test files named after or using it; where there are none, those of its users, and so on."""
    if is_test(file):
        return {file}
    seen, ring, tests = {file}, {file}, set[str]()
    while ring and not tests:
        tests = {name for each in ring for name in named_after(each)}
        ring = {user for each in ring for user in users(each)} - seen
        tests |= {user for user in ring if is_test(user)}
        seen |= ring
    return tests


def named_after(file: str) -> list[str]:
    """Its own test file, which lies in the same folder of `tests`."""
    path = Path("tests") / Path(file).with_name(f"test_{Path(file).name}")
    return [str(path)] if (ROOT / path).is_file() else []


def users(file: str) -> set[str]:
    """Python files that import it; or, if it is no module, that name it or lie beside it."""
    path = Path(file)
    if path.name == "conftest.py":
        return {other for other in texts() if is_test(other) and path.parent in Path(other).parents}
    if path.suffix == ".py":
        return importers()[file]
    name = path.name if path.suffix else file
    folder = path.parent
    return {
        other for other, text in texts().items() if name in text or Path(other).parent == folder
    }


def is_test(file: str) -> bool:
    return file.startswith("tests/") and Path(file).name.startswith("test_")


@cache
def importers() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for file in texts():
        for other in imported(file):
            found[other].add(file)
    return found


@cache
def texts() -> dict[str, str]:
    return {
        file: (ROOT / file).read_text(encoding="utf-8") for file in python_files(*CODE, "tests")
    }


if __name__ == "__main__":
    main()
