"""Vectors that came with the source: checked, and used in place of an encoder's."""

from pathlib import Path

import numpy as np

from pipeline.common.files import InputError, read_array


def given_vectors(
    path: Path, setting: str, remedy: str = "name an encoder instead"
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors at `path`, float32 (N + 1, d), and which rows are present, bool (N + 1,).

    A row of zeros counts as absent; row 0 is padding. `setting` of params.yaml, which asked for
    them, is named in errors, and `remedy` where there are none. Raises InputError if the source has
    none or one is not finite.
    """
    vectors = np.array(read_array(path), dtype=np.float32)
    if vectors.shape[1] == 0:
        raise InputError(
            f"params.yaml: {setting} asks for the source's own vectors, but the source has none "
            f"({path} has no columns); {remedy}"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(
            f"{path}: row {bad[0]} (dense item id) and {len(bad) - 1} others hold NaN or infinity; "
            f"correct the source's vectors, or do not ask for them ({setting})"
        )
    vectors[0] = 0
    return vectors, np.any(vectors != 0, axis=1)
