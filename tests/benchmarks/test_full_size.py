import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks import full_size
from benchmarks.full_size import OFFLINE, quality, settings_of, stage_line
from benchmarks.growth.full_world import RAW
from benchmarks.growth.stand_in import ROOT, set_up, stages
from pipeline.common.files import read_json
from pipeline.settings.params import load_params

SIZES = ("--items=120", "--users=90", "--slates=3", "--tags=12")


def run(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(sys, "argv", ["full_size", *SIZES, *flags])
    full_size.main()


def test_every_stage_runs_by_its_own_command_after_what_it_reads(tmp_path: Path) -> None:
    set_up(tmp_path, settings_of("small", None).model_dump())
    found = stages(tmp_path)
    declared = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert {stage.name.partition("@")[0] for stage in found} == set(declared)
    assert {"train@main", "train@trees", "embed_text@main"} <= {stage.name for stage in found}
    made: set[str] = set()
    outputs = {out for stage in found for out in relative(stage.outputs, tmp_path)}
    for stage in found:
        section = declared[stage.name.partition("@")[0]]
        deps = [dep.replace("${key}", "main") for dep in section.get("do", section)["deps"]]
        read = {out for out in outputs if any(within(dep, out) for dep in deps)}
        assert read <= made, stage.name
        made |= relative(stage.outputs, tmp_path)
    assert "python" not in {word for stage in found for word in stage.command}


def relative(paths: list[Path], folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in paths}


def within(path: str, other: str) -> bool:
    """Whether one is the other, or in it."""
    return f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")


@pytest.mark.parametrize("name", ["small", "recipe", "published"])
def test_no_settings_ask_the_hub(name: str) -> None:
    small, found = load_params(ROOT / "params.yaml"), settings_of(name, 2)
    assert found.data.source == str(RAW)
    assert found.train.epochs == 2
    for section in set(OFFLINE) - {"encoder"}:
        assert getattr(found, section) == getattr(small, section)
    assert found.encoder == small.encoder.model_copy(update={"epochs": 1})
    assert found.train.embedding_dim == (8 if name == "small" else 128)
    assert found.train.batch_size == 8192
    assert found.train.learning_rate == (0.006 if name == "small" else 0.002)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended after its world."""
    folder = tmp_path_factory.mktemp("begun") / "world"
    with pytest.MonkeyPatch.context() as patch:
        run(patch, f"--folder={folder}", "--upto=world")
    return folder


def test_a_run_goes_on_where_it_ended(
    begun: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, file = tmp_path / "world", tmp_path / "figures.json"
    shutil.copytree(begun, folder, symlinks=True)
    first = read_json(folder / "figures.json")["stages"]
    assert set(first) == {"world"}
    assert first["world"]["bytes"] > 120 * 1_000
    with pytest.raises(SystemExit, match="is there already; --resume goes on in it"):
        run(monkeypatch, f"--folder={folder}")
    capsys.readouterr()
    again = ("--resume", f"--folder={folder}", f"--json={file}")
    run(monkeypatch, *again, "--upto=ingest")
    found = read_json(file)
    assert {name: found["stages"][name] for name in first} == first
    assert found["stages"]["ingest"]["cpu"] > 0
    assert "120 items" in (folder / "logs/ingest.txt").read_text(encoding="utf-8")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:] if line] == (
        ["world", "ingest"]
    )
    with pytest.raises(SystemExit, match="holds a run with --epochs None, not 5"):
        run(monkeypatch, *again, "--epochs=5")
    with pytest.raises(SystemExit, match="--upto tea is no stage; expected one of world, ingest"):
        run(monkeypatch, *again, "--upto=tea")


def test_a_failing_stage_ends_the_run_and_is_told(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(begun, tmp_path / "world", symlinks=True)
    (folder / "raw/item_feature.parquet").write_bytes(b"no table")
    with pytest.raises(SystemExit, match=r"ingest failed.*logs/ingest\.txt"):
        run(monkeypatch, f"--folder={folder}", "--resume", "--upto=ingest")
    assert list(read_json(folder / "figures.json")["stages"]) == ["world"]


def test_a_line_and_the_share_of_what_can_be_known() -> None:
    peak = {"seconds": 12.4, "cpu": 20.1, "anonymous": 3e9, "bytes": 5e6}
    assert stage_line("judge", peak).split() == ["judge", "12", "20", "3,000", "5"]
    assert quality({"quality": {"auc": 0.8, "oracle": 0.9}}).endswith("0.9000: 75.0 % known")
