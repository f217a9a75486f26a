import logging
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import open_clip
import pytest
import torch
from open_clip import CLIP
from open_clip.transform import PreprocessCfg
from torch.nn import functional

from embed.encoder import open_clip_config
from embed.encoders import contrastive
from embed.encoders.contrastive import (
    InParts,
    Pairs,
    embed,
    learning_rate,
    recall,
    shifted,
    train,
)
from embed.encoders.open_clip_models import ResizeToPixels
from pipeline.settings.params import Params
from tests.embed.conftest import COLORS, picture


def test_training_teaches_what_the_titles_say(
    params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    section = params.encoder.model_copy(
        update={"epochs": 40, "learning_rate": 0.003, "batch_size": 8}
    )
    config = open_clip_config(section)
    preprocess = PreprocessCfg(**config["preprocess_cfg"])
    to_pixels = ResizeToPixels(preprocess)
    pixels = np.stack([to_pixels(picture(item)) for item in range(64)])
    titles = [COLORS[item % len(COLORS)] for item in range(64)]
    tokens = open_clip.SimpleTokenizer(context_length=section.context_length)(titles)
    torch.manual_seed(0)
    model = CLIP(**config["model_cfg"])
    pairs = Pairs(pixels, tokens, preprocess)
    with caplog.at_level(logging.INFO):
        train(model, pairs, np.arange(8, 64), section)
    assert sum(" of them " in line for line in caplog.messages) == 1
    images, texts = embed(model, pairs, np.arange(8), batch=3)
    assert recall(images, texts, torch.arange(8), 1) >= 0.75
    assert model.logit_scale.item() <= math.log(100)


class EveryRow:
    """The table of tokens whole, as a step would have it that knew nothing of titles."""

    def __init__(self, _model: CLIP, _tokens: torch.Tensor) -> None:
        pass

    def places(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def decay(self, _optimizer: torch.optim.AdamW) -> None:
        pass

    def put_back(self) -> None:
        pass


def test_only_rows_of_tokens_that_occur_are_moved_and_others_decay(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = params.encoder.model_copy(update={"epochs": 2, "batch_size": 8})
    config = open_clip_config(section)
    side, length = section.image_size, section.context_length
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (24, 3, side, side)).astype(np.uint8)
    tokens = torch.from_numpy(random.integers(1, 400, (24, length)))
    tokens[20:] += 1000  # of items that are not trained on
    pairs = Pairs(pixels, tokens, PreprocessCfg(**config["preprocess_cfg"]))
    trained = []
    for words in (contrastive.Words, EveryRow):
        monkeypatch.setattr(contrastive, "Words", words)
        torch.manual_seed(0)
        model = CLIP(**config["model_cfg"])
        before = model.token_embedding.weight.detach().clone()
        train(model, pairs, np.arange(20), section)
        trained.append(model.state_dict())
    found, expected = trained
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    left = found["token_embedding.weight"][1000:] / before[1000:]
    assert 0 < 1 - left.mean() < 1e-3
    assert left.std() < 1e-6


@pytest.mark.parametrize("pairs", [1, 7])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(params: Params, pairs: int) -> None:
    config = open_clip_config(params.encoder)
    torch.manual_seed(0)
    model = CLIP(**config["model_cfg"])
    side, length = params.encoder.image_size, params.encoder.context_length
    images = torch.randint(0, 256, (pairs, 3, side, side), dtype=torch.uint8)
    tokens = torch.randint(1, 400, (pairs, length))
    shown = Pairs(images.numpy(), tokens, PreprocessCfg(**config["preprocess_cfg"]))
    plain = open_clip.ClipLoss()(*model(shown.normalized(images), tokens))
    expected = torch.autograd.grad(plain, [*model.parameters()])
    with ThreadPoolExecutor(2) as threads:
        loss = InParts(model, shown, threads).backward(images, tokens)
    torch.testing.assert_close(loss, plain.detach(), rtol=0, atol=1e-5)
    found = [parameter.grad for parameter in model.parameters()]
    torch.testing.assert_close(found, list(expected), rtol=1e-3, atol=1e-6)


def test_the_time_that_training_takes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    contrastive.tell_expected(1234.0, 20)
    assert caplog.messages == ["an epoch takes about 1 min 2 s, 20 of them 20 min 34 s"]


def test_embedding_in_batches_is_embedding_one_by_one(params: Params) -> None:
    config = open_clip_config(params.encoder)
    torch.manual_seed(0)
    model = CLIP(**config["model_cfg"])
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 32, 32)).astype(np.uint8)
    tokens = torch.randint(1, 400, (9, params.encoder.context_length))
    pairs = Pairs(pixels, tokens, PreprocessCfg(mean=(0.5,) * 3, std=(0.25,) * 3))
    images, texts = embed(model, pairs, np.array([2, 3, 5, 7]), batch=3)
    for row, item in enumerate((2, 3, 5, 7)):
        plain = torch.from_numpy((pixels[item][None] / 255 - 0.5) / 0.25).float()
        with torch.no_grad():
            image = functional.normalize(model.encode_image(plain))[0]
            text = functional.normalize(model.encode_text(tokens[item][None]))[0]
        torch.testing.assert_close(images[row], image, rtol=0, atol=1e-5)
        torch.testing.assert_close(texts[row], text, rtol=0, atol=1e-5)


def test_shifted_moves_each_picture_within_bounds_and_repeats_its_edge() -> None:
    side, most = 32, 2
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, side, side)).astype(np.uint8)
    moved = shifted(pixels, np.random.default_rng(1))
    padded = np.pad(pixels, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    places = set()
    for one, result in zip(padded, moved, strict=True):
        matches = [
            (row, column)
            for row in range(2 * most + 1)
            for column in range(2 * most + 1)
            if (one[:, row : row + side, column : column + side] == result).all()
        ]
        assert len(matches) == 1
        places.add(matches[0])
    assert len(places) > 12  # of 25


def test_learning_rate_rises_then_falls_to_nearly_nothing() -> None:
    rates = [learning_rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] < 0.001
    assert [learning_rate(step, 1) for step in range(2)] == [1, 1]


def test_recall_counts_images_whose_text_is_near() -> None:
    texts = torch.eye(4)
    images = torch.tensor([[9.0, 1, 0, 0], [9, 8, 0, 0], [3, 2, 1, 0], [0, 0, 0, 1]])
    true = torch.arange(4)
    assert [recall(images, texts, true, k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_recall_of_a_collapsed_model_is_nothing() -> None:
    assert recall(torch.ones(5, 3), torch.ones(5, 3), torch.arange(5), 1) == 0
