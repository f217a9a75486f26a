"""Stage `encoder`: a small open_clip CLIP, trained on the source's own titles and covers.

Writes open_clip_config.json and open_clip_model.safetensors to models/encoder, which open_clip
loads as `local-dir:models/encoder`. A tenth of the titles, drawn by the seed, is held out with all
their covers: these pairs are never trained on, not even in the end, so the recall in
metrics/encoder.json is that of the very weights written.
"""

import math
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

import numpy as np
import open_clip
import pyarrow.parquet as pq
import torch
from open_clip import CLIP
from open_clip.transform import PreprocessCfg
from safetensors.torch import save
from torch import Tensor

from embed.covers.batches import read_covers
from embed.encoders.contrastive import Pairs, embed, recall, train
from embed.encoders.open_clip_models import ResizeToPixels
from embed.extraction.encoder import best_device
from pipeline.common.files import InputError, Outputs, versions
from pipeline.common.launch import tell_device
from pipeline.common.paths import COVERS, ENCODER, ITEMS, metrics_path
from pipeline.common.stage import made, run
from pipeline.settings.embed.encoder import Encoder

HELD_OUT = 0.1
MIN_PAIRS = 20
"""Fewer leave less than two titles to retrieve among."""
TITLES = 1_000
"""That are made tokens at a time: who ends the stage waits for no more."""


def main(section: Encoder) -> None:
    if section.train:
        _train_and_write(section)
    else:
        _write({}, {}, {"trained": False})
        made("not asked for")


def _train_and_write(section: Encoder) -> None:
    titles = pq.read_table(ITEMS, columns=["title"])["title"].to_pylist()
    config = open_clip_config(section)
    torch.manual_seed(section.seed)
    model = CLIP(**config["model_cfg"])
    preprocess = PreprocessCfg(**config["preprocess_cfg"])
    with _one_thread(), _pairs(titles, section, preprocess) as (pairs, items):
        fitted, held_out = split(items, titles, section.seed)
        loss = train(model, pairs, fitted, section)
        retrieval = held_out_recall(model, pairs, held_out, titles, section.batch_size)
    metrics = {"trained": True, "pairs": len(items), "pairs_trained": len(fitted), "loss": loss}
    _write(config, model.state_dict(), metrics | retrieval)
    made(
        "{pairs:,} pairs, held-out recall@10 {recall_10:.4f}, by chance {chance_10:.4f}".format_map(
            metrics | retrieval
        )
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """For each operation: the model is too small to gain from more, and rounding then does not
    depend on how many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tell_device("encoder", best_device(), "no")
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def open_clip_config(section: Encoder) -> dict[str, Any]:
    """The whole cover is squeezed into the square: its edges may hold what tells items apart."""
    preprocess = PreprocessCfg(
        size=section.image_size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize_mode="squash"
    )
    vision = {
        "image_size": section.image_size,
        "patch_size": section.patch_size,
        "width": section.image_width,
        "layers": section.image_layers,
        "head_width": 32,
    }
    text = {
        "context_length": section.context_length,
        "width": section.text_width,
        "heads": section.text_width // 32,
        "layers": section.text_layers,
    }
    return {
        "model_cfg": {"embed_dim": section.embed_dim, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": asdict(preprocess),
        "provenance": {
            "seed": section.seed,
            "versions": versions("open_clip_torch", "pillow", "torch", "torchvision"),
        },
    }


@contextmanager
def _pairs(
    titles: list[str], section: Encoder, preprocess: PreprocessCfg
) -> Iterator[tuple[Pairs, np.ndarray]]:
    """The pairs, and the items that have both a title and a readable cover, ascending.

    Covers are decoded once, into an unnamed file that the system keeps in memory as far as it fits.
    """
    side = section.image_size
    ENCODER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=ENCODER) as file:
        shape = (len(titles), 3, side, side)
        _reserve(file, math.prod(shape))
        pixels = np.memmap(file, np.uint8, "r+", shape=shape)
        has_title = np.array([bool(title.strip()) for title in titles])
        readable = np.zeros(len(titles), bool)
        to_pixels = ResizeToPixels(preprocess)
        tokenize = open_clip.SimpleTokenizer(context_length=section.context_length)
        beside, tokens = ThreadPoolExecutor(1), list[Future[Tensor]]()
        try:
            for batch in read_covers(COVERS, section.batch_size, to_pixels, os.cpu_count() or 1):
                pixels[batch.items] = batch.pixels.reshape(-1, 3, side, side)
                readable[batch.items] = True
                if not tokens:  # workers are forked by now
                    parts = (titles[at : at + TITLES] for at in range(0, len(titles), TITLES))
                    tokens += [beside.submit(tokenize, part) for part in parts]
            items = np.flatnonzero(has_title & readable)
            _check_count(len(items), int(has_title.sum()), int(readable.sum()))
            pairs = Pairs(pixels, torch.cat([part.result() for part in tokens]), preprocess)
        finally:
            beside.shutdown(cancel_futures=True)
        yield pairs, items


def _reserve(file: IO[bytes], size: int) -> None:
    """Zeros. Without them a full disk would end the process at some later write, by SIGBUS."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            file.truncate(size)
    except OSError as error:
        raise InputError(f"{ENCODER}: no room for {size:,} bytes of covers: {error}") from error


def _check_count(pairs: int, titles: int, covers: int) -> None:
    if pairs < MIN_PAIRS:
        raise InputError(
            f"{COVERS}: {pairs} items have both a title ({titles} have one) and a readable cover "
            f"({covers} have one), too few to train an encoder on (at least {MIN_PAIRS}). If the "
            "source has more, see what `ingest` says of its covers; else set encoder.train to "
            "false in params.yaml and name pretrained models in embed_text and embed_image"
        )


def split(items: np.ndarray, titles: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items to train on and items held out, by title: the two share none."""
    distinct = sorted({titles[item] for item in items})
    count = max(1, round(HELD_OUT * len(distinct)))
    drawn = np.random.default_rng(seed).choice(len(distinct), count, replace=False)
    held_out_titles = {distinct[place] for place in drawn}
    held_out = np.array([titles[item] in held_out_titles for item in items])
    return items[~held_out], items[held_out]


def held_out_recall(
    model: CLIP, pairs: Pairs, items: np.ndarray, titles: list[str], batch_size: int
) -> dict[str, float]:
    """Image to text: the share of covers whose title is among the k nearest distinct titles."""
    images, texts = embed(model, pairs, items, batch_size)
    distinct, first, true = np.unique(
        [titles[item] for item in items], return_index=True, return_inverse=True
    )
    result: dict[str, float] = {"held_out_pairs": len(items)}
    for k in (1, 10):
        result[f"recall_{k}"] = recall(images, texts[first], torch.from_numpy(true), k)
        result[f"chance_{k}"] = min(1.0, k / len(distinct))
    return result


def _write(
    config: dict[str, Any], tensors: dict[str, torch.Tensor], metrics: dict[str, Any]
) -> None:
    weights = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with Outputs() as outputs:
        outputs.json(ENCODER / "open_clip_config.json", config)
        weights_path = outputs.path(ENCODER / "open_clip_model.safetensors")
        weights_path.write_bytes(save(weights, metadata={"format": "pt"}))
        outputs.json(metrics_path("encoder"), metrics)


if __name__ == "__main__":
    run("encoder", main)
