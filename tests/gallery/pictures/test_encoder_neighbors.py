import numpy as np
import pytest

from gallery.pictures.encoder_neighbors import NEAREST, Strip, encoder_strips
from gallery.pictures.neighbor_sheet import shares_in_common
from pipeline.common import paths
from pipeline.common.files import InputError, read_array, write_array
from pipeline.common.paths import VectorFiles, encoder_files
from tests.support.worlds.report_world import UNTITLED
from tests.support.worlds.tiny_world import ITEMS, VECTOR_FILES

pytestmark = pytest.mark.usefixtures("run")

TITLES, COVERS, BOTH = VECTOR_FILES
SOME = [2, 9, 3]


def strips(encoders: list[VectorFiles], items: list[int] = SOME) -> dict[int, list[Strip]]:
    return encoder_strips(encoders, items, read_array(paths.TAGS))


def by_hand(vectors: np.ndarray, item: int) -> dict[int, float]:
    """The cosines of the nearest others, nearest first."""
    norms = np.linalg.norm(vectors, axis=1)
    cosine = {
        other: float(vectors[item] @ vectors[other] / norms[item] / norms[other])
        for other in range(1, len(vectors))
        if other != item and norms[other]
    }
    order = sorted(cosine, key=lambda other: -cosine[other])[:NEAREST]
    return {other: cosine[other] for other in order}


@pytest.mark.parametrize("files", [TITLES, COVERS], ids=["titles", "covers"])
def test_the_nearest_are_those_of_the_encoders_own_vectors(files: VectorFiles) -> None:
    vectors, tags = np.asarray(read_array(files.vectors), float), read_array(paths.TAGS)
    found = strips([files])
    assert list(found) == SOME
    for item, [strip] in found.items():
        expected = by_hand(vectors, item)
        assert [near.item for near in strip.neighbors] == list(expected)
        cosines = [near.cosine for near in strip.neighbors]
        assert cosines == pytest.approx(list(expected.values()), abs=1e-6)
        ids = np.zeros((ITEMS + 1, NEAREST), int)
        ids[item] = list(expected)
        shares = shares_in_common(ids, tags)[item]
        assert [near.in_common for near in strip.neighbors] == pytest.approx(shares.tolist())
        assert strip.in_common == pytest.approx(shares.mean())


def test_each_encoder_is_named_and_one_that_is_off_has_no_strip() -> None:
    for found in strips(VECTOR_FILES).values():
        assert [(strip.by, strip.encoder) for strip in found] == [
            ("title: main", "open_clip tiny"),
            ("cover: main", "timm tiny"),
        ]


def test_further_encoders_stand_beside_the_first() -> None:
    further = encoder_files("image", "dino")
    write_array(further.vectors, read_array(COVERS.vectors), encoder="timm dino")
    write_array(BOTH.vectors, read_array(COVERS.vectors), encoder="transformers vlm")
    for found in strips([COVERS, further, BOTH]).values():
        told = [(strip.by, strip.encoder) for strip in found[1:]]
        assert told == [("cover: dino", "timm dino"), ("title and cover", "transformers vlm")]
        assert found[0].neighbors == found[1].neighbors == found[2].neighbors


def test_an_item_without_a_vector_has_no_strip_and_is_in_none() -> None:
    everything = [*range(1, ITEMS + 1)]
    found = strips([TITLES], everything)
    assert [item for item in everything if not found[item]] == list(UNTITLED)
    near = {near.item for item in everything for strip in found[item] for near in strip.neighbors}
    assert near.isdisjoint(UNTITLED)
    assert len(near) > ITEMS / 2


@pytest.mark.parametrize("present", [0, 1, 3])
def test_where_few_items_have_vectors_few_are_near(present: int) -> None:
    vectors = np.zeros((ITEMS + 1, 5), np.float32)
    vectors[1 : present + 1] = read_array(COVERS.vectors)[1 : present + 1]
    write_array(COVERS.vectors, vectors, encoder="given")
    found = strips([COVERS], [1, 2, 3, 4])
    near = [len(strip.neighbors) for item in found for strip in found[item]]
    assert near == ([present - 1] * present if present > 1 else [])


def test_no_item_no_strip() -> None:
    assert strips([TITLES, COVERS], []) == {}


def test_vectors_of_other_items_are_refused() -> None:
    write_array(COVERS.vectors, read_array(COVERS.vectors)[:-1], encoder="given")
    with pytest.raises(InputError, match=rf"^{COVERS.vectors}: has {ITEMS} rows.*run `dvc repro`"):
        strips([TITLES, COVERS])
