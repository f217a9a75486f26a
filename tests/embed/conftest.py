"""A catalogue of 40 items with real little pictures, some of them missing or damaged."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from embed import encoder
from embed.encoders.text.titles import TitleShards, load_text_encoder
from embed.extraction.extract import shards_of
from pipeline.common.paths import COVERS, ITEMS
from pipeline.settings.embed.text import EmbedText
from pipeline.settings.params import Params, load_params
from tests.support.worlds.tiny_world import TINY_ENCODER

REPOSITORY = Path(__file__).parents[2]
COLORS = ("red", "lime", "blue", "yellow", "purple", "orange", "black", "white")
N = 40
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Catalogue:
    """Row i is item i; row 0 is padding."""

    item_ids: list[int]
    titles: list[str]
    tags: list[list[int]]
    covers: dict[int, bytes]
    untitled: tuple[int, ...] = (5, 6)
    same_title: tuple[int, ...] = (7, 8)
    uncovered: tuple[int, ...] = (9, 10)
    unreadable: tuple[int, ...] = (11, 12)

    @property
    def embeddable(self) -> list[int]:
        return sorted(set(self.covers) - set(self.unreadable))


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def picture(item: int) -> Image.Image:
    """40 x 32, of the item's colour with noise of its own."""
    noise = np.random.default_rng(item).integers(0, 60, (32, 40, 3))
    plain = np.array(Image.new("RGB", (40, 32), COLORS[item % len(COLORS)]), dtype=int)
    return Image.fromarray(np.abs(plain - noise).astype(np.uint8))


def build_catalogue() -> Catalogue:
    titles = ["", *(f"{COLORS[i % len(COLORS)]} thing number {i}" for i in range(1, N + 1))]
    titles[5], titles[6], titles[8] = "", "  ", titles[7]
    covers = {i: png(picture(i)) for i in range(1, N + 1) if i not in (9, 10)}
    covers |= {11: b"<html>not found</html>", 12: covers[12][:100]}
    return Catalogue(
        item_ids=[0, *(10 * i + 3 for i in range(1, N + 1))],
        titles=titles,
        tags=[[0] * 5, *([0, 0, 0, i % 7 + 1, i % 5 + 1] for i in range(1, N + 1))],
        covers=covers,
    )


def write_catalogue(catalogue: Catalogue) -> None:
    """What `ingest` writes, as far as the embedding stages read it."""
    ITEMS.parent.mkdir(exist_ok=True)
    items = {
        "item_id": pa.array(catalogue.item_ids, pa.int64()),
        "title": pa.array(catalogue.titles, pa.string()),
        "tags": pa.array(catalogue.tags, pa.list_(pa.int32())),
    }
    pq.write_table(pa.table(items), ITEMS)
    covers = {
        "item": pa.array(list(catalogue.covers), pa.int32()),
        "image": pa.array(list(catalogue.covers.values()), pa.binary()),
    }
    pq.write_table(pa.table(covers), COVERS, row_group_size=12)


@pytest.fixture(autouse=True)
def one_thread(cpu: torch.device) -> None:
    """The stages would take all cores, which slows tiny models down."""
    assert cpu == CPU


@pytest.fixture(scope="session")
def params() -> Params:
    """The repository's settings with an encoder that trains in a second."""
    loaded = load_params(REPOSITORY / "params.yaml")
    return loaded.model_copy(
        update={
            "encoder": loaded.encoder.model_copy(update=TINY_ENCODER | {"context_length": 8}),
            "embed_text": loaded.embed_text.model_copy(
                update={"batch_size": 7, "shard_size": 9, "workers": 0}
            ),
            "embed_image": loaded.embed_image.model_copy(
                update={"batch_size": 5, "shard_size": 8, "workers": 0}
            ),
        }
    )


def encode_titles(section: EmbedText, titles: list[str]) -> np.ndarray:
    """Their vectors in order, by way of one shard."""
    loaded = load_text_encoder(section, CPU)
    runs = [(0, len(titles))]
    batches = TitleShards(titles, runs, [0], loaded.tokenize, section.batch_size)[0]
    ((_, shard),) = shards_of(batches, loaded.encoder)
    assert sorted(shard.items) == list(range(len(titles)))
    return shard.vectors[np.argsort(shard.items)]


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """The catalogue, written; the test runs in its folder."""
    monkeypatch.chdir(tmp_path)
    catalogue = build_catalogue()
    write_catalogue(catalogue)
    return catalogue


@pytest.fixture(scope="session")
def trained_files(params: Params, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the encoder stage writes for the catalogue: path to bytes."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_catalogue(build_catalogue())
        torch.manual_seed(99)  # the stage must not depend on what ran before it
        encoder.main(params.encoder)
    written = [path for name in ("models", "metrics") for path in (folder / name).rglob("*.*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in written}


@pytest.fixture
def trained(catalogue: Catalogue, trained_files: dict[str, bytes]) -> Catalogue:
    """The catalogue with its encoder in place."""
    for name, content in trained_files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    return catalogue
