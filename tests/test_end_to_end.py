"""What a newcomer does: clone, `make submission`, and the commands that follow from it.

In a fresh clone of the last commit and a fresh virtual environment; minutes, so marked slow.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from sample.world import WorldConfig, build
from sample.write import write_raw

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(sys.base_prefix) / f"bin/python{sys.version_info.major}.{sys.version_info.minor}"

pytestmark = pytest.mark.slow

Finished = subprocess.CompletedProcess[str]


class Clone:
    """A clone and its virtual environment, or another's."""

    def __init__(self, folder: Path, venv: Path | None = None) -> None:
        self.folder = folder
        self.venv = venv or folder / ".venv"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)

    def __call__(self, *command: str, status: int = 0) -> Finished:
        """Run a command as a user with the environment active would."""
        foreign = (str(Path(sys.executable).parent), str(Path(sys.prefix) / "bin"))
        path = [part for part in os.environ["PATH"].split(os.pathsep) if part not in foreign]
        kept = {name: os.environ[name] for name in os.environ if not name.startswith("MAKE")}
        environment = kept | {
            "PATH": os.pathsep.join([str(self.venv / "bin"), *path]),
            "PYTHON": str(PYTHON),
            "PYTHONPATH": "",
        }
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == status, f"{result.stdout}\n{result.stderr}"
        return result

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def metrics(self, name: str) -> dict[str, float]:
        return dict(json.loads(self.read(f"metrics/{name}.json")))

    def change(self, section: str, **values: object) -> None:
        params = self.folder / "params.yaml"
        yaml = YAML()
        content = yaml.load(params)
        content[section].update(values)
        yaml.dump(content, params)

    def changed_stages(self) -> set[str]:
        status = json.loads(self("dvc", "status", "--json").stdout)
        return {stage for stage, changes in status.items() if changes}

    def prediction(self) -> bytes:
        with ZipFile(self.folder / "submissions/task2/prediction.zip") as archive:
            return archive.read("prediction.csv")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("fresh") / "clone")


@pytest.fixture(scope="module")
def report(clone: Clone) -> str:
    """What `make submission` prints."""
    return clone("make", "submission").stdout


@pytest.fixture(scope="module")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another world, small enough for seconds, as a folder in the raw layout."""
    folder = tmp_path_factory.mktemp("source") / "raw"
    config = replace(WorldConfig(), items=120, users=60, train_slates=4)
    write_raw(build(config, seed=11), folder)
    return folder


@pytest.fixture(scope="module")
def small_params(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings with few epochs."""
    yaml = YAML()
    content = yaml.load(clone.folder / "params.yaml")
    content["encoder"].update(epochs=2)
    content["train"].update(epochs=2)
    path = tmp_path_factory.mktemp("params") / "small.yaml"
    yaml.dump(content, path)
    return path


def test_make_submission_gives_a_checked_submission(clone: Clone, report: str) -> None:
    assert "metrics/valid/all.json" in report
    assert "submissions/task2/prediction.zip" in report.splitlines()[-1]
    assert "submissions/task1/item_info.parquet" in report.splitlines()[-2]
    lines = clone.prediction().decode().splitlines()
    assert lines[0] == "ID,Task2"
    ids, probability = zip(*(line.split(",") for line in lines[1:]), strict=True)
    assert list(map(int, ids)) == list(range(6_000))
    assert all(0 < float(value) < 1 for value in probability)


def test_the_sample_is_learned(clone: Clone, report: str) -> None:
    assert report
    metrics = clone.metrics("valid/all")
    # 0.9076 where it was tuned; rounding on another processor moves it by some thousandths.
    assert metrics["oracle_share"] > 0.89
    assert metrics["auc"] > clone.metrics("single_feature/item_mean")["auc"] + 0.03
    assert clone.metrics("train")["auc"] == pytest.approx(metrics["auc"], abs=1e-6)
    curve = pd.read_csv(clone.folder / "plots/train.csv")
    assert curve["auc"].max() == pytest.approx(metrics["auc"], abs=1e-6)


def test_the_judge_reads_task_1(clone: Clone, report: str) -> None:
    assert "metrics/task1.json" in report
    judged, found = clone.metrics("task1"), clone.metrics("embeddings")
    assert judged["auc"] > 0.82  # zeros reach 0.80, principal components 0.83
    assert judged["auc_warm_items"] > judged["auc_cold_items"] > 0.7
    assert found["recall_50"] > 2 * found["recall_50_chance"]
    assert clone.metrics("align")["r2_appeal"] > 0.2


def test_task_1_has_the_organisers_schema(clone: Clone, report: str) -> None:
    assert report
    table = pq.read_table(clone.folder / "submissions/task1/item_info.parquet")
    assert table.schema.names == ["item_id", "item_tags", "item_emb_d128"]
    assert table.schema.field("item_id").type == pa.int64()
    assert table["item_id"].to_pylist() == list(range(2_001))
    tags, vectors = (np.stack(table[name].to_numpy()) for name in table.schema.names[1:])
    assert tags.shape == (2_001, 5)
    assert vectors.shape == (2_001, 128)
    assert not tags[0].any()
    assert not vectors[0].any()
    assert np.isfinite(vectors).all()
    told = clone("python", "-m", "pipeline.item_info").stdout
    assert "2000 items, 128 dimensions" in told


def test_git_sees_no_generated_file(clone: Clone, report: str) -> None:
    assert report
    changed = clone("git", "status", "--porcelain").stdout.split("\n")
    assert {line[3:] for line in changed if line} <= {"dvc.lock"}


def test_a_second_repro_does_nothing(clone: Clone, report: str) -> None:
    assert report
    again = clone("dvc", "repro").stdout
    assert "up to date" in again
    assert "Running stage" not in again


def test_a_setting_reruns_its_stage_and_what_follows_alone(clone: Clone, report: str) -> None:
    assert report
    before = clone.read("params.yaml")
    try:
        clone.change("train", learning_rate=0.003)
        assert clone.changed_stages() == {"train"}
        (clone.folder / "params.yaml").write_bytes(before)
        clone.change("embed_image", model="ViT-B-32", pretrained="laion2b_s34b_b79k")
        assert clone.changed_stages() == {"embed_image"}
    finally:
        (clone.folder / "params.yaml").write_bytes(before)
    assert clone.changed_stages() == set()


def test_a_faulty_setting_costs_nothing(clone: Clone, report: str) -> None:
    assert report
    before = clone.read("params.yaml")
    outputs = ("models/qin.safetensors", "metrics/train.json", "plots/train.csv")
    earlier = [clone.read(path) for path in outputs]
    try:
        clone.change("train", learning_rate=-1.0)
        failed = clone("dvc", "repro", status=255)
        assert "train.learning_rate: " in failed.stderr
        assert "Traceback" not in failed.stderr
    finally:
        (clone.folder / "params.yaml").write_bytes(before)
    assert [clone.read(path) for path in outputs] == earlier
    assert clone.changed_stages() == set()


def test_another_source_leaves_params_and_gives_the_same_bytes_twice(
    clone: Clone, report: str, small_source: Path, small_params: Path, tmp_path: Path
) -> None:
    assert report
    before = clone.read("params.yaml")
    options = (f"SOURCE={small_source}", f"PARAMS={small_params}")
    clone("make", "submission", *options)
    assert clone.read("params.yaml") == before
    assert len(clone.prediction().splitlines()) == 1 + 120
    assert "oracle_auc" not in clone.metrics("valid/all")

    other = Clone(tmp_path / "other", clone.venv)
    (other.folder / "params.yaml").write_bytes(small_params.read_bytes())
    other.change("data", source=str(small_source))
    other("dvc", "repro", "predict")
    for path in (
        "submissions/task1/item_info.parquet",
        "models/qin.safetensors",
        "predictions/test.parquet",
    ):
        assert other.read(path) == clone.read(path)


def test_the_bare_launch_works(clone: Clone, report: str, small_params: Path) -> None:
    """On the data at hand: the small source's, if the test before has run."""
    assert report
    before = clone.read("params.yaml")
    try:
        (clone.folder / "params.yaml").write_bytes(small_params.read_bytes())
        assert "epoch   2" in clone("accelerate", "launch", "ctr/train.py").stdout
    finally:
        (clone.folder / "params.yaml").write_bytes(before)


def test_going_back_to_the_sample_takes_its_results_from_the_cache(
    clone: Clone, report: str
) -> None:
    assert report
    back = clone("dvc", "repro").stdout
    assert "epoch " not in back
    assert len(clone.prediction().splitlines()) == 1 + 6_000
