"""LightGBM, imported where the model is boosted trees and nowhere else, and what it computes on."""

import logging
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from pipeline.common.files import InputError
from pipeline.common.launch import arithmetic, has_nvidia_gpu
from pipeline.common.outlook import cpu

CPU = torch.device("cpu")
LAST_LINE = "\nend of trees\n"
"""At a text that is cut before it, LightGBM ends the process."""

log = logging.getLogger(__name__)


def library(section: str) -> ModuleType:
    """The module `lightgbm`; `section` is where messages look for the settings."""
    try:
        return import_module("lightgbm")
    except (ImportError, OSError) as error:  # OSError: its own library lacks one of the system's
        raise InputError(
            f"params.yaml: {section}.model is lightgbm, which cannot be loaded: {error}; type "
            "`pip install lightgbm`; where it is libgomp that is missing, install the system's "
            "(Debian: libgomp1, Fedora: libgomp; macOS: brew install libomp)"
        ) from error


def booster_of(lightgbm: ModuleType, path: Path) -> Any:
    """LightGBM's booster. ValueError where `path` has no whole model, or none that can be read."""
    text = path.read_text(encoding="utf-8")
    if LAST_LINE not in text:
        raise ValueError("it ends before its trees do")
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(str(error)) from None


def threads() -> int:
    """Those of all processes on this machine: where there are several, one alone computes."""
    return torch.get_num_threads() * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def tell(section: str, lightgbm: ModuleType, processes: int = 1) -> None:
    """A line of what computes, and why a GPU or other processes do not."""
    on = cpu(threads(), str(arithmetic(CPU)["instructions"]))
    gpu = ", which has no GPU's code" if has_nvidia_gpu() else ""
    idle = "; the other processes have nothing to do" if processes > 1 else ""
    log.info("%s: on %s, LightGBM %s%s%s", section, on, lightgbm.__version__, gpu, idle)
