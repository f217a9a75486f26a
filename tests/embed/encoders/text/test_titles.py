import numpy as np

from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, encode_titles


def test_open_clip_batches_equal_one_title_at_a_time(trained: Catalogue, params: Params) -> None:
    titles = trained.titles[1:5] * 3
    alone = np.concatenate([encode_titles(params.embed_text, [title]) for title in titles])
    np.testing.assert_allclose(encode_titles(params.embed_text, titles), alone, atol=1e-4)
