"""Where each output lies: the names that stages agree on."""

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

PARAMS = Path("params.yaml")

SPLITS = ("train", "valid", "test")

MAIN_MODEL = "main"
"""The ranking model of section `models` that is trained where none is named, and reported on; also
the encoder of titles and the one of covers that are named so in their sections."""
MODEL_NAME = re.compile(r"[a-z][a-z0-9_]*")

Modality = Literal["text", "image"]


@dataclass(frozen=True)
class VectorFiles:
    """What an encoder makes of the items."""

    vectors: Path
    present: Path


def encoder_files(modality: Modality, encoder: str) -> VectorFiles:
    """Of an encoder of section `text_encoders` or `image_encoders`."""
    folder = Path(f"embeddings/{modality}/{encoder}")
    return VectorFiles(folder / "vectors.npy", folder / "present.npy")


# the source
CLICKS = "MicroLens_1M_x1"
"""The raw layout's folder of splits."""
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
TEXT, TEXT_PRESENT = astuple(encoder_files("text", MAIN_MODEL))
IMAGE, IMAGE_PRESENT = astuple(encoder_files("image", MAIN_MODEL))
VLM = Path("embeddings/vlm/vectors.npy")
VLM_PRESENT = Path("embeddings/vlm/present.npy")
ALIGNED = Path("embeddings/aligned/vectors.npy")
LEARNED = Path("embeddings/aligned/learned.npy")
ITEM = Path("embeddings/item/vectors.npy")
TASK1_ITEM = Path("embeddings/item/task1.npy")
TASK1_METRICS = Path("metrics/task1.json")
EXPLAINED_VARIANCE = Path("plots/fuse/explained_variance.csv")
ITEM_INFO = Path("submissions/task1/item_info.parquet")
NEIGHBORS = Path("embeddings/neighbors/neighbors.npz")
# ctr
COMPANIONS = Path("companions/items.npz")
ROW_FEATURES = Path("companions/features.json")
TALLIES = Path("companions/tallies")
BLEND_METRICS = Path("metrics/blend.json")
# evaluate and submit
ROC = Path("plots/valid/roc.csv")
CALIBRATION = Path("plots/valid/calibration.csv")
SCORES = Path("plots/valid/scores.csv")
AUC_BY_HISTORY = Path("plots/valid/auc_by_history.csv")
AUC_BY_POPULARITY = Path("plots/valid/auc_by_popularity.csv")
SUMMARY = Path("metrics/summary.json")
SUBMISSION = Path("submissions/task2/prediction.zip")
ENVIRONMENT = Path("metrics/environment.json")
# report
REPORT = Path("report/index.html")


def content_files(titles: Iterable[str], covers: Iterable[str]) -> list[VectorFiles]:
    """Of all encoders of titles and of covers, and of the vision-language model."""
    return [
        *(encoder_files("text", encoder) for encoder in titles),
        *(encoder_files("image", encoder) for encoder in covers),
        VectorFiles(VLM, VLM_PRESENT),
    ]


def split_path(split: str) -> Path:
    return Path(f"data/{split}.npy")


def companions_path(split: str) -> Path:
    """What the clicks of train tell of a split's rows."""
    return Path(f"companions/{split}.npy")


@dataclass(frozen=True)
class ModelFiles:
    """What the training of a ranking model writes."""

    weights: Path
    """Of a neural model; of boosted trees there are `trees` in their place."""
    trees: Path
    """In LightGBM's own text format."""
    config: Path
    curve: Path
    metrics: Path


def model_files(model: str) -> ModelFiles:
    """Of a model of section `models`."""
    return ModelFiles(
        Path(f"models/{model}/model.safetensors"),
        Path(f"models/{model}/model.txt"),
        Path(f"models/{model}/config.json"),
        Path(f"plots/train/{model}.csv"),
        Path(f"metrics/train/{model}.json"),
    )


MAIN = model_files(MAIN_MODEL)


def package_path(model: str) -> Path:
    """The folder of all that it takes to score with a ranking model."""
    return Path(f"packages/{model}")


def model_section(model: str) -> str:
    """Where messages look for the settings of a ranking model: most of main's stand in `train`."""
    return _section("train", "models", model)


def encoder_section(modality: Modality, encoder: str) -> str:
    """Likewise of an encoder."""
    return _section(f"embed_{modality}", f"{modality}_encoders", encoder)


def _section(base: str, entries: str, name: str) -> str:
    return base if name == MAIN_MODEL else f"{entries}.{name}"


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


def array_info(path: Path) -> Path:
    """The JSON file that describes the array at `path`."""
    return path.with_name(path.name + ".json")
