"""Image encoders of transformers, tiny and random, laid out on disk as published ones are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    ConvNextConfig,
    ConvNextImageProcessor,
    ConvNextModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
    Siglip2ImageProcessor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    ViTConfig,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

SIDE = 32
SQUARE = {"height": SIDE, "width": SIDE}
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
VISION: dict[str, Any] = SIZES | {"image_size": SIDE, "patch_size": 8}
TEXT: dict[str, Any] = SIZES | {"vocab_size": 20, "bos_token_id": 2, "eos_token_id": 3}
Make = Callable[[], tuple[Any, Any]]
"""A model and its processor."""


def saved(folder: Path, made: tuple[Any, Any]) -> Path:
    model, processor = made
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def clip() -> tuple[Any, Any]:
    vision = VISION | {"projection_dim": 12}
    config = CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=12)
    return CLIPModel(config), CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE)


def siglip() -> tuple[Any, Any]:
    return SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)), SiglipImageProcessor(
        size=SQUARE
    )


def vit() -> tuple[Any, Any]:
    return ViTModel(ViTConfig(**VISION)), ViTImageProcessor(size=SQUARE)


def dino() -> tuple[Any, Any]:
    sizes = {name: VISION[name] for name in VISION if name != "intermediate_size"}
    config = Dinov2WithRegistersConfig(**sizes, num_register_tokens=3)
    processor = BitImageProcessor(size={"shortest_edge": 40}, crop_size=SQUARE)
    return Dinov2WithRegistersModel(config), processor


def dino_3() -> tuple[Any, Any]:
    config = DINOv3ViTConfig(**VISION, num_register_tokens=2)
    return DINOv3ViTModel(config), DINOv3ViTImageProcessor(size=SQUARE)


def convnext() -> tuple[Any, Any]:
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=SIDE)
    return ConvNextModel(config), ConvNextImageProcessor(size={"shortest_edge": SIDE})


def of_any_size() -> tuple[Any, Any]:
    return vit()[0], ViTImageProcessor(do_resize=False)


def of_patches() -> tuple[Any, Any]:
    return vit()[0], Siglip2ImageProcessor(patch_size=8, max_num_patches=16)


def masked() -> tuple[Any, Any]:
    return ViTMAEModel(ViTMAEConfig(**VISION)), ViTImageProcessor(size=SQUARE)


def of_text() -> tuple[Any, Any]:
    sizes = SIZES | {"vocab_size": 20, "max_position_embeddings": 10}
    return BertModel(BertConfig(**sizes)), ViTImageProcessor(size=SQUARE)
