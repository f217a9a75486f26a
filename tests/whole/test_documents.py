"""What the documents tell to type is typed, in a clone that has run the small source."""

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import HashingVectorizer

from tests.support.clone import HERE, Clone
from tests.support.code.documents import (
    ROOT,
    blocks,
    broken_links,
    commands,
    folders_of_code,
    folders_told,
)
from tests.support.references.run import ReferenceRun

DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md"),
    *(f"docs/{path.name}" for path in sorted(ROOT.glob("docs/*.md"))),
)
EVERY_DOCUMENT = sorted(
    str(path.relative_to(ROOT)) for names in ("*.md", "[!.]*/*.md") for path in ROOT.glob(names)
)
"""Those beside the code, too."""
RUN_ELSEWHERE = {
    "make submission": "tests/support/fresh/runs.py",
    "make submission SOURCE=<folder>": (
        "tests/support/fresh/runs.py in `make trust`; its options in tests/whole/test_makefile.py"
    ),
    **{
        f"make submission PARAMS=recipes/microlens_1m{which}.yaml": (
            "PARAMS in tests/support/fresh/runs.py, the recipe in "
            "tests/pipeline/settings/test_recipes.py; the whole downloads gigabytes"
        )
        for which in ("", "_published")
    },
    "make test": "what runs this",
    "make check": "its parts in tests/whole/test_changed.py and `make test`",
    "make lint types unit": "parts of `make test`",
    "python -m serving.rank --history 12,7,99 --top 10 --why": "tests/serving/test_rank.py",
    "python -m serving.export --to scoring.pt2": "tests/serving/test_export.py",
    "python -m serving.service": "tests/serving/service/test_main.py",
    **{
        "accelerate-launch --num_processes 16 --multi_gpu --num_machines 2 "
        "--machine_rank <0 or 1> --main_process_ip <address of machine 0> "
        f"--main_process_port 29500 {stage}.py": f"several processes of one machine in {test}"
        for stage, test in (
            ("ctr/train", "tests/ctr/engine/test_launch.py"),
            ("embed/image", "tests/embed/extraction/test_resume.py"),
        )
    },
}
"""Commands that other tests run, or that run the tests themselves."""
START = "dvc queue start"
LONG = (START, "dvc exp run -S train.learning_rate=0.001")
"""In the long form alone; in the short form another experiment runs."""
MODELS = "dvc exp run -S '+models.seed_7.seed=7' -S '+models.rows_3.rows=3'"
SHOW = "dvc exp show --only-changed --no-pager --drop '.*/.*|models$|Created|State|Executor'"
HERE_RUN = [
    "dvc repro",
    "accelerate-launch ctr/train.py",
    "dvc metrics show",
    "dvc metrics diff",
    "dvc plots show",
    "dvc dag",
    'git commit --all --message "first run"',
    "dvc exp run --queue -S 'train.rows=3,4'",
    *LONG,
    MODELS,
    SHOW,
    "pytest tests/ctr -q",
    "pre-commit install",
]
QUICKLY = {"pytest tests/ctr -q": "pytest tests/ctr/evaluation/test_metrics.py -q"}
"""In their place, a part."""
PATIENCE = 300
"""Seconds for the queue."""


def test_every_command_is_run_by_a_test() -> None:
    told = [command for document in DOCUMENTS for command in commands(document)]
    assert set(told) == {*RUN_ELSEWHERE, *HERE_RUN}


@pytest.mark.parametrize("document", EVERY_DOCUMENT)
def test_what_a_document_links_to_is_there(document: str) -> None:
    assert broken_links(document) == []


def test_every_folder_of_code_is_told_of_once() -> None:
    assert sorted(folders_told("CONTRIBUTING.md")) == sorted(folders_of_code())


@pytest.mark.parametrize("patch", blocks("CONTRIBUTING.md", "diff"), ids=["encoder", "feature"])
def test_a_patch_fits_the_code(patch: str) -> None:
    subprocess.run(["git", "apply", "--check"], cwd=ROOT, input=patch, text=True, check=True)


@pytest.fixture(scope="module")
def clone(
    small_run: ReferenceRun, forking: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Clone:
    """A clone in which all is up to date and committed, with the reference's cache."""
    clone = Clone(tmp_path_factory.mktemp("documents") / "clone", HERE)
    clone.environment |= forking
    for name in ("params.yaml", "dvc.lock"):
        (clone.folder / name).write_bytes(small_run.clone.read(name))
    clone("dvc", "config", "cache.dir", str(small_run.clone.folder / ".dvc/cache"))
    clone("dvc", "checkout", "--quiet", "--force")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    clone("git", *identity, "commit", "--quiet", "--all", "--message", "small")
    clone.environment |= {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    clone.environment |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    del clone.environment["PYTHONPATH"]  # queued experiments run in another copy
    return clone


@pytest.mark.slow
def test_the_commands_do_what_is_said(clone: Clone, long: bool) -> None:
    printed = {}
    settings = clone.folder / "params.yaml"
    settings.write_text(settings.read_text() + "\n")  # or there would be nothing to commit
    for command in HERE_RUN:
        if command in LONG and not long:
            continue
        printed[command] = run(clone, command)
        if command == START:
            wait_for_queue(clone)
    assert "up to date" in printed["dvc repro"]
    trained = printed["accelerate-launch ctr/train.py"]
    assert "\nepoch   2" in trained
    assert "\nepoch   3" not in trained
    assert "metrics/summary.json" in printed["dvc metrics show"]
    assert "| train@main |" in printed["dvc dag"]
    table = printed[SHOW]
    assert table.count("├──") + table.count("└──") == (4 if long else 3)  # two of the queue
    assert "auc" in table
    assert ".dir" not in table  # a digest of no use to a reader
    assert "Running stage 'train@seed_7'" in printed[MODELS]
    assert "Running stage 'embed_text@main'" not in printed[MODELS]
    assert set(json.loads(clone.read("metrics/blend.json"))["model_auc"]) == {
        *("main", "trees", "seed_7", "rows_3")
    }
    plots = (clone.folder / "dvc_plots/index.html").read_text()
    assert plots.count("vegaEmbed(") == 8


def run(clone: Clone, command: str) -> str:
    finished = clone(*shlex.split(QUICKLY.get(command, command)))
    return finished.stdout + finished.stderr


def wait_for_queue(clone: Clone) -> None:
    end = time.monotonic() + PATIENCE
    while re.search(r"Queued|Running", status := run(clone, "dvc queue status")):
        assert time.monotonic() < end, status
        time.sleep(1)
    assert status.count("Success") == 2, status


@pytest.mark.slow
def test_going_back_takes_the_results_from_the_cache(clone: Clone) -> None:
    """And a bare launch does not train on a source that is not the one in the settings."""
    clone("git", "checkout", "--quiet", ".")
    clone("dvc", "checkout", "--quiet", "--force")
    settings = clone.read("params.yaml")
    try:
        clone.change("train", rows=1)
        assert "\nepoch   2" in clone("dvc", "repro", "train@main").stdout
        trained = clone.read("models/main/model.safetensors")
        (clone.folder / "params.yaml").write_bytes(settings)
        clone("dvc", "repro", "train@main")
        assert clone.read("models/main/model.safetensors") != trained
        clone.change("train", rows=1)
        assert "\nepoch " not in clone("dvc", "repro", "train@main").stdout
        clone.change("data", source="sample")
        refused = clone("accelerate-launch", "ctr/train.py", status=1)
        assert "params.yaml says data.source: sample. Type `dvc repro train@main`" in refused.stderr
        assert clone.read("models/main/model.safetensors") == trained
    finally:
        (clone.folder / "params.yaml").write_bytes(settings)


@pytest.fixture
def patched(clone: Clone, request: pytest.FixtureRequest) -> Iterator[Clone]:
    """The clone with the patch of CONTRIBUTING that has the number asked for."""
    clone("git", "checkout", "--quiet", ".")
    clone("dvc", "checkout", "--quiet", "--force")
    patch = clone.folder / "patch.diff"
    patch.write_text(blocks("CONTRIBUTING.md", "diff")[request.param])
    clone("git", "apply", str(patch))
    clone.environment["PYTHONPATH"] = str(clone.folder)
    yield clone
    del clone.environment["PYTHONPATH"]
    clone("git", "checkout", "--quiet", ".")


@pytest.mark.slow
@pytest.mark.parametrize("patched", [0], indirect=True)
def test_the_encoder_gives_the_librarys_own_vectors(patched: Clone) -> None:
    patched.change("embed_text", library="hashing")
    patched("python", "-m", "embed.text")
    titles = pq.read_table(patched.folder / "data/items.parquet")["title"].to_pylist()
    expected = HashingVectorizer(n_features=256, dtype=np.float32).transform(titles).toarray()
    found = np.load(patched.folder / "embeddings/text/main/vectors.npy")
    assert found.any()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("patched", [1], indirect=True)
def test_the_feature_is_trained_and_read(patched: Clone) -> None:
    patched("python", "-m", "ctr.train")
    assert "length.weight" in load_file(patched.folder / "models/main/model.safetensors")
    patched("python", "-m", "ctr.predict")
    auc = patched.metrics("train/main")["auc"]
    assert 0 < auc < 1
