"""Made-up covers and titles, and a ViT-B-32 with random weights, for `bench_embed`."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from open_clip import CLIP
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from pipeline.common.files import write_array
from pipeline.common.paths import COVERS, IMAGE, IMAGE_PRESENT, VLM, VLM_PRESENT
from pipeline.raw.covers import GROUP_ROWS

SIZE = (640, 360)
"""Of a cover, in pixels: a video's frame."""
VIT = {"image_size": 224, "patch_size": 32, "width": 768, "layers": 12}
"""ViT-B-32."""
WORDS = "how to make the best of a day in city street food travel music dance live cat dog funny"


def write_covers(count: int, seed: int = 7) -> None:
    """`count` JPEGs of about 50 kB, as `ingest` packs them."""
    random = np.random.default_rng(seed)
    images = [jpeg(random) for _ in range(min(count, 64))]
    table = pa.table(
        {
            "item": pa.array(range(1, count + 1), pa.int32()),
            "image": pa.array([images[i % len(images)] for i in range(count)], pa.binary()),
        }
    )
    COVERS.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table, COVERS, row_group_size=GROUP_ROWS, compression="none", use_dictionary=False
    )


def jpeg(random: np.random.Generator) -> bytes:
    """Large shapes, and some noise as film grain."""
    shapes = Image.fromarray(random.integers(0, 256, (9, 16, 3), np.uint8)).resize(SIZE)
    grain = random.normal(0, 6, (SIZE[1], SIZE[0], 3))
    noisy = np.clip(np.asarray(shapes.filter(ImageFilter.SMOOTH)) + grain, 0, 255)
    buffer = BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_no_pictures(items: int) -> None:
    """What `embed_image` and `embed_vlm` leave where there are neither covers nor such a model."""
    for vectors, present in ((IMAGE, IMAGE_PRESENT), (VLM, VLM_PRESENT)):
        write_array(vectors, np.zeros((items + 1, 0), np.float32))
        write_array(present, np.zeros(items + 1, bool))


def titles(count: int, seed: int = 7) -> list[str]:
    """Of 3 to 15 words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS.split(), random.integers(3, 16))) for _ in range(count)]


def write_vit(folder: Path) -> str:
    """A ViT-B-32 beside a text tower of one layer, random; its name for open_clip."""
    config = {
        "embed_dim": 512,
        "vision_cfg": VIT,
        "text_cfg": {"context_length": 8, "width": 64, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    folder.mkdir()
    weights = CLIP(**config).state_dict()
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return f"local-dir:{folder}"
