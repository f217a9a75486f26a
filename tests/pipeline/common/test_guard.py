"""What starts a stage's command, and what it does when the command fails."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.common import guard
from tests.support.clone import HERE

ROOT = Path(__file__).resolve().parents[3]
FAIL = [sys.executable, "-c", "import no_such_module"]
FILE, FOLDER = "0123456789abcdef0123456789abcdef", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.dir"
LOCK = f"""
schema: '2.0'
stages:
  fuse:
    outs:
    - {{path: embeddings/item/vectors.npy, hash: md5, md5: {FILE}, size: 3}}
    - {{path: covers, hash: md5, md5: {FOLDER}, size: 6, nfiles: 2}}
  train@rows_3:
    outs:
    - {{path: rows_3.npy, hash: md5, md5: {FILE}, size: 3}}
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In which DVC runs `fuse`, whose outputs it has deleted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "fuse")
    Repo.init(no_scm=True).close()
    files = [{"md5": FILE, "relpath": "1.jpg"}, {"md5": FILE, "relpath": "more/2.jpg"}]
    for md5, content in ((FILE, "old"), (FOLDER, json.dumps(files))):
        cached = tmp_path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        cached.parent.mkdir(parents=True)
        cached.write_text(content)
    (tmp_path / "dvc.lock").write_text(LOCK)
    return tmp_path


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, action in usual.items():
        signal.signal(number, action)


def contents(folder: Path) -> dict[str, str]:
    kept = [path for path in folder.rglob("*") if path.is_file() and ".dvc" not in path.parts]
    return {str(path.relative_to(folder)): path.read_text() for path in kept if path.name[0] != "."}


def test_what_fails_before_the_stages_own_code_costs_no_output(workspace: Path) -> None:
    (workspace / "dvc.lock").write_text(LOCK)
    before = contents(workspace)
    assert guard.main(FAIL) == 1
    assert contents(workspace) == before | {
        "embeddings/item/vectors.npy": "old",
        "covers/1.jpg": "old",
        "covers/more/2.jpg": "old",
    }


@pytest.mark.parametrize("command", [["no-such-program"], ["/etc/passwd"]])
def test_a_command_that_cannot_be_started(
    workspace: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert guard.main(command) == guard.NOT_FOUND
    assert capfd.readouterr().err.startswith(f"error: {command[0]} cannot be started: ")
    assert (workspace / "embeddings/item/vectors.npy").read_text() == "old"


def test_the_launcher_that_fails(workspace: Path) -> None:
    command = [str(HERE / "accelerate-launch"), "--config_file", "missing.yaml", "x.py"]
    assert guard.main(command) == 1
    assert (workspace / "embeddings/item/vectors.npy").read_text() == "old"


def test_a_command_that_ends_well_is_left_alone(workspace: Path) -> None:
    before = contents(workspace)
    assert guard.main([sys.executable, "-c", ""]) == 0
    assert contents(workspace) == before


def test_a_repeated_stage(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train@rows_3")
    guard.main(FAIL)
    assert (workspace / "rows_3.npy").read_text() == "old"
    assert not (workspace / "embeddings").exists()


def test_outside_dvc_nothing_is_brought_back(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_STAGE")
    before = contents(workspace)
    assert guard.main(FAIL) == 1
    assert contents(workspace) == before


def test_an_output_that_was_begun_anew_is_brought_back(workspace: Path) -> None:
    """A stage makes the folder again that DVC has removed, before it fails."""
    failing = (
        "from pathlib import Path; Path('covers').mkdir(); Path('covers/.x.partial').touch(); 1/0"
    )
    assert guard.main([sys.executable, "-c", failing]) == 1
    assert (workspace / "covers/1.jpg").read_text() == "old"
    assert not (workspace / "covers/.x.partial").exists()


def test_what_is_there_is_not_overwritten(workspace: Path) -> None:
    for path in ("embeddings/item/vectors.npy", "covers/3.jpg"):
        (workspace / path).parent.mkdir(parents=True)
        (workspace / path).write_text("newer")
    before = contents(workspace)
    guard.main(FAIL)
    assert contents(workspace) == before


def test_what_another_run_has_finished_meanwhile_stays(tmp_path: Path) -> None:
    with guard.appearing(tmp_path / "made") as partial:
        partial.write_text("old")
        (tmp_path / "made").write_text("newer")
    assert contents(tmp_path) == {"made": "newer"}


def test_a_copy_that_fails_leaves_nothing_and_costs_no_other(workspace: Path) -> None:
    (workspace / ".dvc/cache/files/md5" / FILE[:2] / FILE[2:]).rename(workspace / "moved")
    other = {"md5": FOLDER.removesuffix(".dir"), "relpath": "1.jpg"}
    listing = workspace / ".dvc/cache/files/md5" / FOLDER[:2] / FOLDER[2:]
    listing.write_text(json.dumps([other, {"md5": FILE, "relpath": "2.jpg"}]))
    listing.with_name(other["md5"][2:]).write_text("old")
    guard.main(FAIL)
    assert not (workspace / "covers").exists()
    assert not list(workspace.rglob("*.partial"))
    (workspace / "moved").rename(workspace / ".dvc/cache/files/md5" / FILE[:2] / FILE[2:])
    listing.write_text("no JSON")
    guard.main(FAIL)
    assert (workspace / "embeddings/item/vectors.npy").read_text() == "old"


def test_a_cache_elsewhere_is_found(workspace: Path) -> None:
    (workspace / ".dvc/cache").rename(workspace / "big_disk")
    (workspace / ".dvc/config").write_text(
        "[core]\n    no_scm = True\n[cache]\n    dir = ../big_disk\n"
    )
    guard.main(FAIL)
    assert (workspace / "embeddings/item/vectors.npy").read_text() == "old"


@pytest.mark.parametrize("lock", ["<<<<<<< HEAD", "stages: {fuse: {outs: [{path: x}]}}", None])
def test_a_broken_lock_does_not_hide_what_went_wrong(workspace: Path, lock: str | None) -> None:
    (workspace / "dvc.lock").unlink()
    if lock is not None:
        (workspace / "dvc.lock").write_text(lock)
    assert guard.main([sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_accelerate_is_told_nothing_by_the_users_environment(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_CPU", "FSDP_VERSION", "WORLD_SIZE"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    guard.main([sys.executable, "-c", "import os; open('seen', 'w').write(' '.join(os.environ))"])
    seen = set((workspace / "seen").read_text().split())
    assert {"ACCELERATE_USE_CPU", "OMP_NUM_THREADS", "DVC_STAGE", "PATH"} <= seen
    assert not {"ACCELERATE_USE_FSDP", "FSDP_VERSION", "WORLD_SIZE"} & seen


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, str]
) -> None:
    for name in guard.WAITING:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    told = "import json, os; json.dump(dict(os.environ), open('seen', 'w'))"
    assert guard.main([sys.executable, "-c", told]) == 0
    seen = json.loads((workspace / "seen").read_text())
    assert {name: seen[name] for name in guard.WAITING if name in seen} == (own or guard.WAITING)
    assert guard.WAITING.keys() & os.environ.keys() == own.keys()  # nothing is left here


MADE = """
from pathlib import Path
Path("file").write_text("first")
Path("folder/in").mkdir(parents=True)
Path("folder/in/it").write_text("first")
"""
DVC_YAML = """
stages:
  made:
    cmd: {run} python made.py
    deps: [made.py]
    outs: [file, folder]
"""


def repro(folder: Path) -> int:
    path = f"{HERE}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    environment.pop("DVC_STAGE", None)
    return subprocess.run(["dvc", "repro"], cwd=folder, env=environment, check=False).returncode


@pytest.mark.parametrize("guarded", [True, False])
def test_a_real_dvc_and_a_module_that_cannot_be_imported(tmp_path: Path, guarded: bool) -> None:
    Repo.init(str(tmp_path), no_scm=True).close()
    run = YAML(typ="safe").load(ROOT / "dvc.yaml")["vars"][0]["run"] if guarded else ""
    (tmp_path / "dvc.yaml").write_text(DVC_YAML.format(run=run))
    (tmp_path / "made.py").write_text(MADE)
    assert repro(tmp_path) == 0
    (tmp_path / "made.py").write_text(f"import no_such_module{MADE}")
    assert repro(tmp_path) != 0
    found = {path: text for path, text in contents(tmp_path).items() if text == "first"}
    assert found == ({"file": "first", "folder/in/it": "first"} if guarded else {})


def test_a_killed_stage_gets_its_outputs_back(workspace: Path) -> None:
    assert guard.main([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137
    assert (workspace / "embeddings/item/vectors.npy").read_text() == "old"


def test_it_imports_the_standard_library_alone() -> None:
    code = "import sys; import pipeline.common.guard; print(*sys.modules)"
    environment = {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-S", "-c", code]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    packages = {name.split(".")[0] for name in output.stdout.split()}
    assert packages - set(sys.stdlib_module_names) - {"__main__", "__mp_main__"} == {"pipeline"}
