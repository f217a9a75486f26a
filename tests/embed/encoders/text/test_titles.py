import numpy as np
import pytest

from embed import text
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, encode_titles


def test_open_clip_batches_equal_one_title_at_a_time(trained: Catalogue, params: Params) -> None:
    titles = trained.titles[1:5] * 3
    alone = np.concatenate([encode_titles(params.embed_text, [title]) for title in titles])
    np.testing.assert_allclose(encode_titles(params.embed_text, titles), alone, atol=1e-4)


def test_a_prompt_that_leaves_no_room_for_titles_is_refused(
    trained: Catalogue, params: Params
) -> None:
    assert trained.titles
    long = params.embed_text.model_copy(update={"prompt": "red thing number " * 5})
    with pytest.raises(InputError, match=r"embed_text\.prompt is 'red thing .* the same vector"):
        text.main(long)
    text.main(params.embed_text.model_copy(update={"prompt": "a "}))
