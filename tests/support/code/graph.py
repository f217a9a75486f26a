"""`dvc.yaml` as DVC reads it: what each stage depends on and makes, with the settings filled in."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[3]
MODEL = "main"


def graph() -> dict[str, dict[str, Any]]:
    """Stage to its entry; of a stage that is repeated (`foreach`) what it does for `MODEL`."""
    yaml = YAML(typ="safe")
    content = yaml.load(ROOT / "dvc.yaml")
    values = yaml.load(ROOT / "params.yaml") | {"key": MODEL}
    for variables in content["vars"]:
        values |= variables
    return {name: filled(each.get("do", each), values) for name, each in content["stages"].items()}


def filled(entry: Any, values: dict[str, Any]) -> Any:
    """`entry` with each ${...} in it replaced by what the settings say."""
    if isinstance(entry, dict):
        return {key: filled(value, values) for key, value in entry.items()}
    if isinstance(entry, list):
        return [filled(value, values) for value in entry]
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(value_at(match[1], values)), entry)


def value_at(key: str, values: dict[str, Any]) -> Any:
    found: Any = values
    for part in key.split("."):
        found = found[part]
    return found


def makers(dependency: str, stages: dict[str, dict[str, Any]]) -> set[str]:
    """The stages whose outputs are `dependency`, lie in it, or hold it."""
    return {
        name
        for name, stage in stages.items()
        for out in stage.get("outs", []) + stage.get("metrics", [])
        if covers(out, dependency) or covers(dependency, out)
    }


def covers(path: str, other: str) -> bool:
    """Whether `other` is `path`, or lies in the folder `path`."""
    return other == path or other.startswith(f"{path}/")
