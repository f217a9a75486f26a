"""The whole pipeline at the challenge's size: what each stage takes, and how well it ranks.

Writes the sample's world with 91,717 items with covers, 11,740 tags and 3.6 million rows of train,
of which the true click probabilities are known, and runs every stage of dvc.yaml on it, by its own
command in a process of its own: seconds, CPU seconds, the most memory that all its processes had
together (`anonymous` of `support/stages.py`), and what it leaves on disk. On a GPU where there is
one. The folder stays, with a log of each stage; `--resume` goes on with the stage that it ended at.

    python -m benchmarks.full_size [--settings small|recipe|published] [--epochs 3]
        [--upto align] [--folder scratch/full_size [--resume]] [--json PATH]

`small` are the settings of params.yaml, with batches of QIN for so many rows; `recipe` and
`published` those of recipes/microlens_1m.yaml and its published form, with the small encoder in
place of those that the hub has. Linux only (/proc).
"""

import argparse
import sys
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from benchmarks.growth.full_world import ORACLE, RAW, SIZES, add_sizes
from benchmarks.growth.stand_in import ROOT, Stage, set_up, stages
from benchmarks.support.stages import module, watched
from pipeline.common.files import read_json, write_json
from pipeline.common.outlook import available_cores
from pipeline.common.paths import PARAMS, valid_metrics_path
from pipeline.settings.params import Params, load_params

SETTINGS = {
    "small": PARAMS,
    "recipe": Path("recipes/microlens_1m.yaml"),
    "published": Path("recipes/microlens_1m_published.yaml"),
}
OFFLINE = ("encoder", "text_encoders", "embed_text", "image_encoders", "embed_image", "embed_vlm")
"""Sections of what the hub would be asked for: of params.yaml whatever the settings."""
BATCHES = {"batch_size": 8192, "learning_rate": 0.006}
"""In `small`, of QIN: eight times the sample's, at twice its rate, for 25 times its rows."""
ENCODER_EPOCHS = 1
"""Over more (title, cover) pairs than all epochs of the sample together."""
FIGURES = "figures.json"
WORLD = "world"


def main() -> None:
    parser = argparse.ArgumentParser(description="The pipeline at the challenge's size.")
    parser.add_argument("--settings", choices=tuple(SETTINGS), default="small")
    parser.add_argument("--epochs", type=int, help="of each ranking model, at most")
    parser.add_argument(
        "--upto", metavar="STAGE", help="the last stage to run; all of them without"
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "scratch/full_size")
    parser.add_argument("--resume", action="store_true", help="go on in the folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    add_sizes(parser)
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    if folder.exists() and not asked.resume:
        sys.exit(f"error: {folder} is there already; --resume goes on in it, or remove it")
    of_the_run = {name: getattr(asked, name) for name in ("settings", "epochs", *SIZES)}
    refuse_another_run(folder, of_the_run)
    set_up(folder, settings_of(asked.settings, asked.epochs).model_dump())
    sizes = [f"--{name}={getattr(asked, name)}" for name in SIZES]
    world = Stage(WORLD, [*module("benchmarks.growth.full_world"), *sizes], [folder / RAW])
    todo = [world, *stages(folder)]
    names = [stage.name for stage in todo]
    if asked.upto is not None and asked.upto not in names:
        sys.exit(f"error: --upto {asked.upto} is no stage; expected one of {', '.join(names)}")
    file = asked.json.absolute() if asked.json else None
    todo = todo[: names.index(asked.upto) + 1 if asked.upto else None]
    figures = measured(todo, folder, of_the_run)
    if "quality" in figures:
        print(f"\n{quality(figures)}")
    if file is not None:
        write_json(file, figures)


def settings_of(name: str, epochs: int | None) -> Params:
    """Those called `name`, for the world in RAW, without the hub."""
    small = load_params(ROOT / PARAMS).model_dump()
    content = load_params(ROOT / SETTINGS[name]).model_dump()
    content |= {section: small[section] for section in OFFLINE}
    content["data"]["source"] = str(RAW)
    content["encoder"]["epochs"] = ENCODER_EPOCHS
    if name == "small":
        content["train"] |= BATCHES
    if epochs is not None:
        content["train"]["epochs"] = epochs
    return Params.model_validate(content)


def refuse_another_run(folder: Path, of_the_run: Mapping[str, Any]) -> None:
    """Stages of other settings are no part of this run."""
    kept = folder / FIGURES
    found = read_json(kept)["run"] if kept.exists() else of_the_run
    for name, value in of_the_run.items():
        if found[name] != value:
            sys.exit(
                f"error: {folder} holds a run with --{name} {found[name]}, not {value}; "
                "go on with the same, or name another --folder"
            )


def measured(todo: list[Stage], folder: Path, of_the_run: Mapping[str, Any]) -> dict[str, Any]:
    """Run what has not run yet; figures are kept in the folder as they come."""
    kept = folder / FIGURES
    figures: dict[str, Any] = read_json(kept) if kept.exists() else {"stages": {}}
    figures |= {"run": of_the_run, "cores": available_cores()}
    print(line("", ("seconds", "CPU s", "MB", "MB on disk")))
    for stage in todo:
        if stage.name not in figures["stages"]:
            figures["stages"][stage.name] = ran(stage, folder)
            write_json(kept, figures)
        print(stage_line(stage.name, figures["stages"][stage.name]), flush=True)
    scored = folder / valid_metrics_path("all")
    if "evaluate" in figures["stages"]:
        figures["quality"] = {
            "auc": read_json(scored)["auc"],
            "oracle": read_json(folder / ORACLE)["auc"],
        }
    return figures


def ran(stage: Stage, folder: Path) -> dict[str, float]:
    log = folder / f"logs/{stage.name}.txt"
    log.parent.mkdir(exist_ok=True)
    with chdir(folder), log.open("w", encoding="utf-8") as output:
        try:
            peak = watched(stage.command, output, on_cpu=False)
        except CalledProcessError as error:
            sys.exit(f"error: {stage.name} failed with exit code {error.returncode}: see {log}")
    return asdict(peak) | {"bytes": stage.bytes}


def stage_line(name: str, found: Mapping[str, float]) -> str:
    cells = found["seconds"], found["cpu"], found["anonymous"] / 1e6, found["bytes"] / 1e6
    return line(name, tuple(f"{cell:,.0f}" for cell in cells))


def line(name: str, cells: tuple[str, ...]) -> str:
    return f"{name:20}" + "".join(f"{cell:>12}" for cell in cells)


def quality(figures: Mapping[str, Any]) -> str:
    auc, oracle = figures["quality"]["auc"], figures["quality"]["oracle"]
    share = (auc - 0.5) / (oracle - 0.5)
    return f"AUC on valid {auc:.4f}, of the truth {oracle:.4f}: {100 * share:.1f} % known"


if __name__ == "__main__":
    main()
