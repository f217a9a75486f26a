"""The house as it is meant to be: `dvc.yaml` against the code, folders against each other."""

import ast
import re
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from ctr.engine.identity import CODE as CODE_OF_A_RESULT
from pipeline.common.scratch import files_of
from pipeline.settings.ctr.judge import Judge
from pipeline.settings.ctr.train import Train
from pipeline.settings.ctr.training import Training
from pipeline.settings.params import Params
from tests.support.code.graph import covers, graph
from tests.support.code.imports import (
    CODE,
    LATE,
    ROOT,
    STAGE_PACKAGES,
    arrows,
    imported,
    imported_with_theirs,
    python_files,
)

STAGES: dict[str, dict[str, Any]] = graph()
GUARD = "pipeline/common/guard.py"
CONFIG = "pipeline/accelerate.yaml"
DEAR = ("encoder", "embed_text", "embed_image", "embed_vlm", "train", "judge")
"""Stages of hours at the challenge's size: no edit of what they do not import may repeat them."""

MAY_IMPORT = {
    "pipeline/common": "",
    "pipeline/tables": "pipeline/common",
    "pipeline/settings/ctr": "pipeline/common",
    "pipeline/settings/embed": "pipeline/common",
    "pipeline/settings": "pipeline/common pipeline/settings/ctr pipeline/settings/embed",
    "sample": "pipeline/common pipeline/tables",
    "pipeline/download": "pipeline/common",
    "pipeline/raw": "pipeline/common pipeline/download pipeline/tables",
    "pipeline/console": "pipeline/common pipeline/settings pipeline/tables",
    "pipeline": (
        "pipeline/common pipeline/console pipeline/download pipeline/raw pipeline/settings "
        "pipeline/tables sample"
    ),
    "embed/extraction": "pipeline/common",
    "embed/covers": "embed/extraction",
    "embed/encoders": "embed/covers embed/extraction pipeline/common pipeline/settings/embed",
    "embed/encoders/image": (
        "embed/covers embed/encoders embed/extraction pipeline/common pipeline/settings/embed"
    ),
    "embed/encoders/text": (
        "embed/encoders embed/extraction pipeline/common pipeline/settings/embed"
    ),
    "embed/vectors": "pipeline/common pipeline/settings/embed pipeline/tables",
    "embed": (
        "embed/covers embed/encoders embed/encoders/image embed/encoders/text embed/extraction "
        "embed/vectors "
        "pipeline/common pipeline/settings/embed pipeline/tables"
    ),
    "ctr/evaluation": "pipeline/tables",
    "ctr/models": "pipeline/common pipeline/settings/ctr pipeline/tables",
    "ctr/engine": (
        "ctr/evaluation ctr/models pipeline/common pipeline/settings/ctr pipeline/tables"
    ),
    "ctr/boosting": ("ctr/engine ctr/models pipeline/common pipeline/settings/ctr pipeline/tables"),
    "ctr/covisitation": "pipeline/settings/ctr pipeline/tables",
    "ctr/task1": "ctr/models pipeline/common pipeline/tables",
    "ctr": (
        "ctr/boosting ctr/covisitation ctr/engine ctr/evaluation ctr/models ctr/task1 "
        "pipeline/common pipeline/settings/ctr pipeline/tables"
    ),
    "gallery/pictures": "embed/covers embed/vectors pipeline/common pipeline/settings",
    "gallery/page": (
        "ctr/boosting ctr/engine ctr/models gallery/pictures pipeline/common "
        "pipeline/settings/ctr pipeline/tables"
    ),
    "gallery": "gallery/page gallery/pictures pipeline/common pipeline/settings pipeline/tables",
    "serving": (
        "ctr/boosting ctr/covisitation ctr/models pipeline/common pipeline/raw "
        "pipeline/settings/ctr pipeline/tables"
    ),
    "serving/service": "pipeline/common pipeline/tables serving",
}
"""Folder to the folders that it may import from, each after all that it may use. `benchmarks` may
import everything, and nothing imports it."""

MOST_ENTRIES, MOST_LINES, LONGEST_GRAPH = 12, 300, 300


TRAINED = f"accelerate-launch --quiet --config_file {CONFIG} --num_processes 1"
"""How `train` is started, as people expect to see it; others by the launcher only where there are
several processes."""


def entry(stage: str) -> str:
    """The file that a stage's command runs, started by the guard."""
    match = re.fullmatch(
        rf"python -m pipeline\.common\.guard (python|--launch --num_processes 1|{TRAINED}) "
        r"-m ([\w.]+)( --model main)?",
        STAGES[stage]["cmd"],
    )
    assert match, STAGES[stage]["cmd"]
    return f"{match[2].replace('.', '/')}.py"


def code_dependencies(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] in STAGE_PACKAGES]


def files_in(path: str) -> set[str]:
    return {path} if path.endswith(".py") else set(python_files(path))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_that_it_imports(stage: str) -> None:
    declared = code_dependencies(stage)
    for file in imported_with_theirs(entry(stage)) | {GUARD}:
        assert any(covers(dep, file) for dep in declared), f"{file} is no dependency of {stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_import(stage: str) -> None:
    used = imported_with_theirs(entry(stage)) | {GUARD, CONFIG}
    for dep in code_dependencies(stage):
        assert any(covers(dep, file) for file in used), f"{stage} imports nothing of {dep}"


@pytest.mark.parametrize("stage", DEAR)
def test_a_dear_stage_depends_on_exactly_what_it_imports(stage: str) -> None:
    used = imported_with_theirs(entry(stage)) | {GUARD, CONFIG}
    declared = {file for dep in code_dependencies(stage) for file in files_in(dep)}
    assert declared | {CONFIG} == used


@pytest.mark.parametrize(("stage", "settings"), [("train", Train), ("judge", Judge)])
def test_a_checkpoint_is_of_all_the_code_that_its_stage_imports(
    stage: str, settings: type[Training]
) -> None:
    told = (*CODE_OF_A_RESULT, *files_of(settings))
    for file in imported_with_theirs(entry(stage)):
        assert any(covers(path, file) for path in told), file


def test_what_is_imported_late_is_imported_late() -> None:
    file, settings = LATE
    module = settings.removesuffix(".py").replace("/", ".")
    tree = ast.parse((ROOT / file).read_text())
    found = [node for node in ast.walk(tree) if getattr(node, "module", None) == module]
    assert found
    assert not set(found) & set(tree.body)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_file_and_section_share_a_name(stage: str) -> None:
    assert Path(entry(stage)).stem == stage.split("_")[-1]
    section = "data" if stage == "ingest" else stage
    encoders = ["image_encoders", "text_encoders"]
    more = {
        "train": ["models.main"],
        "blend": ["models"],
        "embed_text": ["text_encoders.main"],
        "embed_image": ["image_encoders.main"],
        "align": encoders,
        "fuse": encoders,
        "report": encoders,
    }.get(stage, [])
    sections = [section] if section in Params.model_fields else []
    assert STAGES[stage].get("params", []) == sections + more


@pytest.mark.parametrize("stage", STAGES)
def test_the_launcher_reads_a_configuration_of_the_project_alone(stage: str) -> None:
    launched = (
        "launch" in getattr(Params.model_fields.get(stage), "annotation", Params).model_fields
    )
    ways = ("guard --launch ", f"guard {TRAINED} ")
    assert any(way in STAGES[stage]["cmd"] for way in ways) == launched
    assert (CONFIG in STAGES[stage]["deps"]) == launched


def test_what_is_done_for_one_model_or_encoder_is_done_for_each() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert re.findall(r"  (\w+):\n    foreach: (.*)", text) == [
        ("embed_text", "${text_encoders}"),
        ("embed_image", "${image_encoders}"),
        ("train", "${models}"),
        ("predict", "${models}"),
    ]


def test_blend_comes_after_every_prediction() -> None:
    """A folder among its inputs: DVC then knows the stages whose outputs lie in it."""
    assert "predictions/models" in STAGES["blend"]["deps"]
    assert STAGES["predict"]["outs"] == ["predictions/models/main"]


def test_folders_import_no_further_than_the_design_allows() -> None:
    allowed = {(folder, other) for folder, others in MAY_IMPORT.items() for other in others.split()}
    found = arrows(*STAGE_PACKAGES)
    print("\n".join(f"{folder} -> {other}" for folder, other in sorted(found)))
    assert found == allowed


def test_no_import_runs_in_a_circle_or_back_up() -> None:
    table = {folder: others.split() for folder, others in MAY_IMPORT.items()}
    order = list(TopologicalSorter(table).static_order())  # raises where there is a circle
    print(" < ".join(order))
    places = list(MAY_IMPORT)
    for folder, others in table.items():
        assert all(places.index(other) < places.index(folder) for other in others), folder
    late, settings = LATE
    files = {
        file: imported(file) - ({settings} if file == late else set())
        for file in python_files(*CODE)
    }
    list(TopologicalSorter(files).static_order())


def test_stages_import_no_stage_and_nothing_imports_the_benchmarks() -> None:
    stages = {entry(stage) for stage in STAGES}
    for stage in stages:
        assert imported(stage).isdisjoint(stages), stage
    for file in python_files(*STAGE_PACKAGES):
        assert not any(path.startswith("benchmarks") for path in imported(file)), file


def test_package_files_hold_no_code_to_depend_on() -> None:
    for package in CODE:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr) for node in body), path


def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for path in listing.stdout.splitlines() if (ROOT / path).is_file()]


def test_folders_and_files_can_be_taken_in() -> None:
    paths = tracked()
    entries: dict[str, set[str]] = {}
    for path in paths:
        parts = path.split("/")
        if parts[0] in (*CODE, "tests") and parts[-1] not in ("__init__.py", "conftest.py"):
            for depth in range(1, len(parts)):
                entries.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    crowded = {folder: len(names) for folder, names in entries.items() if len(names) > MOST_ENTRIES}
    assert crowded == {}
    lines = {path: (ROOT / path).read_text().count("\n") for path in paths if path.endswith(".py")}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
    assert (ROOT / "dvc.yaml").read_text().count("\n") <= LONGEST_GRAPH


def prose(path: str) -> Iterator[str]:
    """What is written for people in a file: all of a document, docstrings and comments of code."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if not path.endswith(".py"):
        yield text
        return
    yield from re.findall(r"#.*", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


PATHS = re.compile(
    r"(?<![\w/.])((?:" + "|".join((*CODE, "tests")) + r")/[\w/]+\.(?:py|md|json|yaml))"
)
MODULES = re.compile(r"python -m ((?:" + "|".join((*CODE, "tests")) + r")[.\w]*)")


def module_file(name: str) -> str:
    """What `python -m` of it runs."""
    path = name.replace(".", "/")
    return f"{path}/__main__.py" if (ROOT / path).is_dir() else f"{path}.py"


def test_prose_names_no_code_that_is_not_there() -> None:
    missing = []
    for path in tracked():
        if not path.endswith((".py", ".md", ".yaml", ".toml", "Makefile")):
            continue
        for text in prose(path):
            named = [*PATHS.findall(text)]
            named += [module_file(name.rstrip(".")) for name in MODULES.findall(text)]
            missing += [f"{path}: {name}" for name in named if not (ROOT / name).exists()]
    assert missing == []
