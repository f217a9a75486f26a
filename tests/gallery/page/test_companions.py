import re
from pathlib import Path

import numpy as np
import pytest

from gallery.page.companions import Kept, load_companions
from pipeline.common import paths
from pipeline.common.files import InputError


def test_companions_by_hand() -> None:
    ids = np.array([[0, 0, 0, 0, 0], [4, 3, 2, 5, 1], [3, 0, 0, 0, 0]])
    kept = Kept(ids, np.array([[0.0] * 5, [5, 4, 3, 2, 1], [6, 0, 0, 0, 0]]))
    assert kept.of(1, np.array([0, 2, 4, 2, 7])) == [(4, 5.0), (2, 3.0)]
    assert kept.of(1, np.array([1, 2, 3, 5])) == [(3, 4.0), (2, 3.0), (5, 2.0)]
    assert kept.of(2, np.array([0, 0, 1, 2])) == []
    assert kept.of(0, np.array([0, 0, 1, 2])) == []


def test_companions_of_other_items_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths.COMPANIONS.parent.mkdir()
    kept = np.zeros((3, 2))
    np.savez(paths.COMPANIONS, ids=kept.astype(np.int32), information=kept.astype(np.float32))
    told = f"{paths.COMPANIONS}: has 3 rows, {paths.ITEM} has 41; run `dvc repro`"
    with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
        load_companions(41)
