"""The two neural ranking models of `train.model`, made from settings or from a model file."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file

from ctr.models.base import CTRModel, ItemTable
from ctr.models.qin import QIN, QINConfig
from ctr.models.trained_on import item_digests, read_description
from ctr.models.transformer_dcn import TransformerDCN, TransformerDCNConfig
from pipeline.common import paths
from pipeline.common.files import read_json
from pipeline.common.paths import ModelFiles
from pipeline.settings.ctr.train import Train
from pipeline.tables.split import LEVELS

Config = QINConfig | TransformerDCNConfig


class Architecture(NamedTuple):
    configure: Callable[[Train, ItemTable, int], Config]
    config: Callable[..., Config]
    model: Callable[[Any], CTRModel]


def qin_config(settings: Train, items: ItemTable, numbers: int) -> QINConfig:
    return QINConfig(
        **shared_sizes(settings, items, numbers),
        attention_dim=settings.attention_dim,
        layers=settings.layers,
        rows=settings.rows,
        collapsed=settings.collapsed,
    )


def transformer_dcn_config(settings: Train, items: ItemTable, numbers: int) -> TransformerDCNConfig:
    sizes = settings.transformer_dcn.model_dump()
    encoder_dropout = sizes.pop("dropout")
    return TransformerDCNConfig(
        **shared_sizes(settings, items, numbers), **sizes, encoder_dropout=encoder_dropout
    )


def shared_sizes(settings: Train, items: ItemTable, numbers: int) -> dict[str, Any]:
    """Those that both models have."""
    stats = read_json(paths.STATS)
    return {
        "items": stats["items"],
        "tags": stats["tags"],
        "levels": LEVELS,
        "content_dim": items.content.shape[1],
        "embedding_dim": settings.embedding_dim,
        "dropout": settings.dropout,
        "neighbors": items.neighbors.shape[1] > 0,
        "numbers": numbers,
        "numbers_dim": settings.numbers_dim,
    }


ARCHITECTURES = {
    "qin": Architecture(qin_config, QINConfig, QIN),
    "transformer_dcn": Architecture(transformer_dcn_config, TransformerDCNConfig, TransformerDCN),
}


def model_config(settings: Train, items: ItemTable, numbers: int) -> Config:
    """The sizes of the model that `settings` ask for on the data at hand.

    `numbers` are those that a row has.
    """
    return ARCHITECTURES[settings.model].configure(settings, items, numbers)


def build_model(config: Config, settings: Train) -> CTRModel:
    model = ARCHITECTURES[settings.model].model(config)
    if settings.compile:
        for part in model.fixed_parts():  # the other parts have sizes that change by the batch
            part.compile(dynamic=False)
    return model


def described(config: Config, settings: Train) -> Mapping[str, Any]:
    """What `load_model` reads beside the weights."""
    return {
        "model": settings.model,
        "config": asdict(config),
        "train": settings.model_dump(),
        "items": item_digests(),
    }


def is_neural(files: ModelFiles) -> bool:
    """Whether the trained model is one of these two; else it is boosted trees."""
    return read_json(files.config)["model"] in ARCHITECTURES


def load_model(files: ModelFiles) -> tuple[CTRModel, Train]:
    """A trained neural model, and the settings it was trained with.

    Raises InputError where `read_description` does.
    """
    content = read_description(files)
    return model_of(content, files.weights), Train.model_validate(content["train"])


def model_of(description: Mapping[str, Any], weights: Path) -> CTRModel:
    """The neural model whose `description` stands beside its `weights`."""
    architecture = ARCHITECTURES[description["model"]]
    model = architecture.model(architecture.config(**description["config"]))
    model.load_state_dict(load_file(weights))
    return model
