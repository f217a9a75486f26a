"""The entry of every stage: settings in, one readable message out when the input is wrong."""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.params import Params, load_params
from pipeline.schema import InputError, replacing


def run(main: Callable[[Params], None]) -> None:
    """Run a stage on `params.yaml`. Exit code 1 and one message for bad input or a failing disk.

    `--debug` or MMCTR_DEBUG=1 shows the traceback as well.
    """
    debug = "--debug" in sys.argv[1:] or os.environ.get("MMCTR_DEBUG", "") not in ("", "0")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        main(load_params())
    except BaseException as error:
        if os.environ.get("RANK", "0") == "0" and "DVC_STAGE" in os.environ:
            with suppress(Exception):  # or it would hide what went wrong
                bring_back_outputs(os.environ["DVC_STAGE"])
        if isinstance(error, InputError | OSError) and not debug:
            sys.exit(f"error: {error}")
        raise


def bring_back_outputs(stage: str) -> None:
    """Put the outputs of the last good run back from DVC's cache.

    DVC deletes a stage's outputs before it starts the stage, so a failing stage would cost the user
    the earlier result.
    """
    from dvc.repo import Repo  # takes a second to import, which only a failing stage pays

    cache = Path(Repo().cache.local.path)
    recorded = YAML(typ="safe").load(Path("dvc.lock"))["stages"].get(stage, {})
    for out in recorded.get("outs", []):
        path, cached = Path(out["path"]), cache / out["md5"][:2] / out["md5"][2:]
        if cached.is_file() and not path.exists():
            with replacing(path) as partial:
                shutil.copyfile(cached, partial)
