from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctr.models.trained_on import item_digests, read_description, trained_file
from pipeline.common import paths
from pipeline.common.files import InputError, read_array, write_array, write_json
from pipeline.common.scratch import file_sha256

pytestmark = pytest.mark.usefixtures("world")

READ = (paths.ITEM, paths.TAGS, paths.NEIGHBORS)
FILES = paths.model_files("mine")


def described(model: str = "qin", **more: Any) -> dict[str, Any]:
    """What is written beside a trained model."""
    content = {"model": model, "config": {}, "train": {"history": 3}, "items": item_digests()}
    write_json(FILES.config, content | more)
    return content | more


def turn(path: Path) -> None:
    """The items of `path` in another order."""
    if path == paths.NEIGHBORS:
        with np.load(path) as file:
            np.savez(path, ids=file["ids"][::-1], cosine=file["cosine"])
    else:
        write_array(path, np.array(read_array(path))[::-1])


def test_the_digests_are_those_of_the_files_that_are_read_of_the_items() -> None:
    found = item_digests()
    assert found == {str(path): file_sha256(path) for path in READ}
    assert len(set(found.values())) == len(READ)
    assert item_digests() == found


def test_what_was_written_is_read_where_the_items_are_the_same() -> None:
    content = described()
    assert read_description(FILES) == content


@pytest.mark.parametrize("model", ["qin", "transformer_dcn", "lightgbm"])
@pytest.mark.parametrize("path", READ)
def test_other_items_are_refused_by_the_name_of_what_was_trained(model: str, path: Path) -> None:
    described(model)
    turn(path)
    name = "model.txt" if model == "lightgbm" else "model.safetensors"
    told = (
        f"models/mine/{name}: was trained on another {path} than is there now; "
        "type `dvc repro`, or train again first"
    )
    with pytest.raises(InputError, match=told):
        read_description(FILES)


def test_the_same_items_written_again_are_the_same() -> None:
    content = described()
    write_array(paths.TAGS, np.array(read_array(paths.TAGS)))
    assert read_description(FILES) == content


def test_more_files_than_those_of_the_items() -> None:
    """Trees are described with the numbers that they read."""
    digest = file_sha256(paths.ROW_FEATURES)
    content = described("lightgbm", items=item_digests() | {str(paths.ROW_FEATURES): digest})
    assert read_description(FILES) == content
    write_json(paths.ROW_FEATURES, {"names": []})
    with pytest.raises(InputError, match=f"model.txt: was trained on another {paths.ROW_FEATURES}"):
        read_description(FILES)


def test_a_description_without_digests_is_read_as_it_is() -> None:
    content = described()
    del content["items"]
    write_json(FILES.config, content)
    turn(paths.ITEM)
    assert read_description(FILES) == content


@pytest.mark.parametrize(
    ("model", "file"),
    [("qin", FILES.weights), ("transformer_dcn", FILES.weights), ("lightgbm", FILES.trees)],
)
def test_which_file_holds_a_model(model: str, file: Path) -> None:
    assert trained_file(FILES, model) == file
