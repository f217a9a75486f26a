import logging
import os
import re
import signal
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from pipeline.common import stage
from pipeline.common.files import InputError, replacing, write_json
from pipeline.common.paths import STATS
from pipeline.settings.embed.neighbors import Neighbors

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.delenv("MMCTR_DEBUG", raising=False)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def fail(_section: Neighbors) -> None:
    raise InputError("file, row 3: wrong")


@pytest.mark.usefixtures("workspace")
def test_bad_input_ends_with_its_message_alone() -> None:
    with pytest.raises(SystemExit) as exit:
        stage.run("neighbors", fail)
    assert exit.value.code == "error: file, row 3: wrong"


@pytest.mark.usefixtures("workspace")
def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCTR_DEBUG", "1")
    with pytest.raises(InputError):
        stage.run("neighbors", fail)


@pytest.mark.usefixtures("workspace")
def test_a_fault_of_our_own_keeps_its_traceback() -> None:
    def bug(_section: Neighbors) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stage.run("neighbors", bug)


def test_a_good_run_gets_its_section_of_the_settings(workspace: Path) -> None:
    seen: list[Neighbors] = []
    stage.run("neighbors", seen.append)
    assert seen[0].k == 20
    assert workspace.exists()


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """`run` is the entry of a process, and leaves its handlers in place."""
    usual = {number: signal.getsignal(number) for number in stage.STOPS}
    yield
    for number, action in usual.items():
        signal.signal(number, action)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_signal_clears_up_and_leaves_a_message(
    number: signal.Signals,
    code: int,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_section: Neighbors) -> None:
        with replacing(workspace / "embeddings/item/vectors.npy") as partial:
            partial.write_text("half")
            signal.raise_signal(number)

    monkeypatch.setenv("DVC_STAGE", "neighbors")
    with pytest.raises(SystemExit) as exit:
        stage.run("neighbors", interrupted)
    assert exit.value.code == code
    found = capsys.readouterr().err
    assert found == "stopped: what was finished before is kept. `dvc repro` goes on from there\n"
    assert not [path for path in (workspace / "embeddings").rglob("*") if path.is_file()]


@pytest.mark.usefixtures("workspace")
def test_a_stop_request_is_noted_and_a_later_one_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[list[int]] = []

    def patient(_section: Neighbors) -> None:
        with stage.stop_requests() as received:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # as a launcher passes it on
            reached.append(list(received))
            monkeypatch.setattr(stage, "AGAIN", 0.0)
            signal.raise_signal(signal.SIGINT)
            reached.append(list(received))

    with pytest.raises(SystemExit) as exit:
        stage.run("neighbors", patient)
    assert reached == [[signal.SIGTERM, signal.SIGTERM]]
    assert exit.value.code == 130


@pytest.mark.usefixtures("workspace")
def test_after_the_block_a_stop_signal_is_obeyed_at_once() -> None:
    def patient(_section: Neighbors) -> None:
        with stage.stop_requests() as received:
            assert received == []
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    with pytest.raises(SystemExit) as exit:
        stage.run("neighbors", patient)
    assert exit.value.code == 143


@pytest.mark.usefixtures("workspace")
def test_a_library_that_catches_every_exception_cannot_swallow_a_stop() -> None:
    def covered(_section: Neighbors) -> None:
        with suppress(Exception):
            signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    with pytest.raises(SystemExit) as exit:
        stage.run("neighbors", covered)
    assert exit.value.code == 143


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("patient", [False, True])
def test_a_forked_worker_ends_at_once(patient: bool) -> None:
    codes = []

    def forking(_section: Neighbors) -> None:
        with stage.stop_requests() if patient else nullcontext():
            worker = os.fork()
            if not worker:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))

    stage.run("neighbors", forking)
    assert codes == [143]


def test_it_closes_with_what_was_made_and_the_seconds(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # the stage sets up its own
    stage.run("neighbors", lambda _: stage.made("7 items"))
    found = re.fullmatch(r"neighbors: 7 items \((\d+\.\d) s\)\n", capsys.readouterr().out)
    assert found
    assert (workspace / "scratch/neighbors/seconds").read_text() == f"{found[1]}\n"


@pytest.mark.usefixtures("workspace")
def test_only_the_first_process_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setenv("RANK", "1")
    stage.run("neighbors", lambda _: stage.made("7 items"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "stage_name", "model"),
    [
        ([], "predict@main", "main"),
        (["--debug"], "predict@main", "main"),
        (["--model", "rows_3"], "predict@rows_3", "rows_3"),
    ],
)
def test_each_ranking_model_has_a_stage_and_a_lock_of_its_own(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    stage_name: str,
    model: str,
) -> None:
    settings = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(
        settings.replace("  trees: {", "  rows_3: {rows: 3}\n  trees: {")
    )
    monkeypatch.setattr("sys.argv", ["stage", *arguments])
    seen = []
    stage.run_for_model("predict", lambda _, name: seen.append(name))
    assert seen == [model]
    assert [path.parent.name for path in workspace.glob("scratch/*/lock")] == [stage_name]


@pytest.mark.parametrize("name", ["../elsewhere", "", "Rows", "a b"])
def test_a_model_that_cannot_be_one_is_refused_before_anything_is_made(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["stage", "--model", name])
    with pytest.raises(SystemExit) as exit:
        stage.run_for_model("train", lambda params, _: fail(params))
    assert exit.value.code == 2
    assert f"--model: found {name!r}; expected a name in params.yaml" in capsys.readouterr().err
    assert not (workspace / "scratch").exists()


@pytest.mark.parametrize("flag", ["--blend", "--modle"])
def test_a_flag_that_is_none_is_refused_before_anything_is_made(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    """Else another model than the one asked for would be trained anew."""
    monkeypatch.setattr("sys.argv", ["stage", flag, "rows_3"])
    with pytest.raises(SystemExit) as exit:
        stage.run_for_model("train", lambda section, _: fail(section))
    assert exit.value.code == 2
    assert not (workspace / "scratch").exists()


def test_seconds_that_cannot_be_written_cost_nothing(workspace: Path) -> None:
    (workspace / "scratch/neighbors/seconds").mkdir(parents=True)
    stage.run("neighbors", lambda _: stage.made("7 items"))


SETTINGS = {"source": "sample", "history": 100, "tags": 5, "seed": 2025}


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("under_dvc", [False, True])  # where `dvc repro --single-item` runs it
@pytest.mark.parametrize(
    ("changes", "has", "says"),
    [
        ({"source": "/raw"}, "data.source: /raw", "data.source: sample"),
        (
            {"history": 50, "seed": 3},
            "data.history: 50, data.seed: 3",
            "data.history: 100, data.seed: 2025",
        ),
        ({"tags": 3}, "data.tags: 3", "data.tags: 5"),
    ],
)
def test_data_of_other_settings_are_refused(
    changes: dict[str, object],
    has: str,
    says: str,
    under_dvc: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if under_dvc:
        monkeypatch.setenv("DVC_STAGE", "neighbors")
    write_json(STATS, {"items": 3, "tags": 7, "settings": SETTINGS | changes})
    started: list[object] = []
    with pytest.raises(SystemExit) as exit:
        stage.run("neighbors", started.append)
    assert started == []
    assert exit.value.code == (
        f"error: data/ was made with {has}; params.yaml says {says}. Type `dvc repro neighbors` to "
        "make what neighbors reads anew, or put params.yaml back as it was"
    )
    stage.run("ingest", started.append)  # makes them
    assert len(started) == 1


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("stats", [{"settings": SETTINGS}, {"items": 3, "tags": 7}, None])
def test_data_of_these_settings_are_read(stats: dict[str, object] | None) -> None:
    """So are those that do not say what they were made with."""
    if stats is not None:
        write_json(STATS, stats)
    started: list[object] = []
    stage.run("neighbors", started.append)
    assert len(started) == 1


@pytest.mark.parametrize("launched", [False, True])
def test_a_stage_of_one_process_refuses_several_before_any_work(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, launched: bool
) -> None:
    monkeypatch.setattr("sys.argv", [str(ROOT / "ctr/predict.py")])
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    seen: list[object] = []
    if launched:
        stage.run("train", seen.append, launched=True)
        assert len(seen) == 1
        return
    with pytest.raises(SystemExit) as exit:
        stage.run("predict", seen.append)
    assert exit.value.code == (
        "error: 2 processes were started of a stage that runs in one; type python -m ctr.predict"
    )
    assert not seen
    assert not (workspace / "scratch").exists()
