"""Real weights on real pictures: `pytest --films FOLDER`, films with posters in the raw layout."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from embed.covers.decode import decode
from embed.encoders.image.pictures import load_image_encoder
from embed.vectors.content import standardize
from pipeline.settings.params import load_params
from tests.embed.conftest import CPU

RECIPE = Path(__file__).parents[4] / "recipes/movielens.yaml"
FILMS = 500
DRAWS = 1000


@pytest.fixture
def films(request: pytest.FixtureRequest) -> tuple[list[frozenset[object]], list[bytes]]:
    """Tags, genres among them, and posters of FILMS films."""
    if not (given := request.config.getoption("--films")):
        pytest.skip("needs --films FOLDER")
    folder = Path(given)
    table = pd.read_parquet(folder / "item_feature.parquet")
    posters = table["item_id"].map(lambda item: folder / "item_images" / f"{item}.jpg")
    drawn = table[posters.map(Path.is_file)].sample(FILMS, random_state=0)
    tags = [frozenset(each) for each in drawn["item_tags"]]
    return tags, [posters[row].read_bytes() for row in drawn.index]


@pytest.mark.slow
def test_films_whose_posters_are_alike_share_more_tags_than_chance(
    films: tuple[list[frozenset[object]], list[bytes]],
) -> None:
    tags, posters = films
    params = load_params(RECIPE)
    loaded = load_image_encoder(params.embed_image, CPU)
    pixels = torch.from_numpy(np.stack([loaded.to_pixels(decode(poster)) for poster in posters]))
    nearest = nearest_of(loaded.encoder.forward({"pixels": pixels}).numpy())
    found = shared(tags, nearest)
    random = np.random.default_rng(0)
    chance = [shared(tags, random.permutation(nearest)) for _ in range(DRAWS)]
    colours = shared(tags, nearest_of(fields_of(pixels)))
    print(f"tags in common {found:.4f}, by colours {colours:.4f}, by chance {np.mean(chance):.4f}")
    assert found > max(*chance, colours)


def fields_of(pixels: torch.Tensor) -> np.ndarray:
    """What is had without any weights: a poster's colours in 8 x 8 fields, float32 (n, 192)."""
    return np.asarray(adaptive_avg_pool2d(pixels.float(), 8).flatten(1).numpy())


def nearest_of(vectors: np.ndarray) -> np.ndarray:
    """The row (n,) nearest to each of `vectors` (n, d), standardised, by cosine."""
    unit = standardize(vectors, np.ones(FILMS, bool))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -1)
    return np.asarray(cosine.argmax(axis=1))


def shared(tags: list[frozenset[object]], other: np.ndarray) -> float:
    """Mean over films of the tags in common over the tags of either."""
    pairs = [(tags[film], tags[other[film]]) for film in range(len(tags))]
    return float(np.mean([len(one & two) / len(one | two) for one, two in pairs]))
