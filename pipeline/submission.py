"""`make submission`: run the pipeline, on another source or other settings if asked, and report.

DVC reads its settings from `params.yaml` alone, so another source stands there while it runs; the
file is put back byte for byte afterwards, and after a kill at the next call.
"""

import argparse
import fcntl
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import schema
from pipeline.params import PARAMS, load_params
from pipeline.schema import InputError, replacing

log = logging.getLogger(__name__)

SOURCES = "sample, microlens_1m, or a folder in the raw layout"
ORIGINAL = Path(".params.yaml.orig")
ORIGINAL_KEPT = Path("params.yaml.orig")
LOCK = Path(".params.yaml.lock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="", help=SOURCES)
    parser.add_argument("--params", default="", help="a file of settings to use for this run")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        with settings(arguments.source, arguments.params):
            status = dvc("repro")
            if status == 0:
                report()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.exit(1 if status else 0)


@contextmanager
def settings(source: str, params: str) -> Iterator[None]:
    """`params.yaml` with the content of `params` and `source` as its data.source, for a while.

    Raises InputError while another such run is under way.
    """
    with alone():
        if ORIGINAL.exists():
            log.info("putting %s back as it was before a run that was killed", PARAMS)
            ORIGINAL.replace(PARAMS)
        if not source and not params:
            load_params()
            yield
            return
        changed = other_settings(Path(params or PARAMS), source)
        with replacing(ORIGINAL) as partial:
            partial.write_bytes(PARAMS.read_bytes())
        try:
            with replacing(PARAMS) as partial:
                partial.write_bytes(changed)
            yield
        finally:
            put_back(changed)


@contextmanager
def alone() -> Iterator[None]:
    """Refuse a second run beside this one: it would change the settings under it."""
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another `make submission` is running here ({LOCK}); wait for it"
            ) from None
        yield


def put_back(changed: bytes) -> None:
    """Restore `params.yaml`, unless the user has edited it meanwhile."""
    if PARAMS.read_bytes() == changed:
        ORIGINAL.replace(PARAMS)
    else:
        log.warning(
            "%s was edited during the run and is kept; as it was: %s", PARAMS, ORIGINAL_KEPT
        )
        ORIGINAL.replace(ORIGINAL_KEPT)


def other_settings(params: Path, source: str) -> bytes:
    """The text of `params` with `source`, if not empty, in place of its data.source."""
    if not params.is_file():
        raise InputError(f"{params}: not found; PARAMS names a file like {PARAMS}")
    load_params(params)
    if not source:
        return params.read_bytes()
    if not Path(source).is_dir():
        raise InputError(f"SOURCE={source} is not a folder; expected {SOURCES}")
    yaml = YAML()
    content = yaml.load(params)
    content["data"]["source"] = source
    text = io.BytesIO()
    yaml.dump(content, text)
    return text.getvalue()


def dvc(*arguments: str) -> int:
    """Run DVC in this environment; its exit code."""
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode


def report() -> None:
    """The metrics table, and where the submissions lie."""
    dvc("metrics", "show")
    log.info("Task 1: %s", schema.ITEM_INFO)
    log.info("Task 2: %s", schema.SUBMISSION)


if __name__ == "__main__":
    main()
