"""open_clip's kinds of model, tiny and random, laid out on disk as published ones are."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from open_clip import CustomTextCLIP
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizer

from embed import image, text
from embed.covers.decode import decode
from embed.encoders.open_clip_models import load_open_clip
from pipeline.common.files import InputError, read_array, read_json
from pipeline.common.paths import IMAGE, TEXT, array_info
from pipeline.settings.params import Params
from tests.embed.conftest import COLORS, CPU, Catalogue

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *COLORS, "thing", "number"]
SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 6,
        "vocab_size": len(WORDS),
        "hf_tokenizer_name": "timm/a-tokenizer-that-is-not-fetched",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    },
}
PREPROCESS = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.5, 0.6, 0.7],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def save(folder: Path, config: dict[str, Any]) -> str:
    """The model's name for open_clip."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    content = json.loads(json.dumps(config))
    content.pop("custom_text", None)
    model = CustomTextCLIP(**content)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    described = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    return f"local-dir:{folder}"


def transformers_tower(folder: Path) -> dict[str, Any]:
    """A configuration whose text tower is a BERT of transformers."""
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder)
    return {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 16,
            "width": 32,
            "head_width": 16,
            "layers": 1,
        },
        "text_cfg": {
            "hf_model_name": str(folder),
            "hf_model_pretrained": False,
            "hf_tokenizer_name": str(folder),
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp",
            "context_length": 8,
        },
    }


def with_model(params: Params, model: str, **changes: Any) -> Params:
    update = {"model": model, "workers": 0, "local": str(Path.cwd()), **changes}
    sections = {name: getattr(params, name) for name in ("embed_text", "embed_image")}
    return params.model_copy(
        update={name: section.model_copy(update=update) for name, section in sections.items()}
    )


@pytest.mark.parametrize("kind", ["siglip", "transformers tower"])
def test_both_stages_give_the_models_own_vectors(
    kind: str, catalogue: Catalogue, params: Params, tmp_path: Path
) -> None:
    config = SIGLIP if kind == "siglip" else transformers_tower(tmp_path / "bert")
    name = save(tmp_path / "clip", config)
    text.main(with_model(params, name).embed_text)
    image.main(with_model(params, name).embed_image)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    assert isinstance(model.eval(), CustomTextCLIP)
    tokenize = open_clip.get_tokenizer(name)
    titles, covers = read_array(TEXT), read_array(IMAGE)
    with torch.no_grad():
        for item in (1, 2, 13, 40):
            expected = model.encode_text(tokenize([catalogue.titles[item]]))[0]
            np.testing.assert_allclose(titles[item], expected, rtol=0, atol=1e-4)
            pixels = preprocess(decode(catalogue.covers[item]))[None]
            expected = model.encode_image(pixels)[0]
            np.testing.assert_allclose(covers[item], expected, rtol=0, atol=1e-4)
    assert np.abs(titles[1] - titles[2]).max() > 1e-3
    assert np.abs(covers[1] - covers[2]).max() > 1e-3


@pytest.mark.usefixtures("catalogue")
def test_the_identity_covers_what_is_not_in_the_weights(params: Params, tmp_path: Path) -> None:
    name = save(tmp_path / "clip", SIGLIP)

    def identity() -> tuple[Any, Any]:
        section = with_model(params, name).embed_image
        found = load_open_clip("embed_image", section, CPU).image_encoder(section).provenance
        return found["weights_sha256"], found["config_sha256"]

    weights, config = identity()
    assert identity() == (weights, config)
    file = tmp_path / "clip/open_clip_config.json"
    file.write_text(file.read_text().replace("squash", "shortest"))
    assert identity()[0] == weights
    assert identity()[1] != config


def test_a_revision_from_the_hubs_cache(
    catalogue: Catalogue, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, from the cache as the hub's client lays it out: two commits of one model."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    snapshots = tmp_path / "cache/models--some--siglip/snapshots"
    old, new = "a" * 40, "b" * 40
    save(snapshots / old, SIGLIP)
    shutil.copytree(snapshots / old, snapshots / new)
    (snapshots / new / "open_clip_model.safetensors").unlink()
    settings = with_model(params, "hf-hub:some/siglip", revision=old)
    image.main(settings.embed_image)
    assert read_array(IMAGE).shape == (len(catalogue.titles), 64)
    assert read_json(array_info(IMAGE))["revision"] == old
    with pytest.raises(InputError, match=f"embed_image.revision '{new}'.* could not be loaded"):
        image.main(with_model(params, "hf-hub:some/siglip", revision=new).embed_image)
    with pytest.raises(InputError, match=r"embed_image.revision 'c+'.*open_clip cannot load it"):
        image.main(with_model(params, "hf-hub:some/siglip", revision="c" * 40).embed_image)
