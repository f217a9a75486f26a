"""Several encoders of one modality, each by what it has other than its section."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.common.files import InputError
from pipeline.common.paths import VLM, encoder_files
from pipeline.settings.params import Params, load_params

ROOT = Path(__file__).resolve().parents[3]
DINO = {"library": "timm", "model": "vit_small_patch14_dinov2", "pretrained": "", "pooling": "cls"}


def with_encoders(folder: Path, section: str, **encoders: Any) -> Params:
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    content[section] = encoders
    path = folder / "params.yaml"
    YAML().dump(content, path)
    return load_params(path)


def test_an_encoder_is_its_section_with_changes(tmp_path: Path) -> None:
    params = with_encoders(tmp_path, "image_encoders", main={}, dino=DINO)
    assert params.image_encoder("main") == params.embed_image
    dino, main = params.image_encoder("dino").model_dump(), params.embed_image.model_dump()
    assert {name: dino[name] for name in DINO} == DINO
    assert {name for name in dino if dino[name] != main[name]} == {"library", "model", "pooling"}
    assert params.arguments("embed_image", "dino") == (params.image_encoder("dino"), "dino")
    assert params.arguments("embed_text", "main") == (params.embed_text, "main")


def test_what_reads_content_reads_all_encoders(tmp_path: Path) -> None:
    params = with_encoders(tmp_path, "image_encoders", main={}, dino=DINO)
    for stage in ("align", "fuse"):
        section, files = params.arguments(stage)
        assert section == getattr(params, stage)
        assert files[:3] == [
            encoder_files("text", "main"),
            encoder_files("image", "main"),
            encoder_files("image", "dino"),
        ]
        assert [each.vectors for each in files[3:]] == [VLM]


def test_an_encoder_that_the_settings_do_not_hold(tmp_path: Path) -> None:
    params = with_encoders(tmp_path, "text_encoders", main={}, e5={"prompt": "query: "})
    with pytest.raises(InputError, match=r"--model dino: .* text_encoders holds main, e5"):
        params.arguments("embed_text", "dino")


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({}, r"_encoders: found no 'main', the encoder of .*; add it"),
        ({"main": {}, "A b": {}}, r"found the name 'A b'; expected lower-case letters"),
        ({"main": {}, "b": {"layers": 2}}, r"image_encoders\.b\.layers: unknown key; known here"),
        ({"main": {}, "b": {"pooling": "max"}}, r"image_encoders\.b\.pooling: .*, found 'max'"),
        ({"main": {}, "b": {"launch": "--num_processes 2"}}, r"b\.launch: .*embed_image\.launch"),
        ({"main": {}, "b": {"local": "w"}}, r"b\.local: DVC watches embed_image\.local for every"),
        (
            {"main": {}, "b": {"pooling": "cls"}},
            r"image_encoders\.b: embed_image\.pooling: an open_clip model pools by itself",
        ),
    ],
)
def test_faults_are_named(tmp_path: Path, encoders: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_encoders(tmp_path, "image_encoders", **encoders)


def test_an_encoder_that_needs_the_trained_one(tmp_path: Path) -> None:
    content = YAML(typ="safe").load(ROOT / "recipes/movielens.yaml")
    content["image_encoders"]["own"] = {
        "library": "open_clip",
        "model": "trained",
        "pretrained": "",
    }
    YAML().dump(content, tmp_path / "params.yaml")
    message = r"image_encoders\.own\.model is 'trained', so encoder\.train must be true"
    with pytest.raises(InputError, match=message):
        load_params(tmp_path / "params.yaml")
