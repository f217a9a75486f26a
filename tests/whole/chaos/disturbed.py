"""Disturbances of the pipeline, and what must be so after each of them."""

import shutil
import time

from ruamel.yaml import YAML

from tests.support.references.run import ReferenceRun
from tests.support.repro import Target

AT_WORK = "another run of this stage is at work"


def forget(run: ReferenceRun, stage: str) -> None:
    """As if `stage` had never run: its outputs are gone, and DVC does not know that it ran."""
    for path in run.outputs[stage]:
        (run.clone.folder / path).unlink(missing_ok=True)
    shutil.rmtree(run.clone.folder / ".dvc/cache/runs", ignore_errors=True)
    lock, yaml = run.clone.folder / "dvc.lock", YAML()
    content = yaml.load(lock)
    content["stages"].pop(stage, None)
    yaml.dump(content, lock)


def kill(run: ReferenceRun, stage: str, wait: float, target: Target) -> bool:
    """Kill a `dvc repro` that long after `stage` began; whether the stage was still at work."""
    repro = run.repro(forked=False)  # its stages are to be killed with it
    repro.wait_until(lambda: stage in repro.stages() and bool(repro.stage_processes()))
    moment = time.monotonic() + wait
    repro.wait_until(lambda: time.monotonic() >= moment)
    at_work = bool(repro.stage_processes())
    repro.kill(target)
    run.assert_intact(but=[stage])
    return at_work


def finish(run: ReferenceRun) -> None:
    """A plain `dvc repro` ends with the reference's bytes.

    A stage that outlived a killed `dvc` may still be at work: then the message says so, and the
    same command succeeds when that has ended.
    """
    repro = run.repro()
    while repro.wait() != 0:
        assert AT_WORK in repro.log.read_text(), repro.log.read_text()
        time.sleep(0.5)
        repro = run.repro()
    assert_as_undisturbed(run, repro.log.read_text())


def assert_as_undisturbed(run: ReferenceRun, log: str) -> None:
    assert run.clone.recorded() == run.outputs, log
    run.assert_intact()
    run.assert_nothing_partial()
