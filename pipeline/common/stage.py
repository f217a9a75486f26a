"""The entry of every stage: settings in, one readable message out when the input is wrong."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, TextIO

from tqdm import tqdm

from pipeline.common import scratch
from pipeline.common.files import InputError, read_json
from pipeline.common.launcher import age, is_first_process, refuse_several_processes
from pipeline.common.paths import MAIN_MODEL, MODEL_NAME, PARAMS, STATS

log = logging.getLogger(__name__)

STOPS = (signal.SIGTERM, signal.SIGINT)
"""What a scheduler sends, and Ctrl-C."""
SECONDS = "seconds"
"""The file in scratch/<stage>/ that holds how long its last run took."""
Action = Callable[[int, FrameType | None], None]
AGAIN = 2.0
"""Seconds after which a second signal is meant: a launcher passes the first one on at once."""


_told: list[str] = []


def made(line: str) -> None:
    """Say in one line what the stage has made; `run` prints it at the end, with the seconds."""
    _told[:] = [line]


def shown(value: float | None) -> str:
    """To four digits."""
    return "none" if value is None else f"{value:.4f}"


class AboveBars(logging.StreamHandler[TextIO]):
    """Writes a line above the bars that are under way; by itself it would go on where one ends."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class StoppedError(BaseException):
    """The stage was asked to stop by `signal`; the message says what has become of its work.

    Raised anywhere, so no `except Exception` may take it for a fault of its own.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def run(
    stage: str, main: Callable[..., None], *, model: str | None = None, launched: bool = False
) -> None:
    """Run `stage` with its part of `params.yaml`; that of a ranking model or of an encoder where
    `model` names one.

    Exit code 1 and one message for bad input or a failing disk; asked to stop it leaves with 128
    and the signal's number. Either way `guard.py` brings earlier outputs back. While another run of
    the stage is at work this one waits, and then refuses. `launched` stages may run in several
    processes. `--debug` or MMCTR_DEBUG=1 shows the traceback as well.
    """
    debug = "--debug" in sys.argv[1:] or os.environ.get("MMCTR_DEBUG", "") not in ("", "0")
    first = is_first_process()
    name = stage_of(stage, model)
    handlers = [AboveBars(sys.stdout)]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)
    stop_by_exception()
    try:
        if not launched:
            refuse_several_processes()
        with scratch.locked(scratch.SCRATCH / name) if first else nullcontext():
            main(*arguments(stage, name, model))
            if first:
                close(name)
    except BaseException as error:
        if debug:
            raise
        if isinstance(error, InputError | OSError):
            sys.exit(f"error: {error}")
        if isinstance(error, StoppedError):
            if first:
                print(f"stopped: {error}. `dvc repro` goes on from there", file=sys.stderr)
            sys.exit(128 + error.signal)
        raise


def arguments(stage: str, name: str, model: str | None) -> tuple[Any, ...]:
    """What the stage's `main` is called with. InputError for wrong settings, or other data's."""
    # Late, since a stage depends on the file of its own section alone.
    from pipeline.settings.params import load_params

    params = load_params()
    if stage != "ingest":  # which makes the data
        refuse_other_data(name, params.data.model_dump())
    return params.arguments(stage, model)


def close(stage: str) -> None:
    """One line of what was made and how long it took, from the start of the process on."""
    seconds = age()
    with suppress(OSError):  # the outputs are written, and worth more than this
        (scratch.SCRATCH / stage / SECONDS).write_text(f"{seconds:.1f}\n", encoding="utf-8")
    log.info("%s: %s (%.1f s)", stage, ", ".join(_told) or "done", seconds)


def run_for_model(stage: str, main: Callable[..., None], *, launched: bool = False) -> None:
    """`run` for the ranking model or the encoder that `--model NAME` names, `main` without it."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", metavar="NAME", type=model_name, default=MAIN_MODEL)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    run(stage, main, model=parser.parse_args().model, launched=launched)


def model_name(name: str) -> str:
    """A folder is named by it before the settings are read."""
    if not MODEL_NAME.fullmatch(name):
        raise argparse.ArgumentTypeError(f"found {name!r}; expected a name in params.yaml")
    return name


def stage_of(stage: str, model: str | None) -> str:
    """What DVC calls `stage`, which may be repeated for each ranking model, or each encoder."""
    return f"{stage}@{model}" if model else stage


def refuse_other_data(stage: str, asked: Mapping[str, Any]) -> None:
    """InputError where data/ was made with other settings than those `asked` for in `params.yaml`.

    `dvc repro` makes it anew by itself, but not where a stage is run alone.
    """
    made_with = read_json(STATS).get("settings", {}) if STATS.is_file() else {}
    other = [key for key in asked if made_with.get(key, asked[key]) != asked[key]]
    if other:
        has, says = (
            ", ".join(f"data.{key}: {settings[key]}" for key in other)
            for settings in (made_with, asked)
        )
        raise InputError(
            f"data/ was made with {has}; {PARAMS} says {says}. Type `dvc repro {stage}` to make "
            f"what {stage} reads anew, or put {PARAMS} back as it was"
        )


def stop_by_exception() -> None:
    """SIGTERM and SIGINT raise `StoppedError`, so that what is half done is cleared away."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise StoppedError("what was finished before is kept", number)

    on_stops(dict.fromkeys(STOPS, stop))


def on_stops(actions: Mapping[signal.Signals, Action]) -> None:
    """Let signals act in this process; a worker forked from it ends, as the stage wants it to."""
    process = os.getpid()

    def act(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)
        actions[signal.Signals(number)](number, frame)

    for number in actions:
        signal.signal(number, act)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """The stop signals that have come inside the block.

    They do nothing else, unless one comes again after some seconds.
    """
    received: list[int] = []
    times: list[float] = []
    usual = {number: signal.getsignal(number) for number in STOPS}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        times.append(time.monotonic())
        action = usual[signal.Signals(number)]
        if times[-1] - times[0] > AGAIN and callable(action):
            action(number, frame)

    on_stops(dict.fromkeys(STOPS, note))
    try:
        yield received
    finally:
        for number, action in usual.items():
            signal.signal(number, action)
