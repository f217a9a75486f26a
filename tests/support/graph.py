"""`dvc.yaml` as DVC reads it: what each stage depends on and makes, with the settings filled in."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]


def graph() -> dict[str, dict[str, Any]]:
    """Stage to its entry; of a stage that is repeated (`foreach`) what it does each time."""
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    stages = yaml.load(ROOT / "dvc.yaml")["stages"]
    return {name: filled(stage.get("do", stage), params) for name, stage in stages.items()}


def filled(stage: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    def value(match: re.Match[str]) -> str:
        section, _, key = match[1].partition(".")
        return str(params[section][key]) if key else match[0]

    deps = [re.sub(r"\$\{([\w.]+)\}", value, dep) for dep in stage["deps"]]
    return {**stage, "deps": deps}


def makers(dependency: str, stages: dict[str, dict[str, Any]]) -> set[str]:
    """The stages whose outputs are `dependency`, or lie in it."""
    return {
        name
        for name, stage in stages.items()
        for out in stage.get("outs", [])
        if out == dependency or out.startswith(f"{dependency}/")
    }
