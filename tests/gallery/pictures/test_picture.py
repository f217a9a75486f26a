import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gallery.pictures import picture
from gallery.pictures.picture import LEFT, QUERY, SIZE, TILE, examples
from pipeline.common import paths
from tests.support.worlds.report_world import report_params

pytestmark = pytest.mark.usefixtures("run")


def alpha(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "WEBP"
        assert image.size == SIZE == (1280, 520)
        return np.asarray(image.convert("RGBA"))[..., 3]


def test_map_and_neighbours_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "docs/overview.webp"
    picture.write(path, report_params().report)
    drawn = alpha(path) > 0
    tiles = drawn[:, :800].reshape(26, 20, 40, 20)[:, 5:15, :, 5:15].all(axis=(1, 3))
    assert tiles.sum() == 40  # every item has a cell
    sheet = examples(report_params().report)
    for number, entry in enumerate(sheet):
        top = number * 104
        assert drawn[top + 8 : top + 60, LEFT + 4 : LEFT + 70].all()
        places = [
            drawn[top + 40, LEFT + QUERY + 24 + place * (TILE + 8) + 36] for place in range(4)
        ]
        assert places == [place < len(entry.neighbors) for place in range(4)]
    first = path.read_bytes()
    picture.write(path, report_params().report)
    assert path.read_bytes() == first


@pytest.mark.parametrize(("name", "missing"), [("a.png", None), ("a.webp", paths.COVERS)])
def test_faults_are_told_in_one_line(
    name: str, missing: Path | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["picture", str(tmp_path / name)])
    if missing:
        missing.unlink()
    with pytest.raises(SystemExit, match=f"^error: .*{missing or name}"):
        picture.main()
    assert not (tmp_path / name).exists()
