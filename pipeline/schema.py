"""What flows between the stages: file names, dtypes, and how an output is written.

Row i of every item-indexed array is item i; row 0 is padding. Every array has its shape, dtype and
provenance in a JSON file beside it. Outputs appear whole or not at all: they are written under a
temporary name and renamed.
"""

import errno
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

LEVELS = 11
"""`likes_level` and `views_level` run from 0 to 10."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CUT_SHORT = "requested and"
"""What numpy says instead: `100 requested and 60 written`."""

SHOWN_NAMES = 8
"""Of files, that an error shows."""

SPLITS = ("train", "valid", "test")

MAIN_MODEL = "train"
"""The ranking model of section `train`; the others have their names in `blend.models`."""
MODEL_NAME = re.compile(r"[a-z][a-z0-9_]*")

# ingest
ITEMS = Path("data/items.parquet")
COVERS = Path("data/covers.parquet")
TAGS = Path("data/tags.npy")
GIVEN_TEXT = Path("data/given_text.npy")
GIVEN_IMAGE = Path("data/given_image.npy")
GIVEN_ITEM = Path("data/given_item.npy")
GIVEN_ITEM_EMB = Path("data/given_item_emb.npy")
TEST_ID = Path("data/test_id.npy")
STATS = Path("data/stats.json")
# embed
ENCODER = Path("models/encoder")
TEXT = Path("embeddings/text.npy")
TEXT_PRESENT = Path("embeddings/text_present.npy")
IMAGE = Path("embeddings/image.npy")
IMAGE_PRESENT = Path("embeddings/image_present.npy")
VLM = Path("embeddings/vlm.npy")
VLM_PRESENT = Path("embeddings/vlm_present.npy")
ALIGNED = Path("embeddings/aligned.npy")
ITEM = Path("embeddings/item.npy")
TASK1_METRICS = Path("metrics/task1.json")
EXPLAINED_VARIANCE = Path("plots/explained_variance.csv")
ITEM_INFO = Path("submissions/task1/item_info.parquet")
NEIGHBORS = Path("embeddings/neighbors.npz")
# ctr
MODEL = Path("models/ctr.safetensors")
MODEL_CONFIG = Path("models/ctr.json")
TRAIN_CURVE = Path("plots/train.csv")
BLEND_METRICS = Path("metrics/blend.json")
# evaluate and submit
ROC = Path("plots/roc.csv")
CALIBRATION = Path("plots/calibration.csv")
SCORES = Path("plots/scores.csv")
AUC_BY_HISTORY = Path("plots/auc_by_history.csv")
AUC_BY_POPULARITY = Path("plots/auc_by_popularity.csv")
SUMMARY = Path("metrics/summary.json")
SUBMISSION = Path("submissions/task2/prediction.zip")
ENVIRONMENT = Path("metrics/environment.json")
# report
REPORT = Path("report/index.html")


def split_path(split: str) -> Path:
    return Path(f"data/{split}.npy")


@dataclass(frozen=True)
class ModelFiles:
    """What the training of a ranking model writes."""

    weights: Path
    config: Path
    curve: Path
    metrics: Path


def model_files(model: str) -> ModelFiles:
    """Of `train`'s own model, or of one that `blend.models` names."""
    if model == MAIN_MODEL:
        return ModelFiles(MODEL, MODEL_CONFIG, TRAIN_CURVE, metrics_path("train"))
    return ModelFiles(
        Path(f"models/blend/{model}.safetensors"),
        Path(f"models/blend/{model}.json"),
        Path(f"plots/blend/{model}.csv"),
        Path(f"metrics/blend/{model}.json"),
    )


def logits_path(model: str, split: str) -> Path:
    return Path(f"predictions/models/{model}/{split}.parquet")


def predictions_path(split: str) -> Path:
    return Path(f"predictions/{split}.parquet")


def valid_metrics_path(group: str) -> Path:
    """The metrics of one group of valid's rows: `all`, `cold_items`, ..."""
    return Path(f"metrics/valid/{group}.json")


def baseline_metrics_path(feature: str) -> Path:
    """The metrics of ranking valid by one feature: `item_mean`, `user_mean`, ..."""
    return Path(f"metrics/single_feature/{feature}.json")


def metrics_path(stage: str) -> Path:
    return Path(f"metrics/{stage}.json")


class InputError(Exception):
    """Something the user gave is wrong. The message says where, what was found, and what to do."""


def some_of(names: Collection[str]) -> str:
    """The first of `names` in their order, and how many more there are: for an error."""
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(sorted(names)[:SHOWN_NAMES]) + more if names else "nothing"


@dataclass(frozen=True)
class Split:
    """One split of the click log: an int32 matrix (n, L + 5), usually memory-mapped.

    Item and user ids are dense (1..N, 0 is padding). `history` is padded on the left, the most
    recent item last. `label` is 0 or 1, and -1 throughout a split without labels.
    """

    rows: np.ndarray

    TAIL = ("target", "likes_level", "views_level", "label", "user")
    """The columns after the history, in order."""

    @staticmethod
    def load(split: str) -> "Split":
        return Split(read_array(split_path(split)))

    @property
    def history(self) -> np.ndarray:
        return self.rows[:, : -len(self.TAIL)]

    def column(self, name: str) -> np.ndarray:
        return self.rows[:, self.TAIL.index(name) - len(self.TAIL)]

    @property
    def target(self) -> np.ndarray:
        return self.column("target")

    @property
    def label(self) -> np.ndarray:
        return self.column("label")

    @property
    def user(self) -> np.ndarray:
        return self.column("user")

    def __len__(self) -> int:
        return len(self.rows)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved over it when the block ends well, else removed.

    Raises InputError naming `path` where the disk is full, which the system's error does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename is None and (error.errno in DISK_FULL or CUT_SHORT in str(error)):
            raise InputError(f"{path}: could not be written: {error}; free some space") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


class Outputs(ExitStack):
    """Outputs that appear together when the `with` block ends well, or not at all."""

    def path(self, path: Path) -> Path:
        """A temporary name to write to now, which becomes `path` at the end."""
        return self.enter_context(replacing(path))

    def json(self, path: Path, content: Mapping[str, Any]) -> None:
        """`content` with sorted keys; NaN and infinity are refused, since JSON has neither."""
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        self.path(path).write_text(text + "\n", encoding="utf-8")

    def array(self, path: Path, array: np.ndarray, **provenance: Any) -> None:
        """`array` as .npy, and its shape, dtype and `provenance` as JSON beside it."""
        with self.path(path).open("wb") as file:
            np.save(file, array, allow_pickle=False)
        self.array_info(path, array, **provenance)

    def array_info(self, path: Path, array: np.ndarray, **provenance: Any) -> None:
        content = {"shape": array.shape, "dtype": str(array.dtype), **provenance}
        self.json(array_info(path), content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with Outputs() as outputs:
        outputs.json(path, content)


def write_array(path: Path, array: np.ndarray, **provenance: Any) -> None:
    with Outputs() as outputs:
        outputs.array(path, array, **provenance)


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def array_info(path: Path) -> Path:
    """The JSON file that describes the array at `path`."""
    return path.with_name(path.name + ".json")


def read_array(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """The array at `path`, memory-mapped: read-only, or `c` where changes stay in memory.

    Raises InputError if it is no array of numbers.
    """
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path}: not an array of numbers: {error}; run `dvc repro`") from None


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of `packages`, for an array's provenance."""
    return {package: version(package) for package in packages}
