"""`dvc.yaml` against the code: what a stage imports, it depends on."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.settings.params import Params

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ctr", "embed", "gallery", "pipeline", "sample")
DECLARED: dict[str, dict[str, Any]] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STAGES = {name: stage.get("do", stage) for name, stage in DECLARED.items()}
"""Of a stage that is repeated (`foreach`) what it does each time."""
REPEATED = {"blend_train": ["train", "blend.models.${key}"], "blend_predict": ["predict"]}
"""Stages that do for each model of `blend.models` what another does, and what they read."""

GUARD = ROOT / "pipeline/common/guard.py"
CONFIG = "pipeline/accelerate.yaml"


def module_file(name: str) -> Path | None:
    """The file of a project module, None for a package or for somebody else's module."""
    path = ROOT / (name.replace(".", "/") + ".py")
    return path if name.split(".")[0] in PACKAGES and path.is_file() else None


def imported(file: Path) -> set[Path]:
    """Project modules that `file` imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {path for path in map(module_file, names) if path}


def imported_with_theirs(file: Path) -> set[Path]:
    found, todo = set(), {file}
    while todo:
        current = todo.pop()
        found.add(current)
        todo |= imported(current) - found
    return found


def entry(stage: str) -> Path:
    """The file that a stage's command runs, started by the guard."""
    command = STAGES[stage]["cmd"]
    match = re.fullmatch(
        r"\$\{run\} (python|accelerate launch .*) -m ([\w.]+)( --blend .*)?", command
    )
    assert match, command
    path = module_file(match[2])
    assert path, command
    return path


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_what_it_imports(stage: str) -> None:
    declared = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    real = {str(path.relative_to(ROOT)) for path in imported_with_theirs(entry(stage)) | {GUARD}}
    assert declared == real


@pytest.mark.parametrize("stage", STAGES)
def test_stage_file_and_section_share_a_name(stage: str) -> None:
    words = stage.split("_")
    assert entry(stage).stem == words[-1]
    section = "data" if stage == "ingest" else stage
    sections = [section] if section in Params.model_fields else []
    assert STAGES[stage].get("params", []) == REPEATED.get(stage, sections)


def test_every_command_is_started_by_the_guard() -> None:
    content = YAML(typ="safe").load(ROOT / "dvc.yaml")
    assert content["vars"] == [{"run": "python -m pipeline.common.guard"}]


@pytest.mark.parametrize("stage", STAGES)
def test_the_launcher_reads_a_configuration_of_the_project_alone(stage: str) -> None:
    section = stage.removeprefix("blend_")
    flags = f"--quiet --config_file {CONFIG} ${{{section}.launch}}"
    launched = (
        "launch" in getattr(Params.model_fields.get(section), "annotation", Params).model_fields
    )
    assert (f"accelerate launch {flags} -m" in STAGES[stage]["cmd"]) == launched
    assert (CONFIG in STAGES[stage]["deps"]) == launched


def test_repeated_stages_do_what_the_one_they_repeat_does() -> None:
    assert {name for name, stage in DECLARED.items() if "foreach" in stage} == set(REPEATED)
    for stage in REPEATED:
        assert DECLARED[stage]["foreach"] == "${blend.models}"
        each, once = STAGES[stage], STAGES[stage.removeprefix("blend_")]
        assert each["cmd"] == f"{once['cmd']} --blend ${{key}}"
        assert len(each["outs"]) == len(once["outs"])
        read = {dep for dep in each["deps"] if not dep.startswith("models/")}
        assert read == {dep for dep in once["deps"] if not dep.startswith("models/")}


def test_blend_comes_after_every_prediction() -> None:
    """A folder among its inputs: DVC then knows the stages whose outputs lie in it."""
    assert "predictions/models" in STAGES["blend"]["deps"]
    for stage in ("predict", "blend_predict"):
        assert all(out.startswith("predictions/models/") for out in STAGES[stage]["outs"])


def test_packages_import_no_further_than_the_design_allows() -> None:
    names = (
        "item_info",
        "launch",
        "outlook",
        "params",
        "paths",
        "files",
        "split",
        "scratch",
        "stage",
    )
    shared = {ROOT / f"pipeline/{name}.py" for name in names}
    for package, foreign in (("embed", {"ctr", "sample"}), ("ctr", {"embed", "sample"})):
        for file in (ROOT / package).glob("*.py"):
            for path in imported(file):
                assert path.parent.name not in foreign, f"{file} imports {path}"
                assert path.parent.name != "pipeline" or path in shared, f"{file} imports {path}"
    for package in ("ctr", "embed", "pipeline", "sample"):
        for file in (ROOT / package).glob("*.py"):
            assert not any(path.parent.name == "gallery" for path in imported(file)), file
    stages = {entry(stage) for stage in STAGES}
    for stage in stages:
        assert imported(stage).isdisjoint(stages), f"{stage} imports a stage"


def test_package_files_hold_no_code_to_depend_on() -> None:
    for package in PACKAGES:
        body = ast.parse((ROOT / package / "__init__.py").read_text()).body
        assert all(isinstance(node, ast.Expr) for node in body)
