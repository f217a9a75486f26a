"""The entry of every stage: settings in, one readable message out when the input is wrong."""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.params import Params, load_params
from pipeline.schema import InputError, replacing

CACHE = Path(".dvc/cache/files/md5")


def run(main: Callable[[Params], None]) -> None:
    """Run a stage on `params.yaml`. Exit code 1 and one message for bad input or a failing disk.

    `--debug` or MMCTR_DEBUG=1 shows the traceback as well.
    """
    debug = "--debug" in sys.argv[1:] or os.environ.get("MMCTR_DEBUG", "") not in ("", "0")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        main(load_params())
    except BaseException as error:
        if os.environ.get("RANK", "0") == "0":
            bring_back_outputs(os.environ.get("DVC_STAGE", ""))
        if isinstance(error, InputError | OSError) and not debug:
            sys.exit(f"error: {error}")
        raise


def bring_back_outputs(stage: str) -> None:
    """Put the outputs of the last good run back from DVC's cache.

    DVC deletes a stage's outputs before it starts the stage, so a failing stage would cost the user
    the earlier result. Does nothing outside `dvc repro`.
    """
    lock = Path("dvc.lock")
    if not stage or not lock.exists():
        return
    stages = YAML(typ="safe").load(lock)["stages"]
    for out in stages.get(stage, {}).get("outs", []):
        path, cached = Path(out["path"]), CACHE / out["md5"][:2] / out["md5"][2:]
        if cached.is_file() and not path.exists():
            with replacing(path) as partial:
                shutil.copyfile(cached, partial)
