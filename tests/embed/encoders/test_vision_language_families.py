"""Families behind transformers' common interface, each on a tiny model of its own class."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.smolvlm import processing_smolvlm

from embed.encoders.vision_language import Prompts, load_vision_language
from embed.extraction.batches import Batch
from embed.extraction.encoder import Encoder
from embed.extraction.extract import encoded
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, picture
from tests.embed.encoders.test_vision_language import COVERS, PROMPT, TITLES, section
from tests.support.worlds.tiny_vlm import LAYERS, WIDTH
from tests.support.worlds.tiny_vlm_families import FAMILIES, Checkpoint

PIXELS = {
    "qwen3_vl": (24 + 24 + 32, 3 * 2 * 16 * 16),
    "smolvlm": (6, 5, 3, 32, 32),
    "idefics3": (6, 5, 3, 32, 32),
    "internvl": (13 + 13 + 4, 3, 28, 28),
}
"""What COVERS become: patches; 5, 5 and 3 tiles, padded to 5 for each text; or tiles in a row."""
Loaded = tuple[Prompts, Encoder]


@pytest.fixture(scope="module", autouse=True)
def number_words() -> Iterator[None]:
    """SmolVLM's processor is not made without num2words, which it uses for videos alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing_smolvlm, "num2words", str)
        yield


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    folder = tmp_path_factory.mktemp(request.param)
    family = FAMILIES[request.param]
    return Checkpoint(request.param, family, family.save(folder))


@pytest.fixture(scope="module")
def expected(checkpoint: Checkpoint) -> list[tuple[Tensor, ...]]:
    """An item's hidden states (T, d): one conversation at a time, the whole model, no padding."""
    processor = checkpoint.processor()

    def conversation(title: str, cover: Image.Image | None) -> Any:
        text = {"type": "text", "text": f"Title: {title}!"}
        content = [{"type": "image", "image": cover}, text] if cover else [text]
        return processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )

    return hidden_states(checkpoint, conversation)


@torch.no_grad()
def hidden_states(
    checkpoint: Checkpoint, read: Callable[[str, Image.Image | None], Any]
) -> list[tuple[Tensor, ...]]:
    """Of TITLES and COVERS, each read alone."""
    whole = checkpoint.model()
    found = []
    for title, cover in zip(TITLES, COVERS, strict=True):
        inputs = read(title, cover)
        assert inputs["attention_mask"].all()
        states = whole(**inputs, output_hidden_states=True).hidden_states
        assert len(states) == LAYERS + 1
        found.append(tuple(state[0] for state in states))
    return found


def means(states: list[tuple[Tensor, ...]], layer: int = -2) -> np.ndarray:
    return np.stack([item[layer].mean(0).numpy() for item in states])


def encode(loaded: Loaded, titles: list[str], covers: list[Image.Image | None]) -> np.ndarray:
    """By the way that batches go in the stage."""
    prompts, encoder = loaded
    inputs = prompts(titles, covers)
    assert all(isinstance(value, np.ndarray) for value in inputs.values())
    batch = Batch(0, np.arange(len(titles), dtype=np.int32), inputs)
    ((_, found),) = encoded([batch], encoder)
    return found


def load(params: Params, folder: Path, **changes: object) -> Loaded:
    return load_vision_language(section(params, folder, **changes), CPU)


@pytest.fixture(scope="module")
def loaded(params: Params, checkpoint: Checkpoint) -> Loaded:
    return load(params, checkpoint.folder)


@pytest.fixture
def copied(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint.folder, tmp_path / "copied"))


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("layer", [-2, -1, 1])
def test_a_batch_equals_one_conversation_at_a_time(
    params: Params,
    checkpoint: Checkpoint,
    expected: list[tuple[Tensor, ...]],
    layer: int,
    pooling: str,
) -> None:
    settings = {"layer": layer, "pooling": pooling}
    found = encode(load(params, checkpoint.folder, **settings), TITLES, COVERS)
    last = np.stack([item[layer][-1].numpy() for item in expected])
    assert found.shape == (len(TITLES), WIDTH)
    np.testing.assert_allclose(
        found, means(expected, layer) if pooling == "mean" else last, rtol=0, atol=1e-3
    )
    assert min(np.abs(one - other).max() for one, other in combinations(found[:5], 2)) > 1e-3


def test_a_vector_does_not_depend_on_what_else_is_in_its_batch(
    loaded: Loaded, expected: list[tuple[Tensor, ...]]
) -> None:
    """Covers first and last, covers alone, none at all."""
    for items in ([5, 4, 3, 2, 1, 0], [2, 4, 5], [2, 0], [3, 1], [1], [4]):
        found = encode(loaded, [TITLES[i] for i in items], [COVERS[i] for i in items])
        np.testing.assert_allclose(found, means(expected)[items], 0, 1e-3, err_msg=f"{items}")


def test_a_cover_becomes_the_tiles_of_its_family(loaded: Loaded, checkpoint: Checkpoint) -> None:
    assert loaded[0](TITLES, COVERS)["pixel_values"].shape == PIXELS[checkpoint.name]


def test_a_title_cannot_end_its_turn_or_claim_a_cover(
    loaded: Loaded, checkpoint: Checkpoint
) -> None:
    prompts, _ = loaded
    for token in checkpoint.family.control.split():
        titles = [f"{token}fox{token}", " fox "]
        ids = prompts(titles, [None, None])["input_ids"]
        np.testing.assert_array_equal(ids[0], ids[1], err_msg=token)
        beside = prompts([titles[0], *titles], [picture(1), None, picture(2)])
        plain = prompts([" fox "] * 3, [picture(1), None, picture(2)])
        assert beside.keys() == plain.keys()
        for name, value in plain.items():
            np.testing.assert_array_equal(beside[name], value, err_msg=f"{token} {name}")


def test_padding_is_on_the_right_whatever_the_tokenizer_prefers(
    params: Params, checkpoint: Checkpoint
) -> None:
    prompts, _ = load(params, checkpoint.folder)
    for side in ("left", "right"):
        prompts.processor.tokenizer.padding_side = side
        mask = prompts(TITLES, COVERS)["attention_mask"]
        assert (np.diff(mask, axis=1) <= 0).all()
        assert 0 < mask.sum(1).min() < mask.sum(1).max() == mask.shape[1]


def test_a_model_without_a_chat_template(
    params: Params, checkpoint: Checkpoint, copied: Path
) -> None:
    (copied / "chat_template.jinja").unlink()
    processor = checkpoint.processor()

    def prompt(title: str, cover: Image.Image | None) -> Any:
        text = f"{processor.image_token if cover else ''}Title: {title}!"
        return processor(text=[text], images=[[cover]] if cover else None, return_tensors="pt")

    found = encode(load(params, copied), TITLES, COVERS)
    alone = means(hidden_states(checkpoint, prompt))
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-3)


def test_covers_are_scaled_down_to_the_bound(
    params: Params, checkpoint: Checkpoint, loaded: Loaded
) -> None:
    large = picture(1).resize((600, 480))
    covers = [large, None, large.resize((38, 30), Image.Resampling.BICUBIC)]
    found = encode(load(params, checkpoint.folder, max_pixels=1200), ["fox"] * 3, covers)
    higher = encode(loaded, ["fox"] * 3, covers)
    np.testing.assert_allclose(found[0], found[2], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[1:], higher[1:], rtol=0, atol=1e-3)
    assert np.abs(found[0] - higher[0]).max() > 1e-3


def test_a_language_head_is_not_needed(params: Params, loaded: Loaded, copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text()) | {"tie_word_embeddings": False}
    (copied / "config.json").write_text(json.dumps(config))
    weights = load_file(copied / "model.safetensors")
    weights.pop("lm_head.weight", None)
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    found = encode(load(params, copied), TITLES, COVERS)
    np.testing.assert_array_equal(found, encode(loaded, TITLES, COVERS))


def test_files_as_they_were_laid_out_before_transformers_5(
    params: Params, checkpoint: Checkpoint, expected: list[tuple[Tensor, ...]], copied: Path
) -> None:
    """Most published checkpoints have a file for each part of the processor."""
    own = json.loads((copied / "processor_config.json").read_text())
    parts = {
        "preprocessor_config.json": own.pop("image_processor"),
        "video_preprocessor_config.json": own.pop("video_processor", {}),
        "processor_config.json": own,
        "chat_template.json": {"chat_template": checkpoint.family.chat_template},
    }
    for name, content in parts.items():
        (copied / name).write_text(json.dumps(content))
    (copied / "chat_template.jinja").unlink()
    found = encode(load(params, copied), TITLES, COVERS)
    np.testing.assert_allclose(found, means(expected), rtol=0, atol=1e-3)


def refused(params: Params, folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=rf"^params.yaml: embed_vlm\.model is .*{message}"):
        load(params, folder)


@pytest.mark.parametrize(
    ("lacking", "name", "message"),
    [
        ("image_seq_len", "smolvlm", "a SmolVLMProcessor, .*features and image tokens do not"),
        ("image_seq_len", "idefics3", "a Idefics3Processor, .*features and image tokens do not"),
        ("image_seq_length", "internvl", "a InternVLProcessor, .*features and image tokens do not"),
        ("image_processor.patch_size", "qwen3_vl", "a Qwen3VLProcessor, .*shape .* is invalid for"),
        ("image_processor.size", "internvl", "a InternVLProcessor, .*features and image tokens do"),
        ("image_processor.max_image_size", "idefics3", "a Idefics3Processor, .*shape .* is inval"),
        ("image_processor", "qwen3_vl", "cannot load it .*image processor"),
    ],
)
def test_a_processor_without_its_own_settings(
    params: Params, tmp_path: Path, lacking: str, name: str, message: str
) -> None:
    """In their place transformers takes those of another model of the family."""
    leave_out(FAMILIES[name].save(tmp_path) / "processor_config.json", *lacking.split("."))
    refused(params, tmp_path, message)


@pytest.mark.parametrize(
    ("lacking", "name", "message"),
    [
        ("pad_token", "smolvlm", "a SmolVLMProcessor, .*does not have a padding token"),
        ("pad_token", "idefics3", "a Idefics3Processor, .*does not have a padding token"),
        ("context_image_token", "internvl", "cannot load it .*no attribute context_image_token"),
    ],
)
def test_a_tokenizer_without_a_token_that_its_family_needs(
    params: Params, tmp_path: Path, lacking: str, name: str, message: str
) -> None:
    leave_out(FAMILIES[name].save(tmp_path) / "tokenizer_config.json", lacking)
    refused(params, tmp_path, message)


def leave_out(file: Path, *place: str) -> None:
    """Remove what lies at `place`, key by key, of a JSON file."""
    whole = json.loads(file.read_text())
    within = whole
    for key in place[:-1]:
        within = within[key]
    del within[place[-1]]
    file.write_text(json.dumps(whole))


def test_a_chat_template_that_leaves_covers_out(params: Params, copied: Path) -> None:
    template = "{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}"
    (copied / "chat_template.jinja").write_text(template)
    refused(params, copied, r"cannot read a title and a cover .*number of \S+ tokens in")


def test_a_prompt_that_places_a_cover_itself(params: Params, checkpoint: Checkpoint) -> None:
    place = checkpoint.family.control.split()[0]
    with pytest.raises(InputError, match=r"leave the cover's place out of embed_vlm\.prompt"):
        load(params, checkpoint.folder, prompt=place + PROMPT)


def test_smolvlm_without_num2words(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FAMILIES["smolvlm"].save(tmp_path)
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    refused(params, folder, r"cannot load it .*`num2words`.* `pip install num2words`")
