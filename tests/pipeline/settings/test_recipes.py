"""`recipes/`: the published model to the letter, and what is built on it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ctr import companions
from ctr.covisitation.describe import KINDS, NAMES
from ctr.models.architecture import build_model, model_config
from ctr.models.base import ItemTable
from embed import align, encoder, fuse, image, neighbors, text, vlm
from embed.encoders.image.pictures import load_image_encoder
from embed.encoders.text.titles import load_text_encoder
from pipeline import ingest
from pipeline.common import paths
from pipeline.common.files import write_json
from pipeline.settings.ctr.training import NUMBERS
from pipeline.settings.params import Params, load_params
from tests.whole.leakage.worlds import raw_world, run_stages

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
ITEMS, TAGS = 91_717, 11_740
"""Of the challenge; padding is counted among the tags."""
PUBLISHED = {
    "data.source": "microlens_1m",
    "data.history": 100,
    "data.tags": 5,
    "fuse.recipe": "given",
    "fuse.task1": "given",
    "fuse.given": "item_info",
    "fuse.dim": 128,
    "neighbors.enabled": False,
    "train.model": "qin",
    "train.features.id": True,
    "train.features.tags": True,
    "train.features.content": True,
    "train.features.levels": True,
    "train.features.history": True,
    "train.features.neighbors": False,
    **{f"train.features.{kind}": False for kind in NUMBERS},
    "train.history": 64,
    "train.embedding_dim": 128,
    "train.attention_dim": 768,
    "train.layers": 4,
    "train.rows": 4,
    "train.dropout": 0.1,
    "train.embedding_regularizer": 2e-4,
    "train.net_regularizer": 0.0,
    "train.learning_rate": 2e-3,
    "train.batch_size": 8192,
    "train.patience": 8,
    "train.new_targets": 0.0,
    "train.max_grad_norm": 10.0,
    "train.mixed_precision": "no",
    "train.collapsed": False,
    "train.compile": False,
    "models": {"main": {}},
    # No encoder of ours, and nothing from the hub:
    "encoder.train": False,
    "embed_text.library": "given",
    "embed_image.library": "given",
    "embed_vlm.library": "none",
}
"""What the paper and the authors' code have, and how this pipeline then leaves out the rest."""
MOVIELENS = ROOT / "recipes/movielens.yaml", ROOT / "params.yaml"
NOT_OF_THE_MODEL = {
    *("train.epochs", "train.residence", "train.deterministic", "train.checkpoint_minutes"),
    *("train.launch", "train.seed", "train.numbers_dim"),
}


def recipe(name: str) -> Params:
    return load_params(ROOT / f"recipes/{name}.yaml")


def flat(settings: dict[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting by its full name, what `models` holds as one."""
    for key, value in settings.items():
        if isinstance(value, dict) and key != "models":
            yield from flat(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value


def sizes(params: Params, folder: Path) -> Any:
    """The model that `params` make of the challenge's data, in a folder for its statistics."""
    (folder / "data").mkdir()
    write_json(folder / paths.STATS, {"items": ITEMS, "tags": TAGS})
    none = torch.empty((ITEMS + 1, 20 if params.train.features.neighbors else 0), device="meta")
    ids = torch.empty(ITEMS + 1, device="meta")
    content = torch.empty((ITEMS + 1, params.fuse.dim), device="meta")
    read = [len(names) for kind, names in KINDS.items() if getattr(params.train.features, kind)]
    return model_config(params.train, ItemTable(ids, ids, content, none, none), sum(read))


def test_the_published_recipe_is_what_was_published() -> None:
    settings = dict(flat(recipe("microlens_1m_published").model_dump()))
    assert {name: settings[name] for name in PUBLISHED} == PUBLISHED
    rest = {name for name in settings if name.startswith("train.") and name not in PUBLISHED}
    of_others = ("train.transformer_dcn.", "train.lightgbm.")
    assert {name for name in rest if not name.startswith(of_others)} == NOT_OF_THE_MODEL
    assert settings["train.epochs"] > 41  # after which the authors' training ended by itself


def test_the_published_recipe_has_the_published_number_of_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = recipe("microlens_1m_published")
    config = sizes(params, tmp_path)
    with torch.device("meta"):
        model = build_model(config, params.train)
    assert sum(parameter.numel() for parameter in model.parameters()) == 31_244_293


def test_the_best_recipe_is_the_published_model_with_what_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    best, published = (
        dict(flat(recipe(name).model_dump())) for name in ("microlens_1m", "microlens_1m_published")
    )
    assert {name for name in PUBLISHED if best[name] != PUBLISHED[name]} == {
        *("fuse.recipe", "fuse.task1", "neighbors.enabled", "train.features.neighbors"),
        *(f"train.features.{kind}" for kind in NUMBERS),
        *("train.mixed_precision", "train.collapsed", "train.new_targets", "models"),
        *("embed_text.library", "embed_image.library"),
    }
    assert best.keys() == published.keys()
    params = recipe("microlens_1m")
    assert params.align.dim + 1 < params.fuse.dim == 128
    assert params.fuse.recipe == "both"  # so that all 128 columns are used
    kinds = {model.model for model in params.ranking_models().values()}
    assert kinds == {"qin", "transformer_dcn", "lightgbm"}
    found = asdict(sizes(params, tmp_path))
    assert found["neighbors"] is True
    assert found["numbers"] == len(NAMES)


def test_the_movielens_recipe_is_params_with_two_pretrained_encoders() -> None:
    own, committed = (dict(flat(load_params(path).model_dump())) for path in MOVIELENS)
    assert {name for name in own if own[name] != committed[name]} == {
        *("data.source", "encoder.train", "embed_text.library", "embed_text.model"),
        *("embed_image.library", "embed_image.model", "embed_image.pretrained"),
        *("judge.learning_rate", "judge.batch_size", "judge.rows", "judge.epochs"),
        "judge.patience",
    }


def test_the_movielens_recipes_weights_come_from_installed_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    params = recipe("movielens")
    titles = load_text_encoder(params.embed_text, CPU)
    ((_, tokens),) = titles.tokenize(["a film"], 1)
    inputs = {name: torch.from_numpy(ids) for name, ids in tokens.items()}
    assert titles.encoder.forward(inputs).shape == (1, 384)
    covers = load_image_encoder(params.embed_image, CPU)
    pixels = torch.from_numpy(covers.to_pixels(Image.new("RGB", (20, 30), "grey")))
    assert covers.encoder.forward({"pixels": pixels[None]}).shape == (1, 1280)


def with_given_vectors(raw: Path) -> None:
    """The folder `raw` with the challenge's own vectors beside titles and covers."""
    random = np.random.default_rng(5)

    def vectors(rows: int, width: int) -> pa.Array:
        return pa.array(list(random.normal(size=(rows, width)).astype(np.float32)))

    path = raw / "item_feature.parquet"
    table = pq.read_table(path)
    for name, width in (("txt_emb_BERT", 8), ("img_emb_CLIPRN50", 9)):
        table = table.append_column(name, vectors(len(table), width))
    pq.write_table(table, path)
    info = pa.table({"item_id": table["item_id"], "item_tags": table["item_tags"]})
    info = info.append_column("item_emb_d128", vectors(len(table), 128))
    pq.write_table(info, raw / "MicroLens_1M_x1/item_info.parquet")


def test_the_published_recipe_passes_the_organisers_vectors_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a hub, and through every stage before `train`."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    raw, work = tmp_path / "raw", tmp_path / "work"
    raw.mkdir()
    work.mkdir()
    raw_world(raw, seed=3)
    with_given_vectors(raw)
    content = recipe("microlens_1m_published").model_dump()
    content["data"]["source"] = str(raw)
    for name in ("embed_text", "embed_image"):
        content[name]["workers"] = 0
    stages = (ingest, encoder, text, image, vlm, align, fuse, neighbors, companions)
    run_stages(work, stages, Params.model_validate(content))
    info = pq.read_table(raw / "MicroLens_1M_x1/item_info.parquet").sort_by("item_id")
    expected = np.stack(info["item_emb_d128"].to_numpy())
    np.testing.assert_array_equal(np.load(work / paths.ITEM)[1:], expected)
    task1 = pq.read_table(work / paths.ITEM_INFO)
    np.testing.assert_array_equal(np.stack(task1["item_emb_d128"].to_numpy())[1:], expected)
    with np.load(work / paths.NEIGHBORS) as file:
        assert file["ids"].shape[1] == 0
