import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.console import environment as module
from pipeline.console.environment import DATA, MODEL, environment


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed file and all the data."""
    monkeypatch.chdir(tmp_path)
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1")
    (tmp_path / ".gitignore").write_text("\n".join(f"/{path}" for path in DATA))
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first"],
    ):
        subprocess.run(["git", *command], check=True)
    for number, path in enumerate(DATA):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content {number}")
    return tmp_path


def test_it_tells_revision_changes_versions_and_digests(repository: Path) -> None:
    clean = environment()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert clean["git"] == {"revision": head.stdout.strip(), "changed": []}
    for name in ("code.py", "dvc.lock", "new.py"):
        (repository / name).write_text("2")
    assert environment()["git"]["changed"] == ["code.py", "new.py"]
    (repository / ".git/index").write_text("damaged")
    assert environment()["git"]["changed"] is None
    assert clean["packages"]["torch"] == version("torch")
    assert clean["hardware"]["cores"] >= clean["hardware"]["threads"] >= 1
    # printf 'content 0' | sha256sum
    expected = "75e0d458fc2da40b5b8b8b614d0192e9da7fffc2d6042f33300fdb0e8a83dfb4"
    assert set(clean["sha256"]) == {str(path) for path in DATA}
    assert clean["sha256"][str(DATA[0])] == expected


@pytest.mark.usefixtures("repository")
def test_the_model_is_weights_or_trees() -> None:
    for path in MODEL:
        content = path.read_bytes()
        path.unlink()
        assert set(environment()["sha256"]) == {str(other) for other in DATA if other != path}
        path.write_bytes(content)
    DATA[0].unlink()
    with pytest.raises(FileNotFoundError, match=str(DATA[0])):
        environment()


def test_outside_a_repository_there_is_no_revision(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / "nowhere"))
    assert environment()["git"] is None
    monkeypatch.setenv("PATH", "")
    assert module.git() is None


@pytest.mark.usefixtures("repository")
def test_no_secret_gets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    subprocess.run(["git", "remote", "add", "origin", "https://me:hf_s3cret@host/x"], check=True)
    assert "s3cret" not in json.dumps(environment())
