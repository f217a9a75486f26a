"""What a ranking model was trained on: its weights mean nothing beside other items."""

from pathlib import Path
from typing import Any

from pipeline.common import paths
from pipeline.common.files import InputError, read_json
from pipeline.common.paths import ModelFiles
from pipeline.common.scratch import file_sha256


def item_digests() -> dict[str, str]:
    """Of what a model reads of the items."""
    return {str(path): file_sha256(path) for path in (paths.ITEM, paths.TAGS, paths.NEIGHBORS)}


def read_description(files: ModelFiles) -> dict[str, Any]:
    """What was written beside a trained model.

    Raises InputError where the items are not those that it was trained on, as after another source
    or recipe: DVC trains again then, but not where a stage is run alone.
    """
    content = read_json(files.config)
    for path, digest in content.get("items", {}).items():
        if file_sha256(Path(path)) != digest:
            raise InputError(
                f"{trained_file(files, content['model'])}: was trained on another {path} than is "
                "there now; type `dvc repro`, or train again first"
            )
    return content


def trained_file(files: ModelFiles, model: str) -> Path:
    """What holds a model of kind `model`: `train.model`."""
    return files.trees if model == "lightgbm" else files.weights
