"""What `make submission` is asked for becomes the settings in `params.yaml`, for good.

DVC and every command outside it read that file alone, so that whatever is typed afterwards works on
the same data with the same settings. The earlier file is kept beside it under a name of its own.
"""

import io
import logging
import os
from itertools import count
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.common.files import InputError, replacing
from pipeline.common.paths import CLICKS, PARAMS
from pipeline.settings.params import load_params

log = logging.getLogger(__name__)

NAMED = ("sample", "microlens_1m")
SOURCES = f"{', '.join(NAMED)}, or a folder in the raw layout"
KEPT = f"{PARAMS}.before-"
"""What the names of earlier settings begin with."""
LONGEST = 2**16
"""Characters of a line before ruamel.yaml would fold it."""


def take_settings(source: str, params: str) -> None:
    """Give `params.yaml` the content of the file `params`, and the value `source` as data.source.

    Either may be empty. Settings that are there already change nothing; nor do those at fault,
    which raise InputError. The earlier file is kept, and told.
    """
    file = settings_file(params)
    asked = load_params(file).model_dump()
    folder = source_named(source) if source else ""
    if folder:
        asked["data"]["source"] = folder
    if asked == settings_there():
        return
    text = with_source(file, folder) if folder else file.read_bytes()
    kept = keep_earlier((file if params else Path(folder)).name)
    with replacing(PARAMS) as partial:
        partial.write_bytes(text)
    taken = [f"the settings of {file}"] * bool(params) + [f"data.source {folder}"] * bool(folder)
    log.info("%s has %s from now on%s", PARAMS, " and ".join(taken), kept and f"; before: {kept}")


def settings_file(params: str) -> Path:
    """The file that PARAMS names, `params.yaml` where it names none."""
    file = from_home(params) if params else PARAMS
    if params and not file.is_file():
        raise InputError(f"PARAMS={file}: not found; expected a file like {PARAMS}")
    return file


def source_named(source: str) -> str:
    """What SOURCE stands for, as data.source: a folder by its absolute path, which experiments that
    run in a copy of the repository find as well."""
    if source.rstrip("/") in NAMED:
        return source.rstrip("/")
    if "://" in source:  # not repeated, since addresses may hold passwords
        raise InputError(f"SOURCE is an address; expected {SOURCES}")
    folder = from_home(source).absolute()
    if not folder.is_dir():
        raise InputError(f"SOURCE={folder} is not a folder; expected {SOURCES}")
    if not (folder / CLICKS).is_dir():
        raise InputError(
            f"SOURCE={folder} is not in the raw layout, in which clicks are in {CLICKS}/ "
            "(docs/data.md); the settings are as they were"
        )
    return str(folder)


def from_home(path: str) -> Path:
    """`path` with a `~` at its start read as a shell would, which not every shell does for make."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def settings_there() -> dict[str, Any] | None:
    """Those in `params.yaml`; None where it is missing or at fault, which others may mend."""
    try:
        return load_params().model_dump()
    except InputError:
        return None


def with_source(file: Path, source: str) -> bytes:
    """The text of `file` with another data.source, comments and all else as they are."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = LONGEST
    content = yaml.load(file)
    content["data"]["source"] = source
    text = io.BytesIO()
    yaml.dump(content, text)
    return text.getvalue()


def keep_earlier(name: str) -> str:
    """Copy `params.yaml`, if it is there, to a file named after what comes in its place.

    Returns the copy's path, else ''. No file is overwritten; one of the same bytes serves again.
    """
    if not PARAMS.is_file():
        return ""
    stem = f"{KEPT}{name.removeprefix(KEPT).removesuffix('.yaml')}"
    earlier = PARAMS.read_bytes()
    for copy in (Path(f"{stem}-{number}" if number > 1 else stem) for number in count(1)):
        if not os.path.lexists(copy):
            with replacing(copy) as partial:
                partial.write_bytes(earlier)
            return str(copy)
        if copy.is_file() and copy.read_bytes() == earlier:
            return str(copy)
    raise AssertionError("count has no end")
