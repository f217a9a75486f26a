"""Files that would run code when they are read carelessly, in every place that takes files.

Each holds a pickle that makes a file when it is loaded. Reading must fail, and make nothing.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from ctr.engine.data import ClickLog, load_items
from ctr.models.architecture import load_model
from ctr.task1.items import load_judged_items
from embed.covers.decode import CoverError, decode
from embed.encoders.open_clip_models import load_open_clip
from embed.encoders.text.titles import load_text_encoder
from embed.encoders.vision_language import load_vision_language
from embed.extraction.shards import Shards
from embed.vectors.content import load_content
from pipeline.common import paths
from pipeline.common.files import InputError, write_array, write_json
from pipeline.common.paths import PARAMS
from pipeline.download.archive import unpack
from pipeline.download.files import download
from pipeline.settings.ctr.training import NUMBERS, Features
from pipeline.settings.params import Params, load_params
from pipeline.tables.item_info import read_item_info
from pipeline.tables.split import Split
from pipeline.tables.table import RawTable
from tests.support.worlds.tiny_text import WORDS, save
from tests.support.worlds.tiny_world import VECTOR_FILES

CPU = torch.device("cpu")
FEATURES = Features(**dict.fromkeys(Features.model_fields, True))
MARKER = "executed"


class Hostile:
    """Its pickle makes a file in the working directory."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(MARKER),)


PICKLE = pickle.dumps(Hostile(), protocol=2)


def object_array() -> np.ndarray:
    array = np.empty(1, object)
    array[0] = Hostile()
    return array


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, object_array(), allow_pickle=True)
    return buffer.getvalue()


def npz(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", npy())
    return buffer.getvalue()


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": Hostile()}, buffer)
    return buffer.getvalue()


@pytest.fixture
def params() -> Params:
    return load_params(Path(__file__).resolve().parents[2] / "params.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the marker's place empty before and after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def refused(read: Callable[[], object], *errors: type[Exception]) -> None:
    """`read` fails, and nothing has run."""
    with pytest.raises(errors or InputError):
        read()
    assert not Path(MARKER).exists()


def put(path: Path | str, content: bytes) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content", [PICKLE, npy(), npz("a"), torch_file()], ids=["pickle", "npy", "npz", "torch"]
)
def test_they_run_where_reading_is_careless(content: bytes) -> None:
    """Or the tests below would say nothing."""
    path = put("careless", content)
    if content[:2] == b"PK" and b"data.pkl" in content:
        torch.load(path, weights_only=False)
    else:
        found = np.load(path, allow_pickle=True)
        if hasattr(found, "files"):
            assert found["a"].shape == (1,)
    assert Path(MARKER).exists()


@pytest.mark.parametrize("content", [PICKLE, npy()], ids=["pickle", "npy"])
@pytest.mark.parametrize(
    "read",
    [
        lambda: load_content(VECTOR_FILES),
        lambda: Split.load("train"),
        lambda: ClickLog.load("train", 1, FEATURES, CPU),
        lambda: load_items(FEATURES, CPU),
    ],
    ids=["content", "split", "clicks", "items"],
)
def test_arrays(read: Callable[[], object], content: bytes) -> None:
    for path in (paths.TEXT_PRESENT, paths.split_path("train"), paths.ITEM, paths.TAGS):
        put(path, content)
    refused(read)


@pytest.mark.parametrize("content", [PICKLE, npy()], ids=["pickle", "npy"])
def test_numbers_of_rows(content: bytes) -> None:
    write_array(paths.split_path("train"), np.zeros((1, 6), np.int32))
    write_json(paths.ROW_FEATURES, {"names": ["a"], "kinds": {kind: ["a"] for kind in NUMBERS}})
    put(paths.companions_path("train"), content)
    refused(lambda: ClickLog.load("train", 1, FEATURES, CPU))


def test_neighbours() -> None:
    for path in (paths.ITEM, paths.TAGS):
        write_array(path, np.zeros((2, 1), np.int32))
    put(paths.NEIGHBORS, npz("ids", "cosine"))
    refused(lambda: load_items(FEATURES, CPU), ValueError)
    put(paths.NEIGHBORS, PICKLE)
    refused(lambda: load_items(FEATURES, CPU), ValueError)


def test_a_shard_with_a_valid_seal() -> None:
    shards = Shards("embed_text", "0" * 64)
    content = npz("items", "vectors", "unreadable")
    put(shards.path(0), shards._seal(0, content) + content)
    refused(lambda: shards.read(0), ValueError)


def test_the_models_own_weights(params: Params) -> None:
    put(paths.MAIN.weights, torch_file())
    config = {
        "items": 2, "tags": 2, "levels": 11, "content_dim": 1, "embedding_dim": 8,
        "attention_dim": 8, "layers": 1, "rows": 1, "dropout": 0.0, "neighbors": False,
        "collapsed": True,
    }  # fmt: skip
    described = {"model": "qin", "config": config, "train": params.train.model_dump()}
    write_json(paths.MAIN.config, described)
    refused(lambda: load_model(paths.MAIN), SafetensorError)


@pytest.mark.parametrize("content", [PICKLE, torch_file()], ids=["pickle", "torch"])
@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "open_clip_model.safetensors"])
def test_weights_of_open_clip(params: Params, name: str, content: bytes) -> None:
    config: dict[str, Any] = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1},
        "text_cfg": {"context_length": 8, "width": 32, "heads": 1, "layers": 1},
    }
    put("clip/open_clip_config.json", json.dumps({"model_cfg": config}).encode())
    weights = CLIP(**config).state_dict()
    save_file(
        {name: value.contiguous() for name, value in weights.items()},
        "clip/open_clip_model.safetensors",
    )
    section = params.embed_image.model_copy(update={"model": "local-dir:clip", "local": "clip"})
    assert load_open_clip("embed_image", section, CPU).name == "local-dir:clip"
    Path("clip/open_clip_model.safetensors").unlink()
    put(f"clip/{name}", content)
    refused(lambda: load_open_clip("embed_image", section, CPU))


@pytest.mark.parametrize("content", [PICKLE, torch_file()], ids=["pickle", "torch"])
def test_weights_that_pretrained_names(params: Params, content: bytes) -> None:
    put("weights.pt", content)
    changes = {"model": "RN50", "pretrained": "weights.pt", "local": "weights.pt"}
    section = params.embed_image.model_copy(update=changes)
    refused(lambda: load_open_clip("embed_image", section, CPU))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_weights_of_transformers(params: Params, name: str) -> None:
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=1
    )
    save(Path("bert"), BertModel(config))
    section = params.embed_text.model_copy(
        update={"library": "transformers", "model": "bert", "local": "."}
    )
    assert load_text_encoder(section, CPU).encoder.stage == "embed_text"
    Path("bert/model.safetensors").unlink()
    put(f"bert/{name}", torch_file())
    refused(lambda: load_text_encoder(section, CPU))


CODE = f"from pathlib import Path\nPath({MARKER!r}).touch()\nclass Own: ...\n"
AUTO_MAP = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoProcessor": "own.Own"}


@pytest.mark.parametrize("kind", ["bert", "own"])
def test_code_beside_the_weights_of_transformers(params: Params, kind: str) -> None:
    config = {"model_type": kind, "auto_map": AUTO_MAP, "architectures": ["Own"]}
    put("model/config.json", json.dumps(config).encode())
    tokenizer = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    put("model/tokenizer_config.json", json.dumps(tokenizer).encode())
    put("model/processor_config.json", json.dumps({"auto_map": AUTO_MAP}).encode())
    put("model/own.py", CODE.encode())
    changes = {"library": "transformers", "model": "model", "local": "model"}
    text = params.embed_text.model_copy(update=changes)
    both = params.embed_vlm.model_copy(update=changes)
    refused(lambda: load_text_encoder(text, CPU))
    refused(lambda: load_vision_language(both, CPU))


def test_settings() -> None:
    for text in (
        "data: !!python/object/apply:pathlib.Path.touch [executed]",
        "data: !!python/object/apply:os.system ['touch executed']",
        "data: !!python/name:os.system",
    ):
        put(PARAMS, text.encode())
        refused(load_params)


def test_raw_files_and_submissions() -> None:
    path = put("item_feature.parquet", PICKLE)
    refused(lambda: RawTable(path, ("item_id",)))
    refused(lambda: read_item_info(path))
    write_json(paths.STATS, {"items": 1})
    refused(lambda: load_judged_items(path, CPU))


def test_covers_archives_and_manifests() -> None:
    refused(lambda: decode(PICKLE), CoverError)
    refused(lambda: decode(npy()), CoverError)
    path = put("item_images.rar", PICKLE)
    refused(lambda: unpack(path, Path("item_images")))
    refused(lambda: download(path, Path("raw")))
